// The CUDA kernel hyena/kernels/hyena_mixer_cuda.h on tensors: streams, workspaces, padding.
#pragma once

#include <optional>
#include <tuple>

#include <ATen/core/Tensor.h>

#include "hyena/ops/hyena_mixer.h"

namespace hyena::ops::cuda {

/// True where the kernel runs the call: order 2 in safari mode, bfloat16 or float16, a shape and a
/// device that it knows. Always false in a build without CUDA.
[[nodiscard]] bool supports(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                            const at::Tensor& h_MDK, MixerMode mode);

/// As hyena_mixer; arguments were checked and supports() holds. y is contiguous.
[[nodiscard]] at::Tensor mixer_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                                       const std::optional<at::Tensor>& bias_C,
                                       const at::Tensor& h_MDK,
                                       const std::optional<at::Tensor>& skip_MD);

/// (dp, dweight, dbias, dh, dskip); dbias and dskip are undefined where the input is absent.
[[nodiscard]] std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> mixer_backward(
    const at::Tensor& dy_BDL, const at::Tensor& p_BCL, const at::Tensor& weight_CT,
    const std::optional<at::Tensor>& bias_C, const at::Tensor& h_MDK,
    const std::optional<at::Tensor>& skip_MD);

}  // namespace hyena::ops::cuda
