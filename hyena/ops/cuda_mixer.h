// The CUDA kernels of hyena/kernels/{hyena_mixer_cuda,mixer_cuda_generic}.h on tensors: streams,
// workspaces, padding.
#pragma once

#include <optional>
#include <string>
#include <tuple>

#include <ATen/core/Tensor.h>

#include "hyena/ops/hyena_mixer.h"
#include "hyena/ops/prepared_filters.h"

namespace hyena::ops::cuda {

/// True where kernels run the call, any order in both modes and any number of short taps: float32,
/// bfloat16 or float16, float32 filters, a length and a device that they know. `both_ways`: with a
/// reverse filter, which only the generic kernels have. Always false in a build without CUDA.
[[nodiscard]] bool supports(const at::Tensor& p_BCL, const at::Tensor& h_MDK,
                            bool both_ways = false);

/// Which kernels run a call that supports() holds for: "right_angle", "toeplitz" (short filters),
/// both for capability 9.0, or "generic".
[[nodiscard]] std::string path_of(const at::Tensor& p_BCL, const at::Tensor& h_MDK);

/// As hyena_mixer; arguments were checked and supports() holds. y is contiguous, or its rows are
/// padded as layout.h says. Order 2 in safari mode is one call of the kernels; other
/// orders are one per long convolution with copies between (mixer_chain.h); more short taps than
/// the kernels have (three, or eight where only the generic ones run) are a convolution of
/// LibTorch's before it, rounded to the dtype of p. `kept`, if given, holds the spectra of these
/// filters, those of at most 512 MiB (fused kernels: 4 bytes per channel and point, generic: 8).
[[nodiscard]] at::Tensor mixer_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                                       const std::optional<at::Tensor>& bias_C,
                                       const at::Tensor& h_MDK,
                                       const std::optional<at::Tensor>& skip_MD, MixerMode mode,
                                       const PreparedFilters* kept = nullptr);

/// (dp, dweight, dbias, dh, dskip); dbias and dskip are undefined where the input is absent.
[[nodiscard]] std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> mixer_backward(
    const at::Tensor& dy_BDL, const at::Tensor& p_BCL, const at::Tensor& weight_CT,
    const std::optional<at::Tensor>& bias_C, const at::Tensor& h_MDK,
    const std::optional<at::Tensor>& skip_MD, MixerMode mode);

/// long_conv of `u_BDL`, where supports(u_BDL, h of shape (1, D, K), reverse_DK.has_value()).
[[nodiscard]] at::Tensor long_conv_forward(const at::Tensor& u_BDL, const at::Tensor& h_DK,
                                           const std::optional<at::Tensor>& skip_D,
                                           const std::optional<at::Tensor>& reverse_DK);

/// (du, dh, dskip, dreverse); the last two are undefined where the input is absent.
[[nodiscard]] std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> long_conv_backward(
    const at::Tensor& dy_BDL, const at::Tensor& u_BDL, const at::Tensor& h_DK,
    const std::optional<at::Tensor>& skip_D, const std::optional<at::Tensor>& reverse_DK);

}  // namespace hyena::ops::cuda
