// The outputs of our ops follow the layout of their input (DESIGN section 6).
#pragma once

#include <ATen/core/Tensor.h>

namespace hyena::ops {

/// True iff `x_BCL` is a transposed view of contiguous (B, L, C): what a linear layer writes.
[[nodiscard]] bool is_channels_last(const at::Tensor& x_BCL);

/// True iff `x_BCL` is contiguous but for rows padded to padded_row(L) > L: what the CUDA kernels
/// read fastest, and nn::affine_to_rows writes.
[[nodiscard]] bool has_padded_rows(const at::Tensor& x_BCL);

/// L where it is a multiple of 8, so that rows of 16-bit elements begin at 16 bytes; otherwise the
/// next multiple of 16, so that they begin at the 32 bytes that a GPU reads at once (forward and
/// backward of 1,026 times take 4 % longer in rows of 1,032 than of 1,040; H200, 2026-11-28).
[[nodiscard]] c10::SymInt padded_row(const c10::SymInt& L);

/// `x_BCL` in the layout of `like_BCL` (channels-last, padded rows, else contiguous): itself where
/// it already has it.
[[nodiscard]] at::Tensor in_layout_of(const at::Tensor& like_BCL, const at::Tensor& x_BCL);

/// An uninitialised (B, channels, L) tensor in the layout of `like_BCL`; sizes may be symbolic.
[[nodiscard]] at::Tensor empty_in_layout_of(const at::Tensor& like_BCL,
                                            const c10::SymInt& channels);

}  // namespace hyena::ops
