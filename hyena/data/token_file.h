// Token files: what a text became, mapped at training time.
//
// All numbers little-endian.
//   offset 0   "HYTOKENS"
//          8   u32 version = 1
//         12   u32 bytes per token: 2 (vocabulary of at most 65536) or 4
//         16   u64 tokens          24  u64 vocabulary size
//         32   u64 documents       40  u64 bytes of the text behind the tokens
//         48   u32 length of the tokenizer's name, u32 length of its fingerprint, the two texts,
//              zeros up to a multiple of 64
//   then the tokens, zeros up to a multiple of 8,
//   then per document: u64 end (index behind its last token), u64 bytes of its text
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "hyena/data/tokenizer.h"
#include "hyena/io/atomic_file.h"
#include "hyena/io/mapped_file.h"

namespace hyena::data {

/// done of total bytes; called every few ten thousand tokens, and at the end.
using Progress = std::function<void(std::int64_t done, std::int64_t total)>;

enum class EndOfText {
  kAfterEveryDocument,  ///< the tokenizer's end-of-text id follows every document
  kNone,
};

struct DocumentSpan {
  std::int64_t begin = 0;  ///< index of its first token
  std::int64_t end = 0;    ///< one behind its last token, end-of-text included
  std::int64_t bytes = 0;  ///< of its text
};

/// Writes a token file piece by piece; it appears at commit(), whole.
class TokenFileWriter {
 public:
  TokenFileWriter(const std::filesystem::path& path, const Tokenizer& tokenizer);

  /// @throws UserError for an id outside the vocabulary.
  void append(std::span<const std::uint32_t> ids);
  /// Ends the document that the ids since the last call make; `bytes` of text stand behind it.
  void end_document(std::int64_t bytes);
  void commit();

 private:
  io::AtomicFile file_;
  std::int64_t vocab_size_;
  std::int64_t token_bytes_;
  std::int64_t count_ = 0;
  std::int64_t text_bytes_ = 0;
  std::string documents_;  // the table, as stored
  std::int64_t num_documents_ = 0;
  std::string packed_;
};

/// An open token file.
class TokenFile {
 public:
  /// @throws UserError if it is no token file, of another version, cut short, or inconsistent. The
  ///   tokens themselves are checked where they are read (copy()).
  explicit TokenFile(const std::filesystem::path& path);

  [[nodiscard]] std::int64_t size() const { return count_; }
  [[nodiscard]] std::int64_t vocab_size() const { return vocab_size_; }
  [[nodiscard]] std::int64_t text_bytes() const { return text_bytes_; }
  [[nodiscard]] const std::string& tokenizer_name() const { return name_; }
  [[nodiscard]] const std::string& fingerprint() const { return fingerprint_; }
  [[nodiscard]] const std::vector<DocumentSpan>& documents() const { return documents_; }
  [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }
  /// Tokens [begin, begin + out.size()), which must exist.
  /// @throws UserError for a stored id outside the vocabulary.
  void copy(std::int64_t begin, std::span<std::int64_t> out) const;

 private:
  io::MappedFile file_;
  std::int64_t token_bytes_ = 0;
  std::int64_t count_ = 0;
  std::int64_t vocab_size_ = 0;
  std::int64_t text_bytes_ = 0;
  std::size_t tokens_offset_ = 0;
  std::string name_;
  std::string fingerprint_;
  std::vector<DocumentSpan> documents_;
};

/// Tokenises text files, one document each, into the token file `out`. Memory: the texts are
/// mapped, the ids streamed.
/// @throws UserError for a file that is missing or empty; RunError if writing fails.
void tokenize_files(const Tokenizer& tokenizer, std::span<const std::filesystem::path> texts,
                    const std::filesystem::path& out,
                    EndOfText end_of_text = EndOfText::kAfterEveryDocument,
                    const Progress& progress = {});

}  // namespace hyena::data
