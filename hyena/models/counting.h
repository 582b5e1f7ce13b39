// Parameters and FLOPs of a configuration, without building it.
#pragma once

#include <cstdint>

#include "hyena/models/config.h"

namespace hyena::models {

/// Trainable parameters; PAPER 6.3.
[[nodiscard]] std::int64_t parameter_count(const ModelConfig& config);

/// FLOPs of one forward pass over one sequence of length l_max; PAPER section 10:
///
///     embedding 2 L V D ;  logits 2 L D V ;  MLP 4 L D F per layer
///     attention  8 L D^2 + 4 L^2 D + 3 H L^2
///     Hyena      2 (o D^2 L + o D L T + 5 (o-1) D L log2 L + D^2 L),  o = N + 1
///
/// V is the true vocabulary, as the paper counts; D in the Hyena line is inner_factor * d_model on
/// the inner side of the projections.
/// Other mixers are counted as the Hyena line: the paper gives no formula for them.
[[nodiscard]] double forward_flops(const ModelConfig& config);

/// 3 x forward x tokens / L.
[[nodiscard]] double training_flops(const ModelConfig& config, double tokens);

}  // namespace hyena::models
