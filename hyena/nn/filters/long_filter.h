// What a long-convolution parametrisation has in common.
#pragma once

#include <cstdint>

#include <torch/nn/module.h>

namespace hyena::nn {

/// Causal filters of a fixed number of channels, built from parameters that do not grow with the
/// sequence (except where the class says so). h[o,d,s] weighs the input s samples in the past.
class LongFilter : public torch::nn::Module {
 public:
  /// The first taps of every filter, shape (M, D, K) with 1 <= K <= length; taps beyond K are zero.
  /// A prefix, never a rescaled filter. @throws UserError if length > l_max.
  [[nodiscard]] virtual at::Tensor filters(std::int64_t length) = 0;

  /// The skip terms, shape (M, D); undefined where there is none.
  [[nodiscard]] virtual at::Tensor skip() = 0;
};

}  // namespace hyena::nn
