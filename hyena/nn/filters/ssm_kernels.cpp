#include "hyena/nn/filters/ssm_kernels.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <torch/torch.h>

#include "hyena/base/error.h"

namespace hyena::nn {

at::Tensor diagonal_kernel(const at::Tensor& weight, const at::Tensor& log_pole,
                           std::int64_t length) {
  const auto Q = static_cast<std::int64_t>(std::ceil(std::sqrt(static_cast<double>(length))));
  const std::int64_t P = (length + Q - 1) / Q;
  const at::Tensor p = log_pole.to(at::kComplexDouble);
  const auto steps = [&](std::int64_t count) {
    return at::arange(count, at::TensorOptions(at::kDouble).device(p.device()));
  };
  const auto type = weight.scalar_type();
  const at::Tensor coarse = at::exp(p.unsqueeze(-2) * (steps(P) * Q).unsqueeze(-1)).to(type);
  const at::Tensor left = weight.unsqueeze(-2) * coarse;                  // (.., D, P, N)
  const at::Tensor right = at::exp(p.unsqueeze(-1) * steps(Q)).to(type);  // (.., D, N, Q)
  const at::Tensor left_parts = at::cat({at::real(left), -at::imag(left)}, -1);
  const at::Tensor right_parts = at::cat({at::real(right), at::imag(right)}, -2);
  return 2.0 * at::matmul(left_parts, right_parts).flatten(-2).narrow(-1, 0, length);
}

DiagonalSsmImpl::DiagonalSsmImpl(std::int64_t num_filters, std::int64_t channels,
                                 std::int64_t state, Discretisation discretisation)
    : discretisation_(discretisation) {
  if (state < 2 || state % 2 != 0) {
    throw user_error("state size: expected an even number of at least 2, got {}", state);
  }
  const std::int64_t M = num_filters;
  const std::int64_t D = channels;
  const std::int64_t modes = state / 2;
  inv_A_real_ = register_parameter("inv_A_real", at::full({M, D, modes}, std::log(0.5)));
  A_imag_ = register_parameter(
      "A_imag", (std::numbers::pi * at::arange(modes, at::kFloat)).repeat({M, D, 1}));
  B_ = register_parameter("B", at::tensor({1.0F, 0.0F}).repeat({M, D, modes, 1}));
  C_ = register_parameter("C", at::randn({M, D, modes, 2}) * std::sqrt(0.5));
  log_dt_ =
      register_parameter("log_dt", at::empty({M, D}).uniform_(std::log(0.001), std::log(0.1)));
}

at::Tensor DiagonalSsmImpl::kernel(std::int64_t length) {
  // Discretised in float64: the pole of a slow channel lies within 1e-3 of the unit circle.
  const at::Tensor A = at::complex(-at::exp(inv_A_real_.to(at::kDouble)), A_imag_.to(at::kDouble));
  const at::Tensor dt = at::exp(log_dt_.to(at::kDouble)).unsqueeze(-1);
  const at::Tensor BC = at::view_as_complex(B_) * at::view_as_complex(C_);
  const at::Tensor dtA = dt * A;
  at::Tensor log_pole;
  at::Tensor input;  // B̄ / B
  if (discretisation_ == Discretisation::kBilinear) {
    log_pole = at::log((1.0 + 0.5 * dtA) / (1.0 - 0.5 * dtA));
    input = dt / (1.0 - 0.5 * dtA);
  } else {
    log_pole = dtA;
    input = (at::exp(dtA) - 1.0) / A;
  }
  return diagonal_kernel(BC * input.to(BC.scalar_type()), log_pole, length);
}

ShiftSsmImpl::ShiftSsmImpl(std::int64_t num_filters, std::int64_t channels, std::int64_t state) {
  if (state < 1) {
    throw user_error("state size: expected at least 1, got {}", state);
  }
  const double bound = 1.0 / std::sqrt(static_cast<double>(state));
  const at::Tensor first = at::zeros({num_filters, channels, state});
  first.select(-1, 0).fill_(1.0);
  B_ = register_parameter("B", first);
  C_ = register_parameter("C", at::empty({num_filters, channels, state}).uniform_(-bound, bound));
}

at::Tensor ShiftSsmImpl::kernel(std::int64_t length) {
  const std::int64_t N = C_.size(-1);
  const at::Tensor product = at::conj(at::fft_rfft(B_, 2 * N)) * at::fft_rfft(C_, 2 * N);
  return at::fft_irfft(product, 2 * N).narrow(-1, 0, std::min(N, length));
}

}  // namespace hyena::nn
