#include "hyena/data/corpus.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <glob.h>

#include "hyena/base/error.h"
#include "hyena/data/hash.h"
#include "hyena/io/mapped_file.h"

namespace hyena::data {
namespace {

namespace fs = std::filesystem;

/// A text under the byte tokenizer: its bytes are its tokens, and end-of-text is imagined.
class ByteSource final : public TokenSource {
 public:
  ByteSource(io::MappedFile file, std::optional<std::uint32_t> end_of_text)
      : file_(std::move(file)), end_of_text_(end_of_text) {}

  [[nodiscard]] std::int64_t size() const override {
    return std::ssize(file_.bytes()) + (end_of_text_ ? 1 : 0);
  }

  void copy(std::int64_t begin, std::span<std::int64_t> out) const override {
    const std::int64_t text_size = std::ssize(file_.bytes());
    const std::int64_t from_text =
        std::min(std::ssize(out), std::max<std::int64_t>(text_size - begin, 0));
    const std::byte* source = file_.bytes().data() + begin;
    for (std::int64_t i = 0; i < from_text; ++i) {
      out[static_cast<std::size_t>(i)] = std::to_integer<std::int64_t>(source[i]);
    }
    if (from_text < std::ssize(out)) {
      out.back() = *end_of_text_;
    }
  }

 private:
  io::MappedFile file_;
  std::optional<std::uint32_t> end_of_text_;
};

class TokenFileSource final : public TokenSource {
 public:
  explicit TokenFileSource(TokenFile file) : file_(std::move(file)) {}
  [[nodiscard]] std::int64_t size() const override { return file_.size(); }
  void copy(std::int64_t begin, std::span<std::int64_t> out) const override {
    file_.copy(begin, out);
  }
  [[nodiscard]] const TokenFile& file() const { return file_; }

 private:
  TokenFile file_;
};

/// The files that a pattern means: itself, if there is such a file, or the matches of a glob.
std::vector<std::string> matches(const std::string& pattern) {
  std::error_code unreadable;  // MappedFile says why
  if (pattern.empty()) {
    throw user_error("expected the name of a file, got an empty one");
  }
  if (fs::exists(pattern, unreadable) || pattern.find_first_of("*?[") == std::string::npos) {
    return {pattern};
  }
  glob_t found{};
  // NOLINTNEXTLINE(concurrency-mt-unsafe): without GLOB_TILDE it reads no shared state
  const int status = ::glob(pattern.c_str(), 0, nullptr, &found);
  std::vector<std::string> names(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (status != 0 || names.empty()) {
    throw user_error("no file matches {}", pattern);
  }
  return names;
}

/// The cached token file of a text: changes with anything that changes the tokens.
fs::path cache_path(const std::string& text, const Tokenizer& tokenizer,
                    const CorpusOptions& options) {
  const fs::path full = fs::weakly_canonical(text);
  const std::string key =
      fmt::format("{}\n{}\n{}\n{}\n{}", full.string(), fs::file_size(full),
                  fs::last_write_time(full).time_since_epoch().count(), tokenizer.fingerprint(),
                  options.end_of_text == EndOfText::kAfterEveryDocument ? "end of text" : "bare");
  return options.cache_folder / fmt::format("{}-{:016x}.tokens", full.stem().string(), fnv1a(key));
}

TokenFile tokenized(const std::string& text, const Tokenizer& tokenizer,
                    const CorpusOptions& options) {
  const io::MappedFile readable(text, io::MappedFile::Empty::kRefused);
  const fs::path cached = cache_path(text, tokenizer, options);
  if (!fs::exists(cached)) {
    io::make_directories(options.cache_folder);
    const fs::path source = text;
    tokenize_files(tokenizer, std::span(&source, 1), cached, options.end_of_text,
                   [&](std::int64_t done, std::int64_t total) {
                     if (options.progress) {
                       options.progress(text, done, total);
                     }
                   });
  }
  return TokenFile(cached);
}

void add_token_file(Corpus& corpus, const std::string& name, TokenFile file,
                    const Tokenizer& tokenizer) {
  if (file.fingerprint() != tokenizer.fingerprint()) {
    throw user_error("{} was made with the tokenizer {} ({}), but the model's is {} ({})", name,
                     one_line(file.tokenizer_name(), 100), one_line(file.fingerprint(), 100),
                     tokenizer.name(), tokenizer.fingerprint());
  }
  if (file.size() == 0) {
    throw user_error("{} holds no tokens", name);
  }
  const std::vector<DocumentSpan> documents = file.documents();
  corpus.add(name, std::make_unique<TokenFileSource>(std::move(file)), documents);
}

void add_bytes(Corpus& corpus, const std::string& name, const Tokenizer& tokenizer,
               EndOfText end_of_text) {
  io::MappedFile file(name, io::MappedFile::Empty::kRefused);
  const std::int64_t bytes = std::ssize(file.bytes());
  auto source = std::make_unique<ByteSource>(
      std::move(file),
      end_of_text == EndOfText::kAfterEveryDocument ? tokenizer.end_of_text() : std::nullopt);
  const DocumentSpan document{.begin = 0, .end = source->size(), .bytes = bytes};
  corpus.add(name, std::move(source), std::span(&document, 1));
}

}  // namespace

std::vector<std::string> expand_globs(std::span<const std::string> patterns) {
  std::vector<std::string> files;
  std::set<std::string> seen;
  for (const std::string& pattern : patterns) {
    for (const std::string& file : matches(pattern)) {
      std::error_code unreadable;
      if (fs::is_directory(file, unreadable)) {
        throw user_error("{} is a folder: name files or a glob such as {}", file,
                         (fs::path(file) / "*.txt").string());
      }
      const fs::path whole = fs::weakly_canonical(file, unreadable);
      if (seen.insert(unreadable ? file : whole.string()).second) {
        files.push_back(file);
      }
    }
  }
  if (files.empty()) {
    throw user_error("no text is named");
  }
  return files;
}

void Corpus::add(std::string name, std::unique_ptr<TokenSource> source,
                 std::span<const DocumentSpan> documents) {
  File file{.name = std::move(name), .begin = num_tokens_, .end = num_tokens_ + source->size()};
  for (const DocumentSpan& document : documents) {
    documents_.push_back({.begin = num_tokens_ + document.begin,
                          .end = num_tokens_ + document.end,
                          .bytes = document.bytes});
    file.bytes += document.bytes;
  }
  num_tokens_ = file.end;
  num_bytes_ += file.bytes;
  files_.push_back(std::move(file));
  sources_.push_back(std::move(source));
}

void Corpus::copy(std::int64_t begin, std::span<std::int64_t> out) const {
  auto file = std::upper_bound(files_.begin(), files_.end(), begin,
                               [](std::int64_t at, const File& f) { return at < f.end; });
  while (!out.empty()) {
    const std::int64_t count = std::min(std::ssize(out), file->end - begin);
    const auto index = static_cast<std::size_t>(file - files_.begin());
    sources_[index]->copy(begin - file->begin, out.first(static_cast<std::size_t>(count)));
    out = out.subspan(static_cast<std::size_t>(count));
    begin += count;
    ++file;
  }
}

std::shared_ptr<const Corpus> open_corpus(std::span<const std::string> patterns,
                                          const Tokenizer& tokenizer,
                                          const CorpusOptions& options) {
  auto corpus = std::make_shared<Corpus>(tokenizer.vocab_size());
  for (const std::string& file : expand_globs(patterns)) {
    if (options.token_files || file.ends_with(".tokens")) {
      add_token_file(*corpus, file, TokenFile(file), tokenizer);
    } else if (tokenizer.name() == "byte") {
      add_bytes(*corpus, file, tokenizer, options.end_of_text);
    } else {
      add_token_file(*corpus, file, tokenized(file, tokenizer, options), tokenizer);
    }
  }
  return corpus;
}

}  // namespace hyena::data
