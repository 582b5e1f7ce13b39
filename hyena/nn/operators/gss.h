// GSS: a gated state space model.
#pragma once

#include <cstdint>
#include <string>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "hyena/nn/operators/mixer.h"

namespace hyena::nn {

struct GssOptions {
  std::int64_t d_model = 64;
  std::int64_t d_state = 512;  ///< N, complex modes shared by all channels
  std::int64_t expansion = 4;  ///< the gate has expansion * d_model channels
  std::string activation = "gelu";
};

/// y = out_proj( W_3 SSM(GELU(W_2 u)) . GELU(W_1 u) ), all linear layers with biases (PAPER 7.2).
/// The SSM works on d_model channels with
///
///     h[d,t] = Re sum_{n<N} C[d,n] (exp(Lambda_n) - 1)/Lambda_n exp(Lambda_n t),
///     Lambda = -exp(Lambda_real) + i exp(Lambda_imag)
///
/// and a skip D per channel; Lambda_real, Lambda_imag (N), C (D, N, 2) and D start N(0, 1).
/// Without activations, expansion 1 and W_3 = 1 the core is Hyena of order 1 in paper mode.
class GssImpl : public Mixer {
 public:
  explicit GssImpl(const GssOptions& options);

  [[nodiscard]] at::Tensor forward(const at::Tensor& u_BLD) override;

  [[nodiscard]] at::Tensor kernel(std::int64_t length);  ///< h, shape (D, length)

 private:
  GssOptions options_;
  torch::nn::Linear gate_proj_{nullptr}, in_proj_{nullptr}, state_proj_{nullptr},
      out_proj_{nullptr};
  at::Tensor Lambda_real_, Lambda_imag_, C_, skip_;
};
TORCH_MODULE(Gss);

}  // namespace hyena::nn
