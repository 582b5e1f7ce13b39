// Text to token ids and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hyena::data {

/// Gets ids in order, and how many bytes of the text are behind them by now.
using TokenSink = std::function<void(std::span<const std::uint32_t> ids, std::int64_t bytes_done)>;

/// A tokenizer is immutable and safe to share between threads. For every byte string s, valid
/// UTF-8 or not: decode(encode(s)) == s.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  [[nodiscard]] virtual std::string name() const = 0;  ///< "byte", "gpt2"
  [[nodiscard]] virtual std::int64_t vocab_size() const = 0;
  /// The id that ends a document; ordinary text never encodes to it.
  [[nodiscard]] virtual std::optional<std::uint32_t> end_of_text() const = 0;
  /// Encodes without holding all ids: `sink` gets them in batches.
  virtual void encode_to(std::string_view text, const TokenSink& sink) const = 0;
  [[nodiscard]] std::vector<std::uint32_t> encode(std::string_view text) const;
  /// The bytes behind the ids; may end inside a UTF-8 character (Utf8Streamer).
  /// @throws UserError for an id outside the vocabulary.
  [[nodiscard]] virtual std::string decode(std::span<const std::uint32_t> ids) const = 0;
  /// Writes the files that load_tokenizer(folder) needs; nothing for "byte".
  virtual void save(const std::filesystem::path& folder) const = 0;
  /// Equal for tokenizers that map every text to the same ids; stored in token files.
  [[nodiscard]] virtual std::string fingerprint() const = 0;

 protected:
  Tokenizer() = default;
};

/// Ids 0..255 are the bytes, 256 is end-of-text (decoded to nothing).
class ByteTokenizer final : public Tokenizer {
 public:
  [[nodiscard]] std::string name() const override { return "byte"; }
  [[nodiscard]] std::int64_t vocab_size() const override { return 257; }
  [[nodiscard]] std::optional<std::uint32_t> end_of_text() const override { return 256; }
  void encode_to(std::string_view text, const TokenSink& sink) const override;
  [[nodiscard]] std::string decode(std::span<const std::uint32_t> ids) const override;
  void save(const std::filesystem::path& folder) const override;
  [[nodiscard]] std::string fingerprint() const override { return "byte-257"; }
};

/// `spec` is "byte", or a folder with vocab.json and merges.txt (a checkpoint folder that holds
/// them is one). @throws UserError that says what is missing or wrong.
[[nodiscard]] std::unique_ptr<Tokenizer> load_tokenizer(const std::string& spec);

/// Cuts a stream of bytes between UTF-8 characters: what a terminal or a JSON line can take.
class Utf8Streamer {
 public:
  /// Takes the next bytes and returns all that is complete; a started character is held back.
  /// Bytes that can no longer become a character are passed on as they are.
  [[nodiscard]] std::string push(std::string_view bytes);
  /// What was held back, at the end of the stream.
  [[nodiscard]] std::string finish();

 private:
  std::string held_;  // at most 3 bytes
};

}  // namespace hyena::data
