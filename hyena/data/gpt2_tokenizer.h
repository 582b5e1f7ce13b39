// GPT-2's byte-level byte-pair encoding.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "hyena/data/byte_pair_merges.h"
#include "hyena/data/tokenizer.h"

namespace hyena::data {

/// Reads the published files: vocab.json {token: id} and merges.txt (rank = order of lines).
///
/// Text is cut into pieces (gpt2_pieces.h, also for the treatment of bytes that are no UTF-8),
/// every piece becomes bytes, bytes are merged. "<|endoftext|>" inside a text is ordinary text; the
/// id is end_of_text(). Frequent pieces are remembered in a table of fixed size (2 MiB).
class Gpt2Tokenizer final : public Tokenizer {
 public:
  /// @throws UserError for a missing or damaged file: ids that are not 0..n-1, a byte without
  ///   token, a merge of unknown tokens or out of order (file and line are named).
  explicit Gpt2Tokenizer(const std::filesystem::path& folder);
  ~Gpt2Tokenizer() override;

  [[nodiscard]] std::string name() const override { return "gpt2"; }
  [[nodiscard]] std::int64_t vocab_size() const override;
  [[nodiscard]] std::optional<std::uint32_t> end_of_text() const override { return end_of_text_; }
  void encode_to(std::string_view text, const TokenSink& sink) const override;
  [[nodiscard]] std::string decode(std::span<const std::uint32_t> ids) const override;
  void save(const std::filesystem::path& folder) const override;
  [[nodiscard]] std::string fingerprint() const override { return fingerprint_; }

 private:
  class PieceCache;

  std::string vocab_json_;  // the files as they were, for save()
  std::string merges_txt_;
  std::vector<std::string> token_bytes_;    // by id
  std::vector<std::uint32_t> byte_tokens_;  // the token of each byte
  std::optional<std::uint32_t> end_of_text_;
  std::string fingerprint_;
  std::unique_ptr<BytePairMerges> merges_;
  // A second thread that encodes at the same time does without the cache.
  mutable std::mutex cache_mutex_;
  std::unique_ptr<PieceCache> cache_;
};

}  // namespace hyena::data
