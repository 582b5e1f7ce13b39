// The CUDA kernels hyena/kernels/implicit_filter_cuda.h around LibTorch's matrix products.
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "hyena/ops/implicit_filter.h"

namespace hyena::ops::cuda {

/// True where the kernels run: float32, no normalisation, nothing empty, K <= 65535 blocks, a
/// device that has them. Always false in a build without CUDA.
[[nodiscard]] bool supports_filter(const at::Tensor& z_KE, at::TensorList weights,
                                   const FilterWindow& window);

/// As the op and its composed backward; arguments were checked and supports_filter() holds. Passes
/// over (C, K): two forward (product, window), six with the backward, dh read once.
[[nodiscard]] at::Tensor implicit_filter(const at::Tensor& z_KE, at::TensorList weights,
                                         at::TensorList biases, const at::Tensor& freq_W,
                                         const FilterWindow& window, std::int64_t M,
                                         ChannelLayout layout);
[[nodiscard]] composed::ImplicitFilterGradients implicit_filter_backward(
    const at::Tensor& dh_MDK, const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
    const at::Tensor& freq_W, const FilterWindow& window, std::int64_t M, ChannelLayout layout);

}  // namespace hyena::ops::cuda
