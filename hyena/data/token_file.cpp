#include "hyena/data/token_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>
#include <type_traits>

#include "hyena/base/error.h"

namespace hyena::data {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are mapped as they lie");

constexpr std::string_view kMagic = "HYTOKENS";
constexpr std::uint32_t kVersion = 1;

struct Header {
  std::array<char, 8> magic;
  std::uint32_t version;
  std::uint32_t token_bytes;
  std::uint64_t tokens;
  std::uint64_t vocab_size;
  std::uint64_t documents;
  std::uint64_t text_bytes;
  std::uint32_t name_size;
  std::uint32_t fingerprint_size;
};
static_assert(sizeof(Header) == 56 && std::is_trivially_copyable_v<Header>);

struct DocumentRow {
  std::uint64_t end;
  std::uint64_t bytes;
};

template <typename T>
std::string_view bytes_of(const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

constexpr std::uint64_t rounded_up(std::uint64_t size, std::uint64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

std::uint64_t tokens_offset(const Header& header) {
  return rounded_up(sizeof(Header) + std::uint64_t{header.name_size} + header.fingerprint_size, 64);
}

}  // namespace

TokenFileWriter::TokenFileWriter(const std::filesystem::path& path, const Tokenizer& tokenizer)
    : file_(path), vocab_size_(tokenizer.vocab_size()), token_bytes_(vocab_size_ <= 65536 ? 2 : 4) {
  const std::string name = tokenizer.name();
  const std::string fingerprint = tokenizer.fingerprint();
  Header header{};
  header.version = kVersion;
  header.token_bytes = static_cast<std::uint32_t>(token_bytes_);
  header.vocab_size = static_cast<std::uint64_t>(vocab_size_);
  header.name_size = static_cast<std::uint32_t>(name.size());
  header.fingerprint_size = static_cast<std::uint32_t>(fingerprint.size());
  std::memcpy(header.magic.data(), kMagic.data(), kMagic.size());
  std::string start(bytes_of(header));
  start += name;
  start += fingerprint;
  start.resize(tokens_offset(header), '\0');
  file_.writer().write(start);
}

void TokenFileWriter::append(std::span<const std::uint32_t> ids) {
  packed_.clear();
  for (const std::uint32_t id : ids) {
    if (id >= vocab_size_) {
      throw user_error("token id {} is outside the vocabulary of {}", id, vocab_size_);
    }
    packed_.append(bytes_of(id).substr(0, static_cast<std::size_t>(token_bytes_)));
  }
  file_.writer().write(packed_);
  count_ += std::ssize(ids);
}

void TokenFileWriter::end_document(std::int64_t bytes) {
  const DocumentRow row{static_cast<std::uint64_t>(count_), static_cast<std::uint64_t>(bytes)};
  documents_ += bytes_of(row);
  ++num_documents_;
  text_bytes_ += bytes;
}

void TokenFileWriter::commit() {
  const auto written = static_cast<std::uint64_t>(file_.writer().size());
  file_.writer().write(std::string(rounded_up(written, 8) - written, '\0'));
  file_.writer().write(documents_);
  const auto patch = [&](std::size_t offset, std::int64_t value) {
    file_.writer().write_at(static_cast<std::int64_t>(offset), bytes_of(value));
  };
  patch(offsetof(Header, tokens), count_);
  patch(offsetof(Header, documents), num_documents_);
  patch(offsetof(Header, text_bytes), text_bytes_);
  file_.commit();
}

TokenFile::TokenFile(const std::filesystem::path& path) : file_(path) {
  const std::string_view bytes = file_.text();
  Header header{};
  if (bytes.size() < sizeof header || !bytes.starts_with(kMagic)) {
    throw user_error("{} is not a token file (hyena tokenize makes one)", path.string());
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.version != kVersion) {
    throw user_error("{}: token file version {}: expected {}", path.string(), header.version,
                     kVersion);
  }
  // Counts are bounded by the file's size before they are multiplied, so nothing overflows.
  const std::uint64_t size = bytes.size();
  const std::uint64_t offset = tokens_offset(header);
  const bool is_plausible = (header.token_bytes == 2 || header.token_bytes == 4) &&
                            header.vocab_size <= UINT32_MAX && header.tokens <= size &&
                            header.documents <= size && header.text_bytes <= INT64_MAX;
  const std::uint64_t table = rounded_up(offset + header.tokens * header.token_bytes, 8);
  if (!is_plausible || table + header.documents * sizeof(DocumentRow) != size) {
    throw user_error("{}: damaged or cut short: its header does not fit its {} bytes",
                     path.string(), size);
  }
  token_bytes_ = header.token_bytes;
  count_ = static_cast<std::int64_t>(header.tokens);
  vocab_size_ = static_cast<std::int64_t>(header.vocab_size);
  text_bytes_ = static_cast<std::int64_t>(header.text_bytes);
  tokens_offset_ = offset;
  name_ = bytes.substr(sizeof header, header.name_size);
  fingerprint_ = bytes.substr(sizeof header + header.name_size, header.fingerprint_size);
  std::uint64_t begin = 0;
  std::uint64_t text_bytes = 0;
  for (std::uint64_t i = 0; i < header.documents; ++i) {
    DocumentRow row{};
    std::memcpy(&row, bytes.data() + table + i * sizeof row, sizeof row);
    if (row.end < begin || row.end > header.tokens || row.bytes > header.text_bytes - text_bytes) {
      throw user_error("{}: damaged: document {} does not fit", path.string(), i);
    }
    documents_.push_back({.begin = static_cast<std::int64_t>(begin),
                          .end = static_cast<std::int64_t>(row.end),
                          .bytes = static_cast<std::int64_t>(row.bytes)});
    begin = row.end;
    text_bytes += row.bytes;
  }
  if (begin != header.tokens || text_bytes != header.text_bytes) {
    throw user_error("{}: damaged: its documents do not add up", path.string());
  }
}

void TokenFile::copy(std::int64_t begin, std::span<std::int64_t> out) const {
  const std::byte* source =
      file_.bytes().data() + tokens_offset_ + static_cast<std::size_t>(begin * token_bytes_);
  const auto widen = [&]<typename Stored>(Stored /*type*/) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      Stored stored{};
      std::memcpy(&stored, source + i * sizeof stored, sizeof stored);
      out[i] = stored;
    }
  };
  if (token_bytes_ == 2) {
    widen(std::uint16_t{});
  } else {
    widen(std::uint32_t{});
  }
  const auto bad =
      std::find_if(out.begin(), out.end(), [&](std::int64_t id) { return id >= vocab_size_; });
  if (bad != out.end()) {
    throw user_error("{}: damaged: token {} is {}, outside the vocabulary of {}",
                     file_.path().string(), begin + (bad - out.begin()), *bad, vocab_size_);
  }
}

void tokenize_files(const Tokenizer& tokenizer, std::span<const std::filesystem::path> texts,
                    const std::filesystem::path& out, EndOfText end_of_text,
                    const Progress& progress) {
  const std::optional<std::uint32_t> last = tokenizer.end_of_text();
  if (end_of_text == EndOfText::kAfterEveryDocument && !last) {
    throw user_error("the tokenizer {} has no end-of-text token to put after documents",
                     tokenizer.name());
  }
  std::vector<io::MappedFile> files;
  std::int64_t total = 0;
  for (const std::filesystem::path& text : texts) {
    files.emplace_back(text, io::MappedFile::Empty::kRefused);
    total += std::ssize(files.back().bytes());
  }
  TokenFileWriter writer(out, tokenizer);
  std::int64_t done = 0;
  for (const io::MappedFile& file : files) {
    tokenizer.encode_to(file.text(), [&](std::span<const std::uint32_t> ids, std::int64_t bytes) {
      writer.append(ids);
      if (progress) {
        progress(done + bytes, total);
      }
    });
    if (end_of_text == EndOfText::kAfterEveryDocument) {
      writer.append(std::span(&*last, 1));
    }
    writer.end_document(std::ssize(file.bytes()));
    done += std::ssize(file.bytes());
  }
  writer.commit();
}

}  // namespace hyena::data
