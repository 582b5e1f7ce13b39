#include "hyena/ops/implicit_filter.h"

#include <string>
#include <tuple>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "hyena/ops/check.h"
#include "hyena/ops/cpu_implicit_filter.h"
#include "hyena/ops/cuda_implicit_filter.h"

namespace hyena::ops {
namespace {

/// (K, C) as (M, D, K).
at::Tensor to_filters(const at::Tensor& h_KC, std::int64_t M, ChannelLayout layout) {
  const std::int64_t K = h_KC.size(0);
  const std::int64_t D = h_KC.size(1) / M;
  return layout == ChannelLayout::kSafari ? h_KC.view({K, D, M}).permute({2, 1, 0})
                                          : h_KC.view({K, M, D}).permute({1, 2, 0});
}

/// The inverse of to_filters.
at::Tensor from_filters(const at::Tensor& h_MDK, ChannelLayout layout) {
  const std::int64_t C = h_MDK.size(0) * h_MDK.size(1);
  const at::Tensor permuted =
      layout == ChannelLayout::kSafari ? h_MDK.permute({2, 1, 0}) : h_MDK.permute({2, 0, 1});
  return permuted.reshape({h_MDK.size(2), C});
}

bool has_window(const FilterWindow& window) {
  return window.deltas_C.defined();
}

/// exp(-t |delta|) without the shift, shape (K, C).
at::Tensor decay(const FilterWindow& window) {
  return at::exp(-window.t_K.unsqueeze(1) * window.deltas_C.abs().unsqueeze(0));
}

}  // namespace

std::string_view to_string(ChannelLayout layout) {
  return layout == ChannelLayout::kSafari ? "safari" : "standalone";
}

ChannelLayout channel_layout(std::string_view name) {
  TORCH_CHECK_VALUE(name == "safari" || name == "standalone",
                    "[implicit_filter] layout: expected 'safari' or 'standalone', got '", name,
                    "'.");
  return name == "safari" ? ChannelLayout::kSafari : ChannelLayout::kStandalone;
}

at::Tensor split_channels(const at::Tensor& x_C, std::int64_t M, ChannelLayout layout) {
  const std::int64_t D = x_C.numel() / M;
  return layout == ChannelLayout::kSafari ? x_C.view({D, M}).t() : x_C.view({M, D});
}

namespace composed {

at::Tensor implicit_filter(const at::Tensor& z_KE, const std::vector<at::Tensor>& weights,
                           const std::vector<at::Tensor>& biases, const at::Tensor& freq_W,
                           const FilterWindow& window, std::int64_t M, ChannelLayout layout) {
  at::Tensor a = z_KE;
  for (std::size_t i = 0; i + 1 < weights.size(); ++i) {
    a = at::sin(freq_W * at::linear(a, weights[i], biases[i]));
  }
  at::Tensor h = at::linear(a, weights.back());
  if (has_window(window)) {
    h = h * (decay(window) + window.shift);
  }
  if (window.normalized) {
    h = h / h.abs().sum(1, /*keepdim=*/true);
  }
  return to_filters(h, M, layout);
}

ImplicitFilterGradients implicit_filter_backward(const at::Tensor& dh_MDK, const at::Tensor& z_KE,
                                                 const std::vector<at::Tensor>& weights,
                                                 const std::vector<at::Tensor>& biases,
                                                 const at::Tensor& freq_W,
                                                 const FilterWindow& window, std::int64_t M,
                                                 ChannelLayout layout) {
  static_cast<void>(M);
  const std::size_t sines = weights.size() - 1;
  std::vector<at::Tensor> linear(sines);          // before the frequency
  std::vector<at::Tensor> activation(sines + 1);  // activation[0] = z
  activation[0] = z_KE;
  for (std::size_t i = 0; i < sines; ++i) {
    linear[i] = at::linear(activation[i], weights[i], biases[i]);
    activation[i + 1] = at::sin(freq_W * linear[i]);
  }
  const at::Tensor product = at::linear(activation[sines], weights.back());

  ImplicitFilterGradients gradients;
  at::Tensor dh = from_filters(dh_MDK, layout);
  const at::Tensor decay_KC = has_window(window) ? decay(window) : at::Tensor();
  if (window.normalized) {
    const at::Tensor g = has_window(window) ? product * (decay_KC + window.shift) : product;
    const at::Tensor norm = g.abs().sum(1, /*keepdim=*/true);
    dh = (dh - at::sign(g) * (dh * g).sum(1, /*keepdim=*/true) / norm) / norm;
  }
  if (has_window(window)) {
    const at::Tensor ddecay = (dh * product * decay_KC * -window.t_K.unsqueeze(1)).sum(0);
    gradients.deltas_C = ddecay * at::sign(window.deltas_C);
    dh = dh * (decay_KC + window.shift);
  }

  gradients.weights.resize(weights.size());
  gradients.biases.resize(sines);
  gradients.freq_W = at::zeros_like(freq_W);
  gradients.weights.back() = dh.t().mm(activation[sines]);
  at::Tensor da = dh.mm(weights.back());
  for (std::size_t i = sines; i-- > 0;) {
    const at::Tensor dphase = da * at::cos(freq_W * linear[i]);
    gradients.freq_W += (dphase * linear[i]).sum(0);
    const at::Tensor dlinear = dphase * freq_W;
    gradients.weights[i] = dlinear.t().mm(activation[i]);
    gradients.biases[i] = dlinear.sum(0);
    da = dlinear.mm(weights[i]);
  }
  gradients.z_KE = da;
  return gradients;
}

}  // namespace composed

namespace {

using OptionalTensor = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, std::vector<at::Tensor>, std::vector<at::Tensor>,
                             at::Tensor, at::Tensor>;

void check(const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
           const at::Tensor& freq_W, const FilterWindow& window, std::int64_t M) {
  constexpr const char* kOp = "implicit_filter";
  check_shape(kOp, "z", z_KE, {{"K", kAny}, {"E", kAny}});
  TORCH_CHECK_VALUE(z_KE.scalar_type() == at::kFloat || z_KE.scalar_type() == at::kDouble,
                    "[implicit_filter] z: expected float32 or float64, got ", z_KE.scalar_type(),
                    ".");
  TORCH_CHECK_VALUE(weights.size() >= 2 && biases.size() + 1 == weights.size(),
                    "[implicit_filter] weights: expected at least two, and a bias for every one "
                    "but the last, got ",
                    weights.size(), " weights and ", biases.size(), " biases.");
  const std::int64_t K = z_KE.size(0);
  const std::int64_t W = freq_W.numel();
  check_shape(kOp, "freq", freq_W, {{"W", W}});
  check_parameter(kOp, "freq", freq_W, z_KE);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const std::string name = "weights[" + std::to_string(i) + "]";
    const bool last = i + 1 == weights.size();
    check_shape(
        kOp, name, weights[i],
        {{last ? "C" : "W", last ? kAny : W}, {i == 0 ? "E" : "W", i == 0 ? z_KE.size(1) : W}});
    check_parameter(kOp, name, weights[i], z_KE);
    if (!last) {
      const std::string bias = "biases[" + std::to_string(i) + "]";
      check_shape(kOp, bias, biases[i], {{"W", W}});
      check_parameter(kOp, bias, biases[i], z_KE);
    }
  }
  const std::int64_t C = weights[weights.size() - 1].size(0);
  TORCH_CHECK_VALUE(M >= 1 && C % M == 0,
                    "[implicit_filter] num_filters: expected a divisor of C=", C, ", got ", M, ".");
  TORCH_CHECK_VALUE(window.t_K.defined() == window.deltas_C.defined(),
                    "[implicit_filter] t and deltas: expected both or neither.");
  if (has_window(window)) {
    check_shape(kOp, "t", window.t_K, {{"K", K}});
    check_parameter(kOp, "t", window.t_K, z_KE);
    check_shape(kOp, "deltas", window.deltas_C, {{"C", C}});
    check_parameter(kOp, "deltas", window.deltas_C, z_KE);
  }
}

FilterWindow window_of(const OptionalTensor& t_K, const OptionalTensor& deltas_C, double shift,
                       bool normalized) {
  return {t_K.value_or(at::Tensor()), deltas_C.value_or(at::Tensor()), shift, normalized};
}

at::Tensor forward(const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
                   const at::Tensor& freq_W, const OptionalTensor& t_K,
                   const OptionalTensor& deltas_C, double shift, bool normalized, std::int64_t M,
                   c10::string_view layout) {
  const FilterWindow window = window_of(t_K, deltas_C, shift, normalized);
  check(z_KE, weights, biases, freq_W, window, M);
  if (cpu::supports_filter(z_KE, weights, window)) {
    return cpu::implicit_filter(z_KE, weights, biases, freq_W, window, M, channel_layout(layout));
  }
  if (cuda::supports_filter(z_KE, weights, window)) {
    return cuda::implicit_filter(z_KE, weights, biases, freq_W, window, M, channel_layout(layout));
  }
  return composed::implicit_filter(z_KE, weights.vec(), biases.vec(), freq_W, window, M,
                                   channel_layout(layout))
      .contiguous();
}

Gradients backward(const at::Tensor& dh_MDK, const at::Tensor& z_KE, at::TensorList weights,
                   at::TensorList biases, const at::Tensor& freq_W, const OptionalTensor& t_K,
                   const OptionalTensor& deltas_C, double shift, bool normalized, std::int64_t M,
                   c10::string_view layout) {
  const FilterWindow window = window_of(t_K, deltas_C, shift, normalized);
  check(z_KE, weights, biases, freq_W, window, M);
  check_gradient("implicit_filter_backward", "dh", dh_MDK, z_KE,
                 {{"M", M}, {"D", weights[weights.size() - 1].size(0) / M}, {"K", z_KE.size(0)}});
  auto gradients =
      cpu::supports_filter(z_KE, weights, window)
          ? cpu::implicit_filter_backward(dh_MDK, z_KE, weights, biases, freq_W, window, M,
                                          channel_layout(layout))
      : cuda::supports_filter(z_KE, weights, window)
          ? cuda::implicit_filter_backward(dh_MDK, z_KE, weights, biases, freq_W, window, M,
                                           channel_layout(layout))
          : composed::implicit_filter_backward(dh_MDK, z_KE, weights.vec(), biases.vec(), freq_W,
                                               window, M, channel_layout(layout));
  return {gradients.z_KE, std::move(gradients.weights), std::move(gradients.biases),
          gradients.freq_W, deltas_C ? gradients.deltas_C : z_KE.new_empty({0})};
}

at::Tensor forward_meta(const at::Tensor& z_KE, at::TensorList weights, at::TensorList /*biases*/,
                        const at::Tensor& /*freq_W*/, const OptionalTensor& /*t_K*/,
                        const OptionalTensor& /*deltas_C*/, double /*shift*/, bool /*normalized*/,
                        std::int64_t M, c10::string_view /*layout*/) {
  return z_KE.new_empty_symint({M, weights[weights.size() - 1].sym_size(0) / M, z_KE.sym_size(0)});
}

Gradients backward_meta(const at::Tensor& /*dh_MDK*/, const at::Tensor& z_KE,
                        at::TensorList weights, at::TensorList biases, const at::Tensor& freq_W,
                        const OptionalTensor& /*t_K*/, const OptionalTensor& deltas_C,
                        double /*shift*/, bool /*normalized*/, std::int64_t /*M*/,
                        c10::string_view /*layout*/) {
  const auto empty_like = [](const at::Tensor& x) { return x.new_empty_symint(x.sym_sizes()); };
  std::vector<at::Tensor> dweights;
  std::vector<at::Tensor> dbiases;
  for (const at::Tensor& weight : weights) {
    dweights.push_back(empty_like(weight));
  }
  for (const at::Tensor& bias : biases) {
    dbiases.push_back(empty_like(bias));
  }
  return {empty_like(z_KE), dweights, dbiases, empty_like(freq_W),
          deltas_C ? empty_like(*deltas_C) : z_KE.new_empty({0})};
}

at::Tensor call_forward(const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
                        const at::Tensor& freq_W, const OptionalTensor& t_K,
                        const OptionalTensor& deltas_C, double shift, bool normalized,
                        std::int64_t M, c10::string_view layout) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("hyena::implicit_filter", "")
                             .typed<decltype(forward)>();
  return op.call(z_KE, weights, biases, freq_W, t_K, deltas_C, shift, normalized, M, layout);
}

struct ImplicitFilter : torch::autograd::Function<ImplicitFilter> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& z_KE,
                            at::TensorList weights, at::TensorList biases, const at::Tensor& freq_W,
                            const OptionalTensor& t_K, const OptionalTensor& deltas_C, double shift,
                            bool normalized, std::int64_t M, const std::string& layout) {
    const at::AutoDispatchBelowADInplaceOrView below;
    torch::autograd::variable_list saved{z_KE, freq_W, t_K.value_or(at::Tensor()),
                                         deltas_C.value_or(at::Tensor())};
    saved.insert(saved.end(), weights.begin(), weights.end());
    saved.insert(saved.end(), biases.begin(), biases.end());
    context->save_for_backward(std::move(saved));
    context->saved_data["shift"] = shift;
    context->saved_data["normalized"] = normalized;
    context->saved_data["M"] = M;
    context->saved_data["layout"] = layout;
    return call_forward(z_KE, weights, biases, freq_W, t_K, deltas_C, shift, normalized, M, layout);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& dh) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("hyena::implicit_filter_backward", "")
                               .typed<decltype(ops::backward)>();
    const auto saved = context->get_saved_variables();
    const auto optional = [](const at::Tensor& x) {
      return x.defined() ? OptionalTensor(x) : std::nullopt;
    };
    const at::TensorList tensors(saved);
    const std::size_t layers = (tensors.size() - 4 + 1) / 2;
    auto& data = context->saved_data;
    const OptionalTensor deltas = optional(saved[3]);
    auto [dz, dweights, dbiases, dfreq, ddeltas] =
        op.call(dh[0], saved[0], tensors.slice(4, layers), tensors.slice(4 + layers), saved[1],
                optional(saved[2]), deltas, data["shift"].toDouble(), data["normalized"].toBool(),
                data["M"].toInt(), data["layout"].toStringRef());
    torch::autograd::variable_list gradients{dz};
    gradients.insert(gradients.end(), dweights.begin(), dweights.end());
    gradients.insert(gradients.end(), dbiases.begin(), dbiases.end());
    gradients.push_back(dfreq);
    gradients.emplace_back();  // t
    gradients.push_back(deltas ? ddeltas : at::Tensor());
    gradients.resize(gradients.size() + 4);  // shift, normalized, M, layout
    return gradients;
  }
};

at::Tensor forward_autograd(const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
                            const at::Tensor& freq_W, const OptionalTensor& t_K,
                            const OptionalTensor& deltas_C, double shift, bool normalized,
                            std::int64_t M, c10::string_view layout) {
  return ImplicitFilter::apply(z_KE, weights, biases, freq_W, t_K, deltas_C, shift, normalized, M,
                               std::string(layout));
}

OptionalTensor optional_of(const at::Tensor& x) {
  return x.defined() ? OptionalTensor(x) : std::nullopt;
}

}  // namespace

at::Tensor implicit_filter(const at::Tensor& z_KE, const std::vector<at::Tensor>& weights,
                           const std::vector<at::Tensor>& biases, const at::Tensor& freq_W,
                           const FilterWindow& window, std::int64_t M, ChannelLayout layout) {
  return call_forward(z_KE, weights, biases, freq_W, optional_of(window.t_K),
                      optional_of(window.deltas_C), window.shift, window.normalized, M,
                      to_string(layout));
}

TORCH_LIBRARY_IMPL(hyena, CPU, library) {
  library.impl("implicit_filter", &forward);
  library.impl("implicit_filter_backward", &backward);
}
TORCH_LIBRARY_IMPL(hyena, CUDA, library) {
  library.impl("implicit_filter", &forward);
  library.impl("implicit_filter_backward", &backward);
}
TORCH_LIBRARY_IMPL(hyena, Meta, library) {
  library.impl("implicit_filter", &forward_meta);
  library.impl("implicit_filter_backward", &backward_meta);
}
TORCH_LIBRARY_IMPL(hyena, Autograd, library) {
  library.impl("implicit_filter", &forward_autograd);
  library.impl("implicit_filter_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace hyena::ops
