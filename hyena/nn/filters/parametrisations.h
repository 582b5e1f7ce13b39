// The long-convolution parametrisations that the paper compares with its own (PAPER 7.1).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hyena/nn/filters/hyena_filter.h"
#include "hyena/nn/filters/long_filter.h"
#include "hyena/nn/filters/ssm_kernels.h"

namespace hyena::nn {

/// hyena, conv1d, fno, s4d, shift, transfer_function, ckconv, long_conv.
[[nodiscard]] const std::vector<std::string>& filter_names();

/// Sizes of every parametrisation but Hyena's.
struct FilterOptions {
  std::int64_t channels = 64;    ///< D
  std::int64_t num_filters = 1;  ///< M
  std::int64_t l_max = 1024;
  std::int64_t size = 64;    ///< S: taps, modes, states or polynomial order; not of the last two
  std::int64_t width = 32;   ///< W of ckconv
  double omega = 10.0;       ///< sine frequency of ckconv
  double threshold = 0.003;  ///< lambda of long_conv's soft threshold
  double dropout = 0.0;      ///< of long_conv's taps, in training
};

/// A filter with one skip weight per channel: parameter bias (M, D) ~ N(0, 1).
class SkippedFilter : public LongFilter {
 public:
  /// @throws UserError for a size below 1.
  explicit SkippedFilter(const FilterOptions& options);
  [[nodiscard]] at::Tensor filters(std::int64_t length) final;
  [[nodiscard]] at::Tensor skip() override { return bias_; }

 protected:
  /// filters() for a length in [1, l_max].
  [[nodiscard]] virtual at::Tensor taps(std::int64_t length) = 0;
  [[nodiscard]] const FilterOptions& options() const { return options_; }

 private:
  FilterOptions options_;
  at::Tensor bias_;
};

/// Explicit FIR filter: h_s = weight_s for s < S. Parameters M D S. Init randn / sqrt(S).
class Conv1dFilter : public SkippedFilter {
 public:
  explicit Conv1dFilter(const FilterOptions& options);

 protected:
  [[nodiscard]] at::Tensor taps(std::int64_t length) override;

 private:
  at::Tensor weight_;  // (M, D, S)
};

/// Fourier neural operator made causal: with n = l_max and R_k, k < S, learned,
///     h_s = 1/n Re(R_0 + 2 sum_{0<k<S} R_k exp(2 pi i k s / n))
/// (a mode at n/2 counts once), cut to the input's length and applied without wrapping around.
/// Parameters modes (M, D, S, 2): 2 M D S. Init: both parts randn / sqrt(S).
/// @throws UserError if S > l_max/2 + 1.
class FnoFilter : public SkippedFilter {
 public:
  explicit FnoFilter(const FilterOptions& options);

 protected:
  [[nodiscard]] at::Tensor taps(std::int64_t length) override;

 private:
  at::Tensor modes_;
};

/// Diagonal state space of S states (ssm_kernels.h), bilinear. Parameters kernel.*: 3 M D S + M D.
class S4dFilter : public SkippedFilter {
 public:
  explicit S4dFilter(const FilterOptions& options);

 protected:
  [[nodiscard]] at::Tensor taps(std::int64_t length) override;

 private:
  DiagonalSsm kernel_{nullptr};
};

/// Shift state space of S states (ssm_kernels.h). Parameters kernel.{B, C}: 2 M D S.
class ShiftFilter : public SkippedFilter {
 public:
  explicit ShiftFilter(const FilterOptions& options);

 protected:
  [[nodiscard]] at::Tensor taps(std::int64_t length) override;

 private:
  ShiftSsm kernel_{nullptr};
};

/// Rational transfer function of order S on the unit circle:
///     H_j = FFT_n(b)_j / FFT_n([1, a])_j ;  h = the first taps of IFFT_n(H),   n = 2 l_max.
/// Poles outside the circle give a two-sided response, whose past half lies in the part that is
/// cut off. Parameters b, a (M, D, S): 2 M D S. Init randn. @throws UserError if S >= 2 l_max.
class TransferFunctionFilter : public SkippedFilter {
 public:
  explicit TransferFunctionFilter(const FilterOptions& options);

 protected:
  [[nodiscard]] at::Tensor taps(std::int64_t length) override;

 private:
  at::Tensor b_, a_;
};

/// CKConv: a sine network of the position tau_s = -1 + 2s/(l_max-1), without window:
///     h = V_3 sin(omega (V_2 sin(omega (V_1 tau + b_1)) + b_2)) + b_3
/// every row of V_i normalised and scaled by g_i (weight normalisation). Parameters
/// layers.{0,1,2}.{v, g, bias} with C = M D: 3W + W^2 + 2W + C W + 2C.
/// Init (SIREN): v_1 ~ U(-1, 1), else U(+-sqrt(6/W)/omega); g = |v|; biases U(-1, 1).
class CkConvFilter : public SkippedFilter {
 public:
  explicit CkConvFilter(const FilterOptions& options);

 protected:
  [[nodiscard]] at::Tensor taps(std::int64_t length) override;

 private:
  struct Layer {
    at::Tensor v, g, bias;  // (out, in), (out, 1), (out)
  };
  std::vector<Layer> layers_;
  at::Tensor omega_;  // buffer (W)
};

/// Every tap learned, squashed: h = sign(k) max(|k| - lambda, 0) with kernel dropout in training.
/// Parameter kernel (M, D, l_max): grows with the length. Init (`double_exp`):
/// 0.02 randn exp(-(s/l_max) (D/2)^(d/D)): later channels decay faster.
class ExplicitFilter : public SkippedFilter {
 public:
  explicit ExplicitFilter(const FilterOptions& options);

 protected:
  [[nodiscard]] at::Tensor taps(std::int64_t length) override;

 private:
  at::Tensor kernel_;
};

/// The parametrisation `name`; sizes from `hyena` for "hyena", else from `other`.
/// @throws UserError for an unknown name or options out of range.
[[nodiscard]] std::shared_ptr<LongFilter> make_filter(const std::string& name,
                                                      const HyenaFilterOptions& hyena,
                                                      const FilterOptions& other);

}  // namespace hyena::nn
