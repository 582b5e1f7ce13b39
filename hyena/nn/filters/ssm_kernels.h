// The convolution kernels of state space models: diagonal (S4D) and shift (H3).
#pragma once

#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace hyena::nn {

/// h[t] = 2 Re sum_n weight[n] exp(t log_pole[n]), t = 0 .. length-1.
///
/// @param weight    Complex, shape (..., D, N).
/// @param log_pole  Complex, shape (..., D, N) or (..., 1, N) when channels share their poles.
/// @return real, shape (..., D, length), of the precision of `weight`.
///
/// With Q = ceil(sqrt(length)) and t = aQ + b, exp(t p) = exp(aQ p) exp(b p): a matrix product of
/// (P, 2N) by (2N, Q) per channel instead of a Vandermonde matrix. Cost 4 D N length FLOP, memory
/// 2 D N sqrt(length). Exponents are formed in float64: in float32 the phase t Im(p) of the last
/// samples would be wrong by length * pi * 2^-24 radians.
[[nodiscard]] at::Tensor diagonal_kernel(const at::Tensor& weight, const at::Tensor& log_pole,
                                         std::int64_t length);

enum class Discretisation : std::uint8_t {
  kBilinear,       ///< Ā = (1 + ΔA/2) / (1 - ΔA/2),  B̄ = Δ B / (1 - ΔA/2)
  kZeroOrderHold,  ///< Ā = exp(ΔA),                  B̄ = (Ā - 1)/A B
};

/// Diagonal state space, h_t = 2 Re sum_{n < N/2} C_n B̄_n Ā_n^t per channel (PAPER 7.1).
///
/// Parameters, (M, D, N/2) where not said otherwise: A = -exp(inv_A_real) + i A_imag, B and C
/// complex as (M, D, N/2, 2), log_dt (M, D); 6 M D N/2 + M D in all.
/// Init (`diag-lin`): A_n = -1/2 + i pi n, B = 1, C standard normal (variance 1/2 in each part),
/// log_dt ~ U(ln 0.001, ln 0.1).
class DiagonalSsmImpl : public torch::nn::Module {
 public:
  /// @throws UserError unless `state` is even and at least 2.
  DiagonalSsmImpl(std::int64_t num_filters, std::int64_t channels, std::int64_t state,
                  Discretisation discretisation = Discretisation::kBilinear);

  [[nodiscard]] at::Tensor kernel(std::int64_t length);  ///< (M, D, length)

 private:
  Discretisation discretisation_;
  at::Tensor inv_A_real_, A_imag_, B_, C_, log_dt_;
};
TORCH_MODULE(DiagonalSsm);

/// The shift state space of H3: h_j = sum_m B_m C_{m+j}, j < N: a learned FIR filter of N taps.
/// Parameters B, C (M, D, N). Init: B = e_1, so that h = C; C ~ U(-1/sqrt(N), 1/sqrt(N)).
class ShiftSsmImpl : public torch::nn::Module {
 public:
  ShiftSsmImpl(std::int64_t num_filters, std::int64_t channels, std::int64_t state);

  [[nodiscard]] at::Tensor kernel(std::int64_t length);  ///< (M, D, min(N, length))

 private:
  at::Tensor B_, C_;
};
TORCH_MODULE(ShiftSsm);

}  // namespace hyena::nn
