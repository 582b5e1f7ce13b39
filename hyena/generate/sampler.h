// Which token comes next, given its logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace hyena::generate {

struct SamplerOptions {
  double temperature = 1.0;  ///< 0: always the likeliest
  std::int64_t top_k = 0;    ///< only the k likeliest; 0: all
  double top_p = 1.0;        ///< only the smallest set of likeliest tokens with this probability
  std::uint64_t seed = 0;
};

/// Draws from softmax(logits / temperature), first cut to the top k, then to the top p of what is
/// left. Ties go to the smaller id. Sums in float64 and a generator of fixed definition: the same
/// seed and logits give the same tokens on every machine.
class Sampler {
 public:
  /// @throws UserError for a negative temperature or top_k, or top_p outside (0, 1].
  explicit Sampler(const SamplerOptions& options);

  /// The id of the next token. Cost O(V log V).
  /// @throws RunError if a logit is not a number, or none is finite.
  [[nodiscard]] std::int64_t next(std::span<const float> logits);

 private:
  SamplerOptions options_;
  std::mt19937_64 generator_;
  std::vector<std::pair<double, std::int64_t>> candidates_;  // (logit, then weight; id)
};

}  // namespace hyena::generate
