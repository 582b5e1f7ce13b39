/// @file
/// The implicit parametrisation of the long filters.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace hyena::ops {

/// How channel c of the filter MLP's M*D outputs maps to (convolution o, channel d); PAPER 1.3.
enum class ChannelLayout : std::uint8_t {
  kSafari,      ///< c = d*M + o
  kStandalone,  ///< c = o*D + d
};

/// "safari" or "standalone". Parsing anything else throws c10::ValueError.
[[nodiscard]] std::string_view to_string(ChannelLayout layout);
[[nodiscard]] ChannelLayout channel_layout(std::string_view name);

/// `x_C` with C = M*D channels on its last axis as (M, D).
[[nodiscard]] at::Tensor split_channels(const at::Tensor& x_C, std::int64_t M,
                                        ChannelLayout layout);

/// The exponential window and what follows it (Poli et al. 2023, eq. 7; PAPER 2.3).
struct FilterWindow {
  at::Tensor t_K{};         ///< Normalised time, shape (K). Undefined: no window.
  at::Tensor deltas_C{};    ///< Signed log-decays per channel, shape (M*D). Undefined: no window.
  double shift = 0.0;       ///< Added to the exponential, so that filters need not vanish.
  bool normalized = false;  ///< Divide by the L1 norm over channels at every time.
};

/// Filters from positional features:
///
///     a_0 = z ;  a_{i+1} = sin(freq . (a_i W_i^T + b_i))  for every layer but the last
///     h[n,c] = (a W_last^T)[n,c] * (exp(-t_n |deltas_c|) + shift)         [window]
///     h[n,c] = h[n,c] / sum_c' |h[n,c']|                                  [normalized]
///
/// @param z_KE     Features, shape (K, E); the first K rows of those of l_max.
/// @param weights  (W, E), (W, W)..., (C, W) with C = M*D: linear layers in order, at least two.
/// @param biases   One (W) for every layer but the last, which has none.
/// @param freq_W   Sine frequencies, shape (W), shared by all layers.
/// @return h, shape (M, D, K), contiguous, dtype of z (float32 or float64).
/// @throws c10::ValueError naming the argument, what was expected and what came.
///
/// Differentiable once in z, every weight and bias, freq and deltas (not in t).
/// Registered as hyena::implicit_filter. Cost 2 K (E W + (layers-2) W^2 + W C) FLOP.
///
/// On the CPU float32 without `normalized` runs block by block: z is read and h written once, sines
/// are within 2^-23 and the exponential within a unit in the last place (docs/math/
/// implicit_filter.md). HYENA_CPU_PATH=generic asks for the composition, which all else takes.
[[nodiscard]] at::Tensor implicit_filter(const at::Tensor& z_KE,
                                         const std::vector<at::Tensor>& weights,
                                         const std::vector<at::Tensor>& biases,
                                         const at::Tensor& freq_W, const FilterWindow& window,
                                         std::int64_t M, ChannelLayout layout);

namespace composed {

/// The meaning of the op in plain, differentiable LibTorch.
[[nodiscard]] at::Tensor implicit_filter(const at::Tensor& z_KE,
                                         const std::vector<at::Tensor>& weights,
                                         const std::vector<at::Tensor>& biases,
                                         const at::Tensor& freq_W, const FilterWindow& window,
                                         std::int64_t M, ChannelLayout layout);

struct ImplicitFilterGradients {
  at::Tensor z_KE;
  std::vector<at::Tensor> weights;
  std::vector<at::Tensor> biases;
  at::Tensor freq_W;
  at::Tensor deltas_C;  ///< Undefined without a window.
};

/// Recomputes the forward, keeping one (K, W) activation per sine layer and one (K, C) product.
[[nodiscard]] ImplicitFilterGradients implicit_filter_backward(
    const at::Tensor& dh_MDK, const at::Tensor& z_KE, const std::vector<at::Tensor>& weights,
    const std::vector<at::Tensor>& biases, const at::Tensor& freq_W, const FilterWindow& window,
    std::int64_t M, ChannelLayout layout);

}  // namespace composed
}  // namespace hyena::ops
