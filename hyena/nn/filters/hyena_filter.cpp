#include "hyena/nn/filters/hyena_filter.h"

#include <cmath>
#include <numbers>
#include <string>

#include <torch/torch.h>

#include "hyena/base/error.h"

namespace hyena::nn {
namespace {

void check(const HyenaFilterOptions& options) {
  const auto at_least_one = [](const char* name, std::int64_t value) {
    if (value < 1) {
      throw user_error("{}: expected at least 1, got {}", name, value);
    }
  };
  at_least_one("d_model", options.channels);
  at_least_one("l_max", options.l_max);
  at_least_one("filter_order", options.filter_order);
  if (options.emb_dim < 3 || options.emb_dim % 2 == 0) {
    throw user_error("emb_dim: expected an odd number of at least 3 (time, cosines, sines), got {}",
                     options.emb_dim);
  }
  if (options.num_inner_mlps < 0) {
    throw user_error("num_inner_mlps: expected at least 0, got {}", options.num_inner_mlps);
  }
}

}  // namespace

at::Tensor positional_features(std::int64_t l_max, std::int64_t emb_dim) {
  const std::int64_t K = (emb_dim - 1) / 2;
  const at::Tensor t = at::linspace(0, 1, l_max).view({1, l_max, 1});
  const at::Tensor n = at::linspace(0, static_cast<double>(l_max - 1), l_max).view({1, l_max, 1});
  const at::Tensor w = 2.0 * std::numbers::pi * n / l_max;
  const at::Tensor f = at::linspace(1e-4, static_cast<double>(K - 1), K).view({1, 1, K});
  return at::cat({t, at::cos(f * w), -at::sin(f * w)}, /*dim=*/2);
}

at::Tensor decay_ramp(const HyenaFilterOptions& options) {
  const double log_target = std::log(options.target);
  const std::int64_t C = options.channels * options.num_filters;
  return at::linspace(log_target / options.slow_decay_pct, log_target / options.fast_decay_pct, C)
      .view({1, 1, C});
}

HyenaFilterImpl::HyenaFilterImpl(const HyenaFilterOptions& options) : options_(options) {
  check(options);
  const std::int64_t C = options.channels * options.num_filters;
  const std::int64_t W = options.filter_order;
  bias_ = register_parameter("bias", at::randn({C}));

  auto pos_emb = register_module("pos_emb", std::make_shared<torch::nn::Module>("pos_emb"));
  const at::Tensor z = positional_features(options.l_max, options.emb_dim);
  z_ = options.train_features ? pos_emb->register_parameter("z", z)
                              : pos_emb->register_buffer("z", z);
  t_ = pos_emb->register_buffer("t", at::linspace(0, 1, options.l_max).view({1, options.l_max, 1}));

  auto mlp =
      register_module("implicit_filter", std::make_shared<torch::nn::Module>("implicit_filter"));
  const std::int64_t sines = options.num_inner_mlps + 1;
  for (std::int64_t i = 0; i <= sines; ++i) {
    const auto linear =
        torch::nn::LinearOptions(i == 0 ? options.emb_dim : W, i == sines ? C : W).bias(i != sines);
    layers_.emplace_back(mlp->register_module(std::to_string(2 * i), torch::nn::Linear(linear)));
    if (i == 0) {
      auto sine = mlp->register_module("1", std::make_shared<torch::nn::Module>("sine"));
      freq_ = sine->register_parameter("freq", at::full({1, W}, options.w));
    }
  }

  auto modulation =
      register_module("modulation", std::make_shared<torch::nn::Module>("modulation"));
  const at::Tensor deltas = decay_ramp(options);
  deltas_ = options.train_decay ? modulation->register_parameter("deltas", deltas)
                                : modulation->register_buffer("deltas", deltas);
}

at::Tensor HyenaFilterImpl::filters(std::int64_t length) {
  if (length > options_.l_max) {
    throw user_error(
        "sequence of {} positions is longer than the model's l_max = {}: the filter "
        "does not exist beyond it",
        length, options_.l_max);
  }
  std::vector<at::Tensor> weights;
  std::vector<at::Tensor> biases;
  for (const auto& layer : layers_) {
    weights.push_back(layer->weight);
    if (layer->bias.defined()) {
      biases.push_back(layer->bias);
    }
  }
  ops::FilterWindow window{.shift = options_.shift, .normalized = options_.normalized};
  if (options_.modulate) {
    window.t_K = t_.select(0, 0).select(1, 0).narrow(0, 0, length);
    window.deltas_C = deltas_.view({-1});
  }
  return ops::implicit_filter(z_.select(0, 0).narrow(0, 0, length), weights, biases,
                              freq_.view({-1}), window, options_.num_filters, options_.layout);
}

at::Tensor HyenaFilterImpl::skip() {
  return options_.bias ? ops::split_channels(bias_, options_.num_filters, options_.layout)
                       : at::Tensor();
}

}  // namespace hyena::nn
