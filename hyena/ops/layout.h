// Channels-last or contiguous: the outputs of our ops follow their input (DESIGN section 6).
#pragma once

#include <ATen/core/Tensor.h>

namespace hyena::ops {

/// True iff `x_BCL` is a transposed view of contiguous (B, L, C): what a linear layer writes.
[[nodiscard]] bool is_channels_last(const at::Tensor& x_BCL);

/// `x_BCL` in the layout of `like_BCL`: itself where it already has it.
[[nodiscard]] at::Tensor in_layout_of(const at::Tensor& like_BCL, const at::Tensor& x_BCL);

/// An uninitialised (B, channels, L) tensor for the Meta kernels, in the layout of `like_BCL`;
/// sizes may be symbolic.
[[nodiscard]] at::Tensor empty_in_layout_of(const at::Tensor& like_BCL,
                                            const c10::SymInt& channels);

}  // namespace hyena::ops
