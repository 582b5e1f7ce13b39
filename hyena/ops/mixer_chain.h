// Mixers of any order, and a long convolution alone, out of mixers of order 2: for a kernel that
// knows only those.
#pragma once

#include <functional>
#include <optional>
#include <tuple>

#include <ATen/core/Tensor.h>

#include "hyena/ops/hyena_mixer.h"

namespace hyena::ops::chain {

/// (dp, dweight, dbias, dh, dskip); dbias and dskip are undefined where the input is absent.
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// The filter of one long convolution: h and reverse (1, D, K), skip (1, D).
struct Filter {
  at::Tensor h_MDK;
  std::optional<at::Tensor> skip_MD;
  std::optional<at::Tensor> reverse_MDK;  ///< Towards the future; only long_conv has one.
};

/// Gradients of one stage; those of what is absent are undefined.
struct StageGradients {
  at::Tensor dp_BCL, dweight_CT, dbias_C, dh_MDK, dskip_MD, dreverse_MDK;
};

/// One mixer of order 2 in safari mode, y = q_0 S(q_1 q_2): p (B, 3D, L), weight (3D, T), bias
/// (3D).
struct OrderTwo {
  /// A (B, channels, L) tensor like the first argument, in the memory order that the kernel reads.
  std::function<at::Tensor(const at::Tensor& like_BCL, std::int64_t channels)> empty;
  /// `o` says which filter of the whole mixer it is.
  std::function<at::Tensor(const at::Tensor& p, const at::Tensor& weight, const at::Tensor& bias,
                           const Filter& filter, std::int64_t o)>
      forward;
  std::function<StageGradients(const at::Tensor& dy, const at::Tensor& p, const at::Tensor& weight,
                               const at::Tensor& bias, const Filter& filter)>
      backward;
};

/// hyena_mixer as M mixers of order 2, one per long convolution. A factor that a stage lacks is a
/// channel of weight 0 and bias 1; a factor that comes from the stage before has the weight of
/// "now" alone. Every stage copies its factors, 12 bytes per element in 16-bit types, and rounds
/// its result to the dtype of p. One (B, D, L) per stage is kept in the backward.
[[nodiscard]] at::Tensor mixer_forward(const OrderTwo& kernel, const at::Tensor& p_BCL,
                                       const at::Tensor& weight_CT,
                                       const std::optional<at::Tensor>& bias_C,
                                       const at::Tensor& h_MDK,
                                       const std::optional<at::Tensor>& skip_MD, MixerMode mode);
[[nodiscard]] Gradients mixer_backward(const OrderTwo& kernel, const at::Tensor& dy_BDL,
                                       const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                                       const std::optional<at::Tensor>& bias_C,
                                       const at::Tensor& h_MDK,
                                       const std::optional<at::Tensor>& skip_MD, MixerMode mode);

/// long_conv: a stage with no gate. Backward: (du, dh, dskip, dreverse), the last two undefined
/// where the input is absent.
[[nodiscard]] at::Tensor long_conv_forward(const OrderTwo& kernel, const at::Tensor& u_BDL,
                                           const at::Tensor& h_DK,
                                           const std::optional<at::Tensor>& skip_D,
                                           const std::optional<at::Tensor>& reverse_DK);
[[nodiscard]] std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> long_conv_backward(
    const OrderTwo& kernel, const at::Tensor& dy_BDL, const at::Tensor& u_BDL,
    const at::Tensor& h_DK, const std::optional<at::Tensor>& skip_D,
    const std::optional<at::Tensor>& reverse_DK);

}  // namespace hyena::ops::chain
