// H3: two state space models and two gates.
#pragma once

#include <cstdint>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "hyena/nn/filters/ssm_kernels.h"
#include "hyena/nn/operators/mixer.h"

namespace hyena::nn {

struct H3Options {
  std::int64_t d_model = 64;
  std::int64_t d_state = 64;  ///< of the shift (taps) and of the diagonal SSM
  std::int64_t head_dim = 1;  ///< d, divides d_model
};

/// With q, k, v linear in u (PAPER 7.2) and per head of d channels:
///
///     kt = K_shift * k + ssm_k_D k ;   y = out_proj( q (K_diag * (kt v^T) + D kt v^T) )
///
/// kt v^T are the d x d outer products of a head; they share one diagonal kernel and are summed
/// over kt's index against q. No scaling. With d = 1 this is Hyena of order 2 in paper mode with
/// h^1 = K_shift + ssm_k_D delta, h^2 = K_diag + D delta (Remark 3.2).
///
/// Parameters carry the published names except out_proj (output_linear): {q,k,v}_proj, out_proj,
/// ssm_k_D (D), D (D/d), ssm_k_kernel.kernel.*, kernel.kernel.*. D and ssm_k_D start N(0, 1).
class H3Impl : public Mixer {
 public:
  /// @throws UserError unless head_dim divides d_model.
  explicit H3Impl(const H3Options& options);

  [[nodiscard]] at::Tensor forward(const at::Tensor& u_BLD) override;

  /// q (K_diag * (kt v) + D kt v) for projections of shape (B, D, L).
  [[nodiscard]] at::Tensor mix(const at::Tensor& q_BDL, const at::Tensor& k_BDL,
                               const at::Tensor& v_BDL);

 private:
  H3Options options_;
  torch::nn::Linear q_proj_{nullptr}, k_proj_{nullptr}, v_proj_{nullptr}, out_proj_{nullptr};
  ShiftSsm shift_{nullptr};
  DiagonalSsm diagonal_{nullptr};
  at::Tensor shift_skip_;     // (D)
  at::Tensor diagonal_skip_;  // (D/d)
};
TORCH_MODULE(H3);

}  // namespace hyena::nn
