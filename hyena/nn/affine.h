// A linear layer with bias, without the passes over memory that LibTorch's module makes for it.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/modules/linear.h>

namespace hyena::nn {

/// x W^T + b. torch::nn::Linear adds b to a product of more than two dimensions in a pass of its
/// own, and its gradient sums the rows of dy in a slow reduction: at width 64 a fifth of a training
/// step on an H100. Here b is part of the product, and db = 1^T dy is one.
///
/// @param x  (..., in); under autocast in any floating type but float64, else in that of the layer.
[[nodiscard]] at::Tensor affine(const torch::nn::Linear& layer, const at::Tensor& x);

/// The same into or out of the layout that the CUDA mixer reads, time contiguous, so that no
/// transposing copy stands between: (B, L, in) to (B, out, L), and (B, in, L) to (B, L, out). The
/// products are one per sequence; the weight's gradient is summed over B partial ones of
/// (out, in), which is less memory than an activation where L is at least the width. Rows of the
/// first are padded as ops::padded_row says, as the kernel wants them. Differentiable once.
[[nodiscard]] at::Tensor affine_to_rows(const torch::nn::Linear& layer, const at::Tensor& x_BLI);
[[nodiscard]] at::Tensor affine_from_rows(const torch::nn::Linear& layer, const at::Tensor& x_BIL);

}  // namespace hyena::nn
