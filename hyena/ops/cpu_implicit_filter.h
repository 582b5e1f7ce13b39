// The implicit filter on the CPU, block by block: matrix products of LibTorch, everything between
// them by hyena/kernels/implicit_filter.h.
//
//     block       kMostSteps or fewer time steps of all channels, channels as rows; its activations
//                 and its (C, steps) product stay in the second-level cache, and each row of the
//                 product goes straight to its row of h
//     backward    recomputes a block's activations; sums over time go to partial sums of a group of
//                 blocks, added in order of the groups
//
// Cuts and sums depend on the sizes alone, so equal inputs give equal bits with any number of
// threads, as far as LibTorch's products of one block do.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "hyena/ops/implicit_filter.h"

namespace hyena::ops::cpu {

/// True where the blocks are computed: float32 on the CPU, not empty, without `normalized`. Never
/// with HYENA_CPU_PATH=generic in the environment: then the composition runs, to compare.
[[nodiscard]] bool supports_filter(const at::Tensor& z_KE, at::TensorList weights,
                                   const FilterWindow& window);

/// hyena::ops::implicit_filter; arguments were checked. Reads z, writes h, nothing else of size K.
[[nodiscard]] at::Tensor implicit_filter(const at::Tensor& z_KE, at::TensorList weights,
                                         at::TensorList biases, const at::Tensor& freq_W,
                                         const FilterWindow& window, std::int64_t M,
                                         ChannelLayout layout);

/// Reads z and dh, writes dz; a set of parameter gradients per group is kept besides, 64 at most.
[[nodiscard]] composed::ImplicitFilterGradients implicit_filter_backward(
    const at::Tensor& dh_MDK, const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
    const at::Tensor& freq_W, const FilterWindow& window, std::int64_t M, ChannelLayout layout);

}  // namespace hyena::ops::cpu
