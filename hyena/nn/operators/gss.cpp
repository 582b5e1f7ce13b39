#include "hyena/nn/operators/gss.h"

#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/nn/affine.h"
#include "hyena/nn/filters/ssm_kernels.h"
#include "hyena/nn/full_precision.h"
#include "hyena/nn/operators/activation.h"
#include "hyena/ops/long_conv.h"

namespace hyena::nn {

GssImpl::GssImpl(const GssOptions& options) : options_(options) {
  const std::int64_t D = options.d_model;
  const std::int64_t N = options.d_state;
  if (N < 1 || options.expansion < 1) {
    throw user_error("d_state and expansion: expected at least 1, got {} and {}", N,
                     options.expansion);
  }
  check_activation(options.activation);
  const std::int64_t wide = options.expansion * D;
  gate_proj_ = register_module("gate_proj", torch::nn::Linear(D, wide));
  in_proj_ = register_module("in_proj", torch::nn::Linear(D, D));
  state_proj_ = register_module("state_proj", torch::nn::Linear(D, wide));
  out_proj_ = register_module("out_proj", torch::nn::Linear(wide, D));
  Lambda_real_ = register_parameter("Lambda_real", at::randn({N}));
  Lambda_imag_ = register_parameter("Lambda_imag", at::randn({N}));
  C_ = register_parameter("C", at::randn({D, N, 2}));
  skip_ = register_parameter("D", at::randn({D}));
}

at::Tensor GssImpl::kernel(std::int64_t length) {
  const FullPrecision no_autocast;
  const at::Tensor Lambda =
      at::complex(-at::exp(Lambda_real_.to(at::kDouble)), at::exp(Lambda_imag_.to(at::kDouble)));
  const at::Tensor C = at::view_as_complex(C_);
  const at::Tensor weight = C * ((at::exp(Lambda) - 1.0) / Lambda).to(C.scalar_type());
  return 0.5 * diagonal_kernel(weight, Lambda.unsqueeze(0), length);
}

at::Tensor GssImpl::forward(const at::Tensor& u_BLD) {
  const at::Tensor gate = activate(options_.activation, affine(gate_proj_, u_BLD));
  const at::Tensor v_BDL = activate(options_.activation, affine(in_proj_, u_BLD)).transpose(1, 2);
  const at::Tensor s_BDL = ops::long_conv(v_BDL, kernel(u_BLD.size(1)), skip_);
  return affine(out_proj_, affine(state_proj_, s_BDL.transpose(1, 2)) * gate);
}

}  // namespace hyena::nn
