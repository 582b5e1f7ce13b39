// The loss of a language model without its logits in memory.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

namespace hyena::train {

/// Mean cross entropy of logits = hidden weight^T against targets:
///
///     loss = 1/n sum_i ( log sum_v exp(hidden_i . weight_v) - hidden_i . weight_{target_i} )
///
/// At 50264 words the logits of 8192 tokens take 1.6 GB, and plain autograd holds three such
/// tensors. Here rows are taken `rows_per_chunk` at a time, and their gradient is formed while
/// their logits are at hand; the backward only scales it.
///
/// @param hidden_ND   (n, D), floating.
/// @param weight_VD   (V, D).
/// @param targets_N   int64 (n), all in [0, V).
/// @param rows_per_chunk  0: as many as keep a chunk's logits within 256 MiB of float32.
/// @return float32 scalar (float64 for float64 inputs). Differentiable once in hidden and weight.
/// Under autocast the products run in its dtype, the softmax in float32.
[[nodiscard]] at::Tensor linear_cross_entropy(const at::Tensor& hidden_ND,
                                              const at::Tensor& weight_VD,
                                              const at::Tensor& targets_N,
                                              std::int64_t rows_per_chunk = 0);

}  // namespace hyena::train
