// The CPU kernel hyena/kernels/gated_conv.h on tensors: threads, workspaces, strides.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "hyena/kernels/gated_conv.h"
#include "hyena/ops/hyena_mixer.h"
#include "hyena/ops/prepared_filters.h"

namespace hyena::ops::cpu {

/// A factor of y = post . (h * (pre . v)): a (B, D, L) tensor, behind a short convolution where
/// `weight_DT` is defined. An undefined `x_BDL` is a factor of ones.
struct Factor {
  at::Tensor x_BDL{};
  at::Tensor weight_DT{};  // contiguous, dtype of the filter
  at::Tensor bias_D{};
};

/// The same three tensors, for gradients: written in place.
using FactorGradient = Factor;

struct Filter {
  at::Tensor h_DK{};  // contiguous; float32, or float64 for float64 factors
  at::Tensor skip_D{};
  at::Tensor reverse_DK{};
  at::Tensor spectrum{};  // where defined the others are not read, and there is no backward
};

/// An uninitialised (B, channels, L) tensor in the layout of `like_BCL`, in kept memory.
[[nodiscard]] at::Tensor empty_output(const at::Tensor& like_BCL, std::int64_t channels);

/// True where the kernel computes on `x`: a non-empty CPU tensor in float32, float64 or bfloat16.
/// Never with HYENA_CPU_PATH=generic in the environment: then the composition runs, to compare.
[[nodiscard]] bool supports(const at::Tensor& x);

/// The kernel on one set of factors.
class GatedConv {
 public:
  GatedConv(const at::Tensor& like_BDL, std::int64_t taps, Filter filter);
  /// With the first L taps of filter o, or its kept spectrum.
  GatedConv(const at::Tensor& like_BDL, std::int64_t taps, const PreparedFilters& filters,
            std::int64_t o);

  void forward(const Factor& post, const Factor& pre, const Factor& v,
               const at::Tensor& y_BDL) const;

  /// Writes every gradient whose tensor is defined; those of present factors must be.
  void backward(const Factor& post, const Factor& pre, const Factor& v, const at::Tensor& dy_BDL,
                const FactorGradient& dpost, const FactorGradient& dpre, const FactorGradient& dv,
                const Filter& dfilter) const;

 private:
  kernels::GatedConvPlan plan_;
  Filter filter_;
};

/// hyena_mixer of any order and mode, and its backward; arguments were checked. The backward keeps
/// a (B, D, L) tensor per long convolution but the last, and the gradients of one.
[[nodiscard]] at::Tensor mixer_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                                       const std::optional<at::Tensor>& bias_C,
                                       const at::Tensor& h_MDK,
                                       const std::optional<at::Tensor>& skip_MD, MixerMode mode);

/// The same with filters that are kept from call to call.
[[nodiscard]] at::Tensor mixer_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                                       const std::optional<at::Tensor>& bias_C,
                                       const PreparedFilters& filters, MixerMode mode);

struct MixerGradients {
  at::Tensor p_BCL;
  at::Tensor weight_CT;
  at::Tensor bias_C;
  at::Tensor h_MDK;
  at::Tensor skip_MD;
};
[[nodiscard]] MixerGradients mixer_backward(const at::Tensor& dy_BDL, const at::Tensor& p_BCL,
                                            const at::Tensor& weight_CT,
                                            const std::optional<at::Tensor>& bias_C,
                                            const at::Tensor& h_MDK,
                                            const std::optional<at::Tensor>& skip_MD,
                                            MixerMode mode);

}  // namespace hyena::ops::cpu
