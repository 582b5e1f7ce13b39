// A set of files as one long sequence of tokens, none of it copied into memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "hyena/data/token_file.h"
#include "hyena/data/tokenizer.h"

namespace hyena::data {

/// One file's tokens: a text read as bytes, or a token file.
class TokenSource {
 public:
  virtual ~TokenSource() = default;
  [[nodiscard]] virtual std::int64_t size() const = 0;
  virtual void copy(std::int64_t begin, std::span<std::int64_t> out) const = 0;
};

/// The files in the order they were named, joined end to end.
class Corpus {
 public:
  struct File {
    std::string name;        ///< as the user knows it (not the cached token file)
    std::int64_t begin = 0;  ///< index of its first token in the corpus
    std::int64_t end = 0;
    std::int64_t bytes = 0;  ///< of its text
  };

  explicit Corpus(std::int64_t vocab_size) : vocab_size_(vocab_size) {}
  /// Adds a file; `documents` count from the start of the source.
  void add(std::string name, std::unique_ptr<TokenSource> source,
           std::span<const DocumentSpan> documents);

  [[nodiscard]] std::int64_t num_tokens() const { return num_tokens_; }
  [[nodiscard]] std::int64_t num_bytes() const { return num_bytes_; }  ///< of all texts
  [[nodiscard]] std::int64_t vocab_size() const { return vocab_size_; }
  [[nodiscard]] const std::vector<File>& files() const { return files_; }
  /// A text file is one document, a token file holds as many as it was made of.
  [[nodiscard]] const std::vector<DocumentSpan>& documents() const { return documents_; }

  /// Tokens [begin, begin + out.size()) of the joined sequence, which must exist. Safe from many
  /// threads.
  void copy(std::int64_t begin, std::span<std::int64_t> out) const;

 private:
  std::int64_t vocab_size_;
  std::int64_t num_tokens_ = 0;
  std::int64_t num_bytes_ = 0;
  std::vector<std::unique_ptr<TokenSource>> sources_;
  std::vector<File> files_;
  std::vector<DocumentSpan> documents_;
};

struct CorpusOptions {
  /// Where texts that need tokenising are kept as token files, by path, size, time and tokenizer.
  std::filesystem::path cache_folder = ".cache/tokens";
  /// Concerns texts; a token file is taken as it is.
  EndOfText end_of_text = EndOfText::kAfterEveryDocument;
  /// Every file is a token file, whatever its name.
  bool token_files = false;
  /// Called while a text is tokenised into the cache.
  std::function<void(const std::string& file, std::int64_t done, std::int64_t total)> progress;
};

/// The files that names and globs mean ("books/*.txt"): a glob's matches in alphabetical order, a
/// file that is named twice once.
///
/// @throws UserError: nothing named, a folder, a glob without match.
[[nodiscard]] std::vector<std::string> expand_globs(std::span<const std::string> patterns);

/// Opens files and globs. `*.tokens` is a token file; everything else is text. With the byte
/// tokenizer a text is mapped as it is.
///
/// @throws UserError: as expand_globs, a missing file, an empty text, a token file of another
///   tokenizer (both fingerprints are named).
[[nodiscard]] std::shared_ptr<const Corpus> open_corpus(std::span<const std::string> patterns,
                                                        const Tokenizer& tokenizer,
                                                        const CorpusOptions& options = {});

}  // namespace hyena::data
