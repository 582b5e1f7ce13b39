/// @file
/// Short explicit convolution of the projections.
#pragma once

#include <optional>
#include <tuple>

#include <ATen/core/Tensor.h>

namespace hyena::ops {

/// Depthwise causal FIR filter (Poli et al. 2023, Algorithm 1):
///
///     q[b,c,t] = bias[c] + sum_{j<T} weight[c,j] * p[b,c,t-(T-1)+j]          p = 0 before t = 0
///
/// @param p_BCL      Input, shape (B, C, L), any strides; float32, float64, bfloat16 or float16.
/// @param weight_CT  Taps in conv1d order, shape (C, T), T >= 1: the last tap weighs "now".
/// @param bias_C     Shape (C), or absent.
/// @return q, shape (B, C, L), dtype of `p_BCL`; channels-last (C contiguous) iff `p_BCL` is.
/// @throws c10::ValueError naming the argument, what was expected and what came.
///
/// Differentiable once in every tensor. Registered as hyena::short_conv. Cost 2 B C L T FLOP.
[[nodiscard]] at::Tensor short_conv(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                                    const std::optional<at::Tensor>& bias_C = std::nullopt);

namespace composed {

/// The meaning of the op in plain, differentiable LibTorch: conv1d padded by T-1 on both sides,
/// cropped to the first L outputs.
[[nodiscard]] at::Tensor short_conv(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                                    const std::optional<at::Tensor>& bias_C);

/// (dp, dweight, dbias); dbias is undefined where `has_bias` is false.
[[nodiscard]] std::tuple<at::Tensor, at::Tensor, at::Tensor> short_conv_backward(
    const at::Tensor& dq_BCL, const at::Tensor& p_BCL, const at::Tensor& weight_CT, bool has_bias);

}  // namespace composed
}  // namespace hyena::ops
