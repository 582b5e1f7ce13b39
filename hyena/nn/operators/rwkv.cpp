#include "hyena/nn/operators/rwkv.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <torch/torch.h>

#include "hyena/nn/operators/scan.h"

namespace hyena::nn {

RwkvImpl::RwkvImpl(const RwkvOptions& options) {
  const std::int64_t D = options.d_model;
  const auto matrix = [&](const char* name, const at::Tensor& initial) {
    // Not a Linear: the language model's initialisation must leave it alone.
    return register_module(name, std::make_shared<torch::nn::Module>(name))
        ->register_parameter("weight", initial);
  };
  key_ = matrix("key", at::zeros({D, D}));
  value_ = matrix("value", torch::nn::init::orthogonal_(at::empty({D, D})));
  receptance_ = matrix("receptance", at::zeros({D, D}));
  out_ = matrix("out_proj", at::zeros({D, D}));

  const auto layer = static_cast<double>(options.layer);
  const auto last = static_cast<double>(std::max<std::int64_t>(options.n_layer - 1, 1));
  const double depth = layer / last;                                         // 0 .. 1
  const double height = 1.0 - layer / static_cast<double>(options.n_layer);  // 1 .. > 0
  const at::Tensor h = at::arange(D, at::kFloat);
  const at::Tensor ratio = h / D;
  const at::Tensor ramp = h / std::max<std::int64_t>(D - 1, 1);
  mix_k_ = register_parameter("time_mix_k", at::pow(ratio, height));
  mix_v_ = register_parameter("time_mix_v", at::pow(ratio, height) + 0.3 * depth);
  mix_r_ = register_parameter("time_mix_r", at::pow(ratio, 0.5 * height));
  decay_ = register_parameter("time_decay", -5.0 + 8.0 * at::pow(ramp, 0.7 + 1.3 * depth));
  first_ =
      register_parameter("time_first", std::log(0.3) + 0.5 * (at::remainder(h + 1.0, 3.0) - 1.0));
}

at::Tensor RwkvImpl::forward(const at::Tensor& u_BLD) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const at::Tensor before =
      at::constant_pad_nd(u_BLD.narrow(1, 0, u_BLD.size(1) - 1), {0, 0, 1, 0});
  const auto mixed = [&](const at::Tensor& mix) { return at::lerp(before, u_BLD, mix); };
  const auto wide = [](const at::Tensor& x_BLD) {
    const auto type = x_BLD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    return x_BLD.to(type).transpose(1, 2);
  };
  const at::Tensor k = wide(at::linear(mixed(mix_k_), key_));
  const at::Tensor v = wide(at::linear(mixed(mix_v_), value_));
  const at::Tensor r = at::linear(mixed(mix_r_), receptance_);
  const auto [s, m] = running_mean(k, v, at::exp(decay_));
  const auto wkv =
      merge_means(delayed(s, 1, -kInfinity), delayed(m, 1, 0.0), k + first_.unsqueeze(-1), v);
  return at::linear(at::sigmoid(r) * wkv.second.transpose(1, 2).to(r.scalar_type()), out_);
}

}  // namespace hyena::nn
