#include "hyena/nn/filters/parametrisations.h"

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"

namespace hyena::nn {
namespace {

/// (M, D, S), the shape of most parameters.
std::vector<std::int64_t> shape(const FilterOptions& options) {
  return {options.num_filters, options.channels, options.size};
}

at::Tensor uniform(const std::vector<std::int64_t>& sizes, double bound) {
  return at::empty(sizes).uniform_(-bound, bound);
}

}  // namespace

const std::vector<std::string>& filter_names() {
  static const std::vector<std::string> names{
      "hyena", "conv1d", "fno", "s4d", "shift", "transfer_function", "ckconv", "long_conv"};
  return names;
}

SkippedFilter::SkippedFilter(const FilterOptions& options) : options_(options) {
  const auto at_least_one = [](const char* name, std::int64_t value) {
    if (value < 1) {
      throw user_error("{}: expected at least 1, got {}", name, value);
    }
  };
  at_least_one("d_model", options.channels);
  at_least_one("l_max", options.l_max);
  at_least_one("filter_size", options.size);
  at_least_one("filter_order", options.width);
  bias_ = register_parameter("bias", at::randn({options.num_filters, options.channels}));
}

at::Tensor SkippedFilter::filters(std::int64_t length) {
  if (length > options_.l_max) {
    throw user_error(
        "sequence of {} positions is longer than the model's l_max = {}: the filter "
        "does not exist beyond it",
        length, options_.l_max);
  }
  return taps(length);
}

Conv1dFilter::Conv1dFilter(const FilterOptions& options) : SkippedFilter(options) {
  weight_ = register_parameter(
      "weight", at::randn(shape(options)) / std::sqrt(static_cast<double>(options.size)));
}

at::Tensor Conv1dFilter::taps(std::int64_t length) {
  return weight_.narrow(-1, 0, std::min(options().size, length));
}

FnoFilter::FnoFilter(const FilterOptions& options) : SkippedFilter(options) {
  if (options.size > options.l_max / 2 + 1) {
    throw user_error("filter_size: expected at most l_max/2 + 1 = {} modes, got {}",
                     options.l_max / 2 + 1, options.size);
  }
  auto sizes = shape(options);
  sizes.push_back(2);
  modes_ =
      register_parameter("modes", at::randn(sizes) / std::sqrt(static_cast<double>(options.size)));
}

at::Tensor FnoFilter::taps(std::int64_t length) {
  return at::fft_irfft(at::view_as_complex(modes_), options().l_max).narrow(-1, 0, length);
}

S4dFilter::S4dFilter(const FilterOptions& options) : SkippedFilter(options) {
  kernel_ =
      register_module("kernel", DiagonalSsm(options.num_filters, options.channels, options.size));
}

at::Tensor S4dFilter::taps(std::int64_t length) {
  return kernel_->kernel(length);
}

ShiftFilter::ShiftFilter(const FilterOptions& options) : SkippedFilter(options) {
  kernel_ =
      register_module("kernel", ShiftSsm(options.num_filters, options.channels, options.size));
}

at::Tensor ShiftFilter::taps(std::int64_t length) {
  return kernel_->kernel(length);
}

TransferFunctionFilter::TransferFunctionFilter(const FilterOptions& options)
    : SkippedFilter(options) {
  if (options.size >= 2 * options.l_max) {
    throw user_error("filter_size: expected an order below 2 l_max = {}, got {}", 2 * options.l_max,
                     options.size);
  }
  b_ = register_parameter("b", at::randn(shape(options)));
  a_ = register_parameter("a", at::randn(shape(options)));
}

at::Tensor TransferFunctionFilter::taps(std::int64_t length) {
  const std::int64_t n = 2 * options().l_max;
  const at::Tensor denominator = at::cat({at::ones_like(a_.narrow(-1, 0, 1)), a_}, -1);
  return at::fft_irfft(at::fft_rfft(b_, n) / at::fft_rfft(denominator, n), n).narrow(-1, 0, length);
}

CkConvFilter::CkConvFilter(const FilterOptions& options) : SkippedFilter(options) {
  const std::int64_t W = options.width;
  const std::array<std::int64_t, 4> widths{1, W, W, options.num_filters * options.channels};
  auto group = register_module("layers", std::make_shared<torch::nn::Module>("layers"));
  for (std::size_t i = 0; i < 3; ++i) {
    auto module =
        group->register_module(std::to_string(i), std::make_shared<torch::nn::Module>("layer"));
    const double bound = i == 0 ? 1.0 : std::sqrt(6.0 / static_cast<double>(W)) / options.omega;
    Layer layer;
    layer.v = module->register_parameter("v", uniform({widths[i + 1], widths[i]}, bound));
    layer.g = module->register_parameter("g", layer.v.detach().norm(2, 1, /*keepdim=*/true));
    layer.bias = module->register_parameter("bias", uniform({widths[i + 1]}, 1.0));
    layers_.push_back(layer);
  }
  omega_ = register_buffer("omega", at::full({W}, options.omega));
}

at::Tensor CkConvFilter::taps(std::int64_t length) {
  const at::Tensor position = at::linspace(-1, 1, options().l_max, omega_.options()).unsqueeze(1);
  std::vector<at::Tensor> weights;
  for (const Layer& layer : layers_) {
    weights.push_back(layer.v * (layer.g / layer.v.norm(2, 1, /*keepdim=*/true)));
  }
  const std::int64_t M = options().num_filters;
  const auto layout = ops::ChannelLayout::kStandalone;
  const at::Tensor h =
      ops::implicit_filter(position.narrow(0, 0, length), weights,
                           {layers_[0].bias, layers_[1].bias}, omega_, {}, M, layout);
  return h + ops::split_channels(layers_[2].bias, M, layout).unsqueeze(-1);
}

ExplicitFilter::ExplicitFilter(const FilterOptions& options) : SkippedFilter(options) {
  if (!(options.threshold >= 0.0)) {
    throw user_error("kernel_threshold: expected at least 0, got {}", options.threshold);
  }
  const auto D = static_cast<double>(options.channels);
  const at::Tensor rate = at::pow(D / 2.0, at::arange(options.channels, at::kFloat) / D);
  const at::Tensor time = at::arange(options.l_max, at::kFloat) / options.l_max;
  kernel_ = register_parameter(
      "kernel", 0.02 * at::randn({options.num_filters, options.channels, options.l_max}) *
                    at::exp(-rate.unsqueeze(1) * time));
}

at::Tensor ExplicitFilter::taps(std::int64_t length) {
  const at::Tensor k = kernel_.narrow(-1, 0, length);
  const at::Tensor squashed = at::sign(k) * at::relu(at::abs(k) - options().threshold);
  return options().dropout > 0.0 ? at::dropout(squashed, options().dropout, is_training())
                                 : squashed;
}

std::shared_ptr<LongFilter> make_filter(const std::string& name, const HyenaFilterOptions& hyena,
                                        const FilterOptions& other) {
  if (name == "hyena") return std::make_shared<HyenaFilterImpl>(hyena);
  if (name == "conv1d") return std::make_shared<Conv1dFilter>(other);
  if (name == "fno") return std::make_shared<FnoFilter>(other);
  if (name == "s4d") return std::make_shared<S4dFilter>(other);
  if (name == "shift") return std::make_shared<ShiftFilter>(other);
  if (name == "transfer_function") return std::make_shared<TransferFunctionFilter>(other);
  if (name == "ckconv") return std::make_shared<CkConvFilter>(other);
  if (name == "long_conv") return std::make_shared<ExplicitFilter>(other);
  throw user_error("filter: expected one of {}, got '{}'{}", fmt::join(filter_names(), ", "), name,
                   did_you_mean(name, filter_names()));
}

}  // namespace hyena::nn
