// How well a language model predicts a text.
#pragma once

#include <cstdint>
#include <functional>

#include "hyena/data/batch_loader.h"
#include "hyena/models/language_model.h"

namespace hyena::eval {

struct Score {
  double nll = 0.0;         ///< mean over tokens, in nats
  std::int64_t tokens = 0;  ///< scored ones
  double accuracy = 0.0;    ///< share of tokens that were the likeliest

  [[nodiscard]] double perplexity() const;
  /// nll tokens / (bytes ln 2), `bytes` being the length of the text behind the tokens.
  [[nodiscard]] double bits_per_byte(std::int64_t bytes) const;
};

struct ScoreOptions {
  std::int64_t batch_size = 8;
  std::int64_t max_windows = 0;  ///< 0: all
  /// Called after every batch with the windows done and their total.
  std::function<void(std::int64_t done, std::int64_t total)> progress{};
};

/// Scores the targets of `windows` over the true vocabulary (the padded logits are cut off, PAPER
/// 6.1), on the device of the model. Sums in float64. The model is put into evaluation mode and
/// back. One host synchronisation per batch.
/// @throws UserError if an id lies beyond the model's vocabulary.
[[nodiscard]] Score score(models::LanguageModel& model, const data::EvalWindows& windows,
                          const ScoreOptions& options = {});

}  // namespace hyena::eval
