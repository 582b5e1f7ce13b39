// Training batches and evaluation windows over a corpus.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "hyena/data/corpus.h"
#include "hyena/io/json.h"

namespace hyena::data {

struct BatchLoaderOptions {
  std::int64_t sequence_length = 1024;  // L
  std::int64_t batch_size = 1;          // B
  std::int64_t seed = 0;
  /// kRandom: every epoch cuts its windows at another offset in [0, L), so that a token is not
  /// always seen with the same context. kZero: windows i*L, as the published code.
  enum class Offset { kZero, kRandom } offset = Offset::kZero;
};

/// Endless batches of non-overlapping windows (PAPER 9.6): window i is tokens[iL .. iL+L], inputs
/// its first L tokens, targets its last L; an incomplete last window is dropped. Every epoch visits
/// every window once, in an order drawn from (seed, epoch). The order is a keyed bijection, never
/// stored: a billion windows cost no memory and restore() costs no replay. A batch may span two
/// epochs.
class BatchLoader {
 public:
  /// @throws UserError if the corpus is shorter than one window of L+1 tokens, or L or B below 1.
  BatchLoader(std::shared_ptr<const Corpus> corpus, const BatchLoaderOptions& options);

  /// Fills (B, L) row-major arrays with the next batch.
  void next(std::int64_t* inputs_BL, std::int64_t* targets_BL);

  [[nodiscard]] std::int64_t num_windows() const { return num_windows_; }  ///< per epoch
  [[nodiscard]] std::int64_t samples() const { return samples_; }  ///< windows handed out so far
  [[nodiscard]] std::int64_t epoch() const { return samples_ / num_windows_; }
  /// First token of window number `index` (0, 1, ...) of `epoch`: what next() uses.
  [[nodiscard]] std::int64_t window_begin(std::int64_t epoch, std::int64_t index) const;

  /// The cursor, and what it depends on (seed, length, corpus size).
  [[nodiscard]] io::Json state() const;
  /// The next batch is the one that followed when state() was taken.
  /// @throws UserError if seed, sequence length, offset or corpus differ: the rest would silently
  ///   be other data. Another batch size is fine.
  void restore(const io::Json& state);

 private:
  std::shared_ptr<const Corpus> corpus_;
  BatchLoaderOptions options_;
  std::int64_t num_windows_ = 0;
  std::int64_t samples_ = 0;
};

/// A bijection of [0, size) chosen by `key`: six Feistel rounds on the next even power of two,
/// walked until the value falls inside (fewer than four steps on average). Four rounds are
/// visibly not uniform for ten windows; six pass the test.
[[nodiscard]] std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t key);

/// Windows for scoring: file by file, every token but the first of a file is a target exactly once.
///
/// A file of n tokens has n-1 targets. The first window scores the first min(L, n-1) of them; each
/// further one moves on by `stride` targets and scores only the new ones, so that a scored token
/// has at least L - stride tokens of context. The last window is moved left to be full. stride = L:
/// fastest, least context. Files of one token have no target and no window.
class EvalWindows {
 public:
  /// Cross entropy ignores it (PyTorch's default).
  static constexpr std::int64_t kIgnored = -100;

  /// @throws UserError unless 1 <= stride <= sequence_length, or if no file has two tokens.
  EvalWindows(std::shared_ptr<const Corpus> corpus, std::int64_t sequence_length,
              std::int64_t stride);

  [[nodiscard]] std::int64_t size() const { return size_; }
  /// Over all windows.
  [[nodiscard]] std::int64_t num_targets() const { return num_targets_; }
  /// Fills rows for windows [first, first + count), (count, L) row-major. Targets that another
  /// window scores are kIgnored. A file shorter than L+1 leaves the right end of its row unused:
  /// inputs 0, targets kIgnored (harmless in a causal model).
  void fill(std::int64_t first, std::int64_t count, std::int64_t* inputs_BL,
            std::int64_t* targets_BL) const;

 private:
  struct File {
    std::int64_t begin;         // first token, index in the corpus
    std::int64_t targets;       // tokens to score
    std::int64_t first_window;  // number of its first window
  };

  std::shared_ptr<const Corpus> corpus_;
  std::int64_t sequence_length_;
  std::int64_t stride_;
  std::int64_t size_ = 0;
  std::int64_t num_targets_ = 0;
  std::vector<File> files_;
};

}  // namespace hyena::data
