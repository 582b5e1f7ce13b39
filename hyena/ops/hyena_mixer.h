/// @file
/// The whole Hyena mixer between the two projections, of any order.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>

#include <ATen/core/Tensor.h>

namespace hyena::ops {

/// Order of gates and long convolutions (DESIGN section 7).
enum class MixerMode : std::uint8_t {
  kSafari,  ///< The published code: N-1 long convolutions, each after its gate; x_0 gates last.
  kPaper,   ///< Algorithm 3 of the paper: N long convolutions, each before its gate.
};

/// "safari" or "paper". Parsing anything else throws c10::ValueError.
[[nodiscard]] std::string_view to_string(MixerMode mode);
[[nodiscard]] MixerMode mixer_mode(std::string_view name);

/// Short convolution, gates, long convolutions and skips. With q = short_conv(p) cut into N+1
/// chunks of D channels and h_o * v + skip_o v written S_o v:
///
///     safari   (x_0 .. x_{N-1}, v) = q :  v <- S_o (x_{N-1-o} v) for o = 0 .. N-2 ;  y = x_0 v
///     paper    (x^1 .. x^N, v)     = q :  v <- x^n (S_n v)       for n = 1 .. N   ;  y = v
///
/// @param p_BCL            Projections, shape (B, (N+1) D, L), any strides; float32, float64,
///                         bfloat16 or float16. Channels-last (a transposed view of what a linear
///                         layer writes) is the fast layout on the CPU; on CUDA rows along time
///                         that begin at 16 bytes.
/// @param short_weight_CT  Shape ((N+1) D, T), conv1d order: the last tap weighs "now".
/// @param short_bias_C     Shape ((N+1) D), or absent.
/// @param h_MDK            Long filters, shape (M, D, K), K <= L; M = N-1 (safari) or N (paper), so
///                         M gives the order. float32 (float64 iff p is).
/// @param skip_MD          Shape (M, D), dtype of h, or absent.
/// @return y, shape (B, D, L), dtype of `p_BCL`; channels-last iff `p_BCL` is, and with rows padded
///   to padded_row(L) elements iff those of `p_BCL` are (layout.h).
/// @throws c10::ValueError naming the argument, what was expected and what came.
///
/// Differentiable once in every tensor; the backward recomputes instead of storing intermediates.
/// Registered as hyena::hyena_mixer. Cost of the composed form: M FFT convolutions of 2L points.
[[nodiscard]] at::Tensor hyena_mixer(const at::Tensor& p_BCL, const at::Tensor& short_weight_CT,
                                     const std::optional<at::Tensor>& short_bias_C,
                                     const at::Tensor& h_MDK,
                                     const std::optional<at::Tensor>& skip_MD = std::nullopt,
                                     MixerMode mode = MixerMode::kSafari);

namespace composed {

/// The meaning of the op in plain, differentiable LibTorch: the published composition (conv1d,
/// gate, zero-padded rfft of 2L, product, irfft, skip, gate), and the baseline of every benchmark.
[[nodiscard]] at::Tensor hyena_mixer(const at::Tensor& p_BCL, const at::Tensor& short_weight_CT,
                                     const std::optional<at::Tensor>& short_bias_C,
                                     const at::Tensor& h_MDK,
                                     const std::optional<at::Tensor>& skip_MD,
                                     MixerMode mode = MixerMode::kSafari);

/// (dp, dshort_weight, dshort_bias, dh, dskip); undefined where the input is absent. Recomputes the
/// forward, keeping the input of each long convolution.
[[nodiscard]] std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>
hyena_mixer_backward(const at::Tensor& dy_BDL, const at::Tensor& p_BCL,
                     const at::Tensor& short_weight_CT,
                     const std::optional<at::Tensor>& short_bias_C, const at::Tensor& h_MDK,
                     const std::optional<at::Tensor>& skip_MD, MixerMode mode);

}  // namespace composed
}  // namespace hyena::ops
