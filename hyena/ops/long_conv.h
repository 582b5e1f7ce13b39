/// @file
/// Long convolution: the sequence mixer of the Hyena operator.
#pragma once

#include <cstdint>
#include <optional>
#include <tuple>

#include <ATen/core/Tensor.h>

namespace hyena::ops {

/// How the convolution is evaluated. All compute the same sums; they differ in cost and rounding.
enum class LongConvAlgorithm : std::uint8_t {
  kAuto,    ///< Chosen from sizes, dtype and device.
  kDirect,  ///< O(L K) sums. Strictly causal: no output depends on a future input, not even in
            ///< rounding.
  kFft,     ///< O(L log L). Causal up to rounding.
};

/// Causal convolution of each channel with its own filter, plus a skip term, plus an optional
/// anti-causal filter (Poli et al. 2023, Definition 3.1; the published code's fftconv):
///
///     y[b,d,t] = sum_{s=0..min(t,K-1)} h[d,s] u[b,d,t-s]  +  skip[d] u[b,d,t]
///              + sum_{s=0..min(L-1-t,K-1)} reverse[d,s] u[b,d,t+s]
///
/// Lag 0 counts in both filters. No gate is applied here.
///
/// @param u_BDL       Input, shape (B, D, L), any strides; float32, float64, bfloat16 or float16.
/// @param h_DK        Filters, shape (D, K), 1 <= K <= L. float32 (float64 iff `u_BDL` is float64).
///                    h[d,s] weighs the input s samples in the past; h[d,0] is "now".
/// @param skip_D      Shape (D), dtype of `h_DK`, or absent.
/// @param reverse_DK  Filters towards the future, shape of `h_DK`, or absent.
/// @return y, shape (B, D, L), dtype of `u_BDL`, channels-last iff `u_BDL` is.
/// @throws c10::ValueError naming the argument, what was expected and what came. B = 0 and L = 0
///   are valid and return empty.
///
/// Differentiable once in every tensor. Registered as hyena::long_conv. Sums are taken in the dtype
/// of `h_DK` and rounded once on store; the FFT's error is norm-wise: at most
/// 2 eps log2(2L) ||h|| ||u|| per output, so a loud future leaks into a quiet past at that level.
/// On CUDA devices of capability 9.0, bfloat16 and float16 without a reverse filter take the
/// kernels of the mixer, with float16 operands and their errors (hyena/kernels/hyena_mixer_cuda.h);
/// with one, in float32, and on other devices those of hyena/kernels/mixer_cuda_generic.h.
[[nodiscard]] at::Tensor long_conv(const at::Tensor& u_BDL, const at::Tensor& h_DK,
                                   const std::optional<at::Tensor>& skip_D = std::nullopt,
                                   const std::optional<at::Tensor>& reverse_DK = std::nullopt,
                                   LongConvAlgorithm algorithm = LongConvAlgorithm::kAuto);

namespace composed {

/// The meaning of the op in plain, differentiable LibTorch. kFft and kAuto are the published
/// composition: irfft(rfft(u, 2L) rfft(h, 2L))[0..L) + skip u, in the dtype of h.
[[nodiscard]] at::Tensor long_conv(const at::Tensor& u_BDL, const at::Tensor& h_DK,
                                   const std::optional<at::Tensor>& skip_D,
                                   const std::optional<at::Tensor>& reverse_DK = std::nullopt,
                                   LongConvAlgorithm algorithm = LongConvAlgorithm::kFft);

/// (du, dh, dskip, dreverse), the last two undefined where the input is absent. With G the gradient
/// of y: du = h^T G + skip G, dh[s] = sum_b sum_t G[t] u[t-s], dreverse[s] = sum_b sum_t G[t]
/// u[t+s].
[[nodiscard]] std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> long_conv_backward(
    const at::Tensor& dy_BDL, const at::Tensor& u_BDL, const at::Tensor& h_DK,
    const std::optional<at::Tensor>& skip_D, const std::optional<at::Tensor>& reverse_DK);

}  // namespace composed
}  // namespace hyena::ops
