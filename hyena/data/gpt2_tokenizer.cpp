#include "hyena/data/gpt2_tokenizer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "hyena/base/error.h"
#include "hyena/data/gpt2_pieces.h"
#include "hyena/data/hash.h"
#include "hyena/io/atomic_file.h"
#include "hyena/io/json_guard.h"
#include "hyena/io/mapped_file.h"

namespace hyena::data {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";
using IdOfBytes = std::unordered_map<std::string, std::uint32_t>;

/// The files spell bytes as printable characters: 33-126, 161-172 and 174-255 stand for themselves,
/// the other 68, in order, are U+0100, U+0101, ... This is the inverse, by code point.
std::array<int, 0x144> make_byte_of_char() {
  std::array<int, 0x144> bytes{};
  bytes.fill(-1);
  std::size_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool is_itself =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    bytes.at(is_itself ? static_cast<std::size_t>(byte) : next++) = byte;
  }
  return bytes;
}

/// The bytes that a spelling stands for; a spelling with other characters (an added special token)
/// stands for its own UTF-8.
std::string unspelled(std::string_view spelling) {
  static const std::array<int, 0x144> kByteOfChar = make_byte_of_char();
  std::string bytes;
  for (std::size_t i = 0; i < spelling.size(); ++i) {
    std::size_t code = static_cast<unsigned char>(spelling[i]);
    if (code >= 0xC2 && code < 0xE0 && i + 1 < spelling.size()) {  // two bytes reach U+07FF
      code = (code & 0x1FU) << 6U | (static_cast<unsigned char>(spelling[++i]) & 0x3FU);
    }
    const int byte = code < kByteOfChar.size() ? kByteOfChar.at(code) : -1;
    if (byte < 0) {
      return std::string(spelling);
    }
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

/// Spelling -> id, checked to be 0..n-1.
std::vector<std::string> read_vocabulary(std::string_view json, const std::string& path) {
  const auto vocabulary = io::parse_guarded<nlohmann::json>(json, path);
  if (!vocabulary.is_object() || vocabulary.empty()) {
    throw user_error("{}: expected an object of token: id", path);
  }
  std::vector<std::string> tokens(vocabulary.size());
  std::vector<bool> is_taken(tokens.size(), false);
  for (const auto& [spelling, id] : vocabulary.items()) {
    const bool is_valid = id.is_number_unsigned() && id.get<std::uint64_t>() < tokens.size();
    if (!is_valid || is_taken[id.get<std::size_t>()]) {
      throw user_error("{}: token '{}' has id {}: expected every id from 0 to {} once", path,
                       one_line(spelling, 100), one_line(id.dump(), 100), tokens.size() - 1);
    }
    is_taken[id.get<std::size_t>()] = true;
    tokens[id.get<std::size_t>()] = unspelled(spelling);
  }
  return tokens;
}

/// Reads merges.txt line by line; keeps what the order of merging relies on.
class MergesReader {
 public:
  MergesReader(const IdOfBytes& ids, std::size_t vocab_size, std::string path)
      : ids_(ids), path_(std::move(path)), made_at_(vocab_size, kNever) {
    for (int byte = 0; byte < 256; ++byte) {
      made_at_[ids.at(std::string(1, static_cast<char>(byte)))] = 0;
    }
  }

  std::vector<Merge> read(std::string_view text) {
    std::size_t number = 0;
    while (!text.empty()) {
      const std::size_t size = std::min(text.find('\n'), text.size());
      std::string_view line = text.substr(0, size);
      text.remove_prefix(std::min(size + 1, text.size()));
      ++number;
      if (line.ends_with('\r')) {
        line.remove_suffix(1);
      }
      if (!line.empty() && !(number == 1 && line.starts_with("#version"))) {
        add(line, number);
      }
    }
    return std::move(merges_);
  }

 private:
  static constexpr std::size_t kNever = SIZE_MAX;

  void add(std::string_view line, std::size_t number) {
    const std::size_t space = line.find(' ');
    if (space == 0 || space >= line.size() - 1 || line.find(' ', space + 1) != std::string::npos) {
      throw user_error("{}:{}: expected 'left right', got '{}'", path_, number,
                       one_line(line, 100));
    }
    const std::string left = unspelled(line.substr(0, space));
    const std::string right = unspelled(line.substr(space + 1));
    const Merge merge{id_of(left, number), id_of(right, number), id_of(left + right, number)};
    if (made_at_[merge.left] == kNever || made_at_[merge.right] == kNever) {
      throw user_error("{}:{}: '{}' merges a token that no line above makes", path_, number,
                       one_line(line, 100));
    }
    if (made_at_[merge.result] != kNever) {
      throw user_error("{}:{}: '{}' makes a token that line {} made already", path_, number,
                       one_line(line, 100), made_at_[merge.result]);
    }
    made_at_[merge.result] = number;
    merges_.push_back(merge);
  }

  std::uint32_t id_of(const std::string& bytes, std::size_t number) const {
    const auto found = ids_.find(bytes);
    if (found == ids_.end()) {
      throw user_error("{}:{}: '{}' is not in vocab.json", path_, number, one_line(bytes, 100));
    }
    return found->second;
  }

  const IdOfBytes& ids_;
  std::string path_;
  std::vector<std::size_t> made_at_;  // line that makes a token; 0: a byte
  std::vector<Merge> merges_;
};

std::string fingerprint_of(std::span<const std::string> tokens, std::span<const Merge> merges) {
  std::uint64_t hash = fnv1a("gpt2");
  for (const std::string& token : tokens) {
    hash = fnv1a(token, fnv1a(std::to_string(token.size()) + ":", hash));
  }
  for (const Merge& merge : merges) {
    hash = fnv1a(fmt::format("{} {};", merge.left, merge.right), hash);
  }
  return fmt::format("gpt2-{}-{:016x}", tokens.size(), hash);
}

}  // namespace

/// Direct-mapped: a new piece overwrites the one that had its slot. One cache line per piece.
class Gpt2Tokenizer::PieceCache {
 public:
  static constexpr std::size_t kMaxBytes = 24;
  static constexpr std::size_t kMaxTokens = 8;

  struct alignas(64) Slot {
    std::array<char, kMaxBytes> bytes{};  // zeros behind the piece
    std::array<std::uint32_t, kMaxTokens> tokens{};
    std::uint8_t num_bytes = 0;  // 0: free
    std::uint8_t num_tokens = 0;
  };

  static bool fits(std::string_view piece) { return piece.size() <= kMaxBytes; }

  /// The slot of a piece that fits, whoever sits there.
  Slot& slot(std::string_view piece) {
    std::array<std::uint64_t, kMaxBytes / 8> words{};
    std::memcpy(words.data(), piece.data(), piece.size());
    const std::uint64_t mixed =
        mix64(words[0] + 0x9e3779b97f4a7c15U * (words[1] + mix64(words[2] + piece.size())));
    return slots_[mixed % kSlots];
  }

  static bool holds(const Slot& slot, std::string_view piece) {
    return slot.num_bytes == piece.size() &&
           std::memcmp(slot.bytes.data(), piece.data(), piece.size()) == 0;
  }

  static void store(Slot& slot, std::string_view piece, std::span<const std::uint32_t> tokens) {
    if (tokens.size() <= kMaxTokens) {
      std::copy(piece.begin(), piece.end(), slot.bytes.begin());
      std::copy(tokens.begin(), tokens.end(), slot.tokens.begin());
      slot.num_bytes = static_cast<std::uint8_t>(piece.size());
      slot.num_tokens = static_cast<std::uint8_t>(tokens.size());
    }
  }

 private:
  static constexpr std::size_t kSlots = std::size_t{1} << 15U;  // 2 MiB
  std::vector<Slot> slots_ = std::vector<Slot>(kSlots);
};

Gpt2Tokenizer::Gpt2Tokenizer(const std::filesystem::path& folder)
    : vocab_json_(io::MappedFile(folder / "vocab.json").text()),
      merges_txt_(io::MappedFile(folder / "merges.txt").text()),
      cache_(std::make_unique<PieceCache>()) {
  const std::string vocab_path = (folder / "vocab.json").string();
  token_bytes_ = read_vocabulary(vocab_json_, vocab_path);
  IdOfBytes ids;
  for (std::size_t id = 0; id < token_bytes_.size(); ++id) {
    ids.emplace(token_bytes_[id], static_cast<std::uint32_t>(id));
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(std::string(1, static_cast<char>(byte)));
    if (found == ids.end()) {
      throw user_error("{}: no token for byte {}", vocab_path, byte);
    }
    byte_tokens_.push_back(found->second);
  }
  if (const auto found = ids.find(std::string(kEndOfText)); found != ids.end()) {
    end_of_text_ = found->second;
  }
  const std::vector<Merge> merges =
      MergesReader(ids, token_bytes_.size(), (folder / "merges.txt").string()).read(merges_txt_);
  merges_ = std::make_unique<BytePairMerges>(merges);
  fingerprint_ = fingerprint_of(token_bytes_, merges);
}

Gpt2Tokenizer::~Gpt2Tokenizer() = default;

std::int64_t Gpt2Tokenizer::vocab_size() const {
  return std::ssize(token_bytes_);
}

void Gpt2Tokenizer::encode_to(std::string_view text, const TokenSink& sink) const {
  constexpr std::size_t kBatch = std::size_t{16} * 1024;
  const std::unique_lock<std::mutex> lock(cache_mutex_, std::try_to_lock);
  BytePairMerges::Scratch scratch;
  std::vector<std::uint32_t> piece_ids;
  const auto merge = [&](std::string_view piece) {
    if (piece.size() > INT32_MAX) {
      throw user_error("a run of {} bytes without a word boundary is too long to tokenise",
                       piece.size());
    }
    piece_ids.clear();
    for (const char byte : piece) {
      piece_ids.push_back(byte_tokens_[static_cast<unsigned char>(byte)]);
    }
    merges_->apply(piece_ids, scratch);
  };
  std::vector<std::uint32_t> batch;
  batch.reserve(std::min(kBatch, text.size()));
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = piece_end(text, begin);
    const std::string_view piece = text.substr(begin, end - begin);
    if (lock.owns_lock() && PieceCache::fits(piece)) {
      PieceCache::Slot& slot = cache_->slot(piece);
      if (PieceCache::holds(slot, piece)) {
        batch.insert(batch.end(), slot.tokens.begin(), slot.tokens.begin() + slot.num_tokens);
      } else {
        merge(piece);
        PieceCache::store(slot, piece, piece_ids);
        batch.insert(batch.end(), piece_ids.begin(), piece_ids.end());
      }
    } else {
      merge(piece);
      batch.insert(batch.end(), piece_ids.begin(), piece_ids.end());
    }
    begin = end;
    if (batch.size() >= kBatch || begin == text.size()) {
      sink(batch, static_cast<std::int64_t>(begin));
      batch.clear();
    }
  }
}

std::string Gpt2Tokenizer::decode(std::span<const std::uint32_t> ids) const {
  std::string bytes;
  for (const std::uint32_t id : ids) {
    if (id >= token_bytes_.size()) {
      throw user_error("token id {} is outside the vocabulary of {}", id, token_bytes_.size());
    }
    bytes += token_bytes_[id];
  }
  return bytes;
}

void Gpt2Tokenizer::save(const std::filesystem::path& folder) const {
  io::write_file_atomically(folder / "vocab.json", vocab_json_);
  io::write_file_atomically(folder / "merges.txt", merges_txt_);
}

}  // namespace hyena::data
