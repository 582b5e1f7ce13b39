#include "hyena/nn/operators/h3.h"

#include <algorithm>

#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/nn/affine.h"
#include "hyena/nn/full_precision.h"
#include "hyena/ops/long_conv.h"

namespace hyena::nn {

H3Impl::H3Impl(const H3Options& options) : options_(options) {
  const std::int64_t D = options.d_model;
  if (options.head_dim < 1 || D % options.head_dim != 0) {
    throw user_error("head_dim: expected a divisor of d_model = {}, got {}", D, options.head_dim);
  }
  const std::int64_t heads = D / options.head_dim;
  q_proj_ = register_module("q_proj", torch::nn::Linear(D, D));
  k_proj_ = register_module("k_proj", torch::nn::Linear(D, D));
  v_proj_ = register_module("v_proj", torch::nn::Linear(D, D));
  out_proj_ = register_module("out_proj", torch::nn::Linear(D, D));
  shift_skip_ = register_parameter("ssm_k_D", at::randn({D}));
  diagonal_skip_ = register_parameter("D", at::randn({heads}));
  const auto group = [&](const char* name) {
    return register_module(name, std::make_shared<torch::nn::Module>(name));
  };
  shift_ = group("ssm_k_kernel")->register_module("kernel", ShiftSsm(1, D, options.d_state));
  diagonal_ = group("kernel")->register_module("kernel", DiagonalSsm(1, heads, options.d_state));
}

at::Tensor H3Impl::mix(const at::Tensor& q_BDL, const at::Tensor& k_BDL, const at::Tensor& v_BDL) {
  const FullPrecision no_autocast;
  const std::int64_t L = k_BDL.size(2);
  const std::int64_t d = options_.head_dim;
  const std::int64_t H = options_.d_model / d;
  const at::Tensor kt = ops::long_conv(k_BDL, shift_->kernel(L).select(0, 0), shift_skip_);
  const at::Tensor h_HL = diagonal_->kernel(L).select(0, 0);
  if (d == 1) {
    return q_BDL * ops::long_conv(kt * v_BDL, h_HL, diagonal_skip_);
  }
  const auto heads = [&](const at::Tensor& x) { return x.unflatten(1, {H, d}); };
  const at::Tensor outer = heads(kt).unsqueeze(3) * heads(v_BDL).unsqueeze(2);  // (B, H, d, d, L)
  const at::Tensor mixed = ops::long_conv(outer.flatten(1, 3), h_HL.repeat_interleave(d * d, 0),
                                          diagonal_skip_.repeat_interleave(d * d))
                               .unflatten(1, {H, d, d});
  return (heads(q_BDL).unsqueeze(3) * mixed).sum(2).flatten(1, 2);
}

at::Tensor H3Impl::forward(const at::Tensor& u_BLD) {
  const auto project = [&](const torch::nn::Linear& layer) {
    return affine(layer, u_BLD).transpose(1, 2);
  };
  const at::Tensor y = mix(project(q_proj_), project(k_proj_), project(v_proj_));
  return affine(out_proj_, y.transpose(1, 2));
}

}  // namespace hyena::nn
