// A linear layer with bias, without the passes over memory that LibTorch's module makes for it.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/nn/modules/linear.h>

namespace hyena::nn {

/// x W^T + b. torch::nn::Linear adds b to a product of more than two dimensions in a pass of its
/// own, and its gradient sums the rows of dy in a slow reduction: at width 64 a fifth of a training
/// step on an H100. Here b is part of the product, and db = 1^T dy is one.
///
/// @param x  (..., in); under autocast in any floating type, else in that of the layer.
[[nodiscard]] at::Tensor affine(const torch::nn::Linear& layer, const at::Tensor& x);

}  // namespace hyena::nn
