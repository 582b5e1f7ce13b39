#include "hyena/data/tokenizer.h"

#include <algorithm>
#include <utility>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/data/gpt2_tokenizer.h"

namespace hyena::data {

std::vector<std::uint32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::uint32_t> all;
  encode_to(text, [&](std::span<const std::uint32_t> ids, std::int64_t) {
    all.insert(all.end(), ids.begin(), ids.end());
  });
  return all;
}

void ByteTokenizer::encode_to(std::string_view text, const TokenSink& sink) const {
  constexpr std::size_t kBatch = std::size_t{16} * 1024;
  std::vector<std::uint32_t> ids;
  for (std::size_t begin = 0; begin < text.size(); begin += ids.size()) {
    const std::string_view part = text.substr(begin, kBatch);
    ids.resize(part.size());
    std::transform(part.begin(), part.end(), ids.begin(),
                   [](char byte) { return std::uint32_t{static_cast<unsigned char>(byte)}; });
    sink(ids, static_cast<std::int64_t>(begin + ids.size()));
  }
}

std::string ByteTokenizer::decode(std::span<const std::uint32_t> ids) const {
  std::string bytes;
  for (const std::uint32_t id : ids) {
    if (id > *end_of_text()) {
      throw user_error("token id {} is outside the vocabulary of {}", id, vocab_size());
    }
    if (id != *end_of_text()) {
      bytes += static_cast<char>(static_cast<unsigned char>(id));
    }
  }
  return bytes;
}

void ByteTokenizer::save(const std::filesystem::path& /*folder*/) const {}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& spec) {
  if (spec == "byte") {
    return std::make_unique<ByteTokenizer>();
  }
  const std::filesystem::path folder = spec;
  for (const char* file : {"vocab.json", "merges.txt"}) {
    if (!std::filesystem::exists(folder / file)) {
      throw user_error(
          "tokenizer '{}': expected 'byte' or a folder with vocab.json and merges.txt, "
          "but {} does not exist",
          one_line(spec), (folder / file).string());
    }
  }
  return std::make_unique<Gpt2Tokenizer>(folder);
}

namespace {

/// Bytes of the unfinished character at the end of `text`, which could still become valid UTF-8.
std::size_t unfinished_tail(std::string_view text) {
  for (std::size_t size = 1; size <= std::min<std::size_t>(3, text.size()); ++size) {
    const std::string_view tail = text.substr(text.size() - size);
    // Completed by the right number of the lowest or the highest continuation bytes it is valid, or
    // no continuation makes it so.
    for (const char filler : {'\x80', '\xBF'}) {
      std::string completed(tail);
      while (completed.size() < 4) {
        completed += filler;
        if (is_utf8(completed)) {
          return size;
        }
      }
    }
  }
  return 0;
}

}  // namespace

std::string Utf8Streamer::push(std::string_view bytes) {
  held_ += bytes;
  std::string complete = held_.substr(0, held_.size() - unfinished_tail(held_));
  held_.erase(0, complete.size());
  return complete;
}

std::string Utf8Streamer::finish() {
  return std::exchange(held_, {});
}

}  // namespace hyena::data
