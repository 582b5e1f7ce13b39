#include "hyena/cli/bench_mixer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include <fmt/format.h>
#include <torch/torch.h>

#include "hyena/cli/compute.h"
#include "hyena/ops/cpu_gated_conv.h"
#include "hyena/ops/cuda_mixer.h"
#include "hyena/ops/hyena_mixer.h"

namespace hyena::cli {
namespace {

constexpr std::int64_t kTaps = 3;

void synchronize(at::Device device) {
  if (device.is_cuda()) {
    torch::cuda::synchronize();
  }
}

std::vector<at::Tensor*> arguments(MixerTensors& x) {
  return {&x.p_BCL, &x.short_weight_CT, &x.short_bias_C, &x.h_MDK, &x.skip_MD};
}

/// Copies of the arguments that take part in differentiation.
MixerTensors differentiable(const MixerTensors& tensors) {
  MixerTensors x = tensors;
  for (at::Tensor* argument : arguments(x)) {
    *argument = argument->detach().requires_grad_();
  }
  return x;
}

std::vector<at::Tensor> gradients(const at::Tensor& y_BDL, MixerTensors& x) {
  std::vector<at::Tensor> inputs;
  for (const at::Tensor* argument : arguments(x)) {
    inputs.push_back(*argument);
  }
  return torch::autograd::grad({y_BDL}, inputs, {x.dy_BDL});
}

/// The same channels of every chunk, in float64.
MixerTensors some_channels(const MixerTensors& x, const at::Tensor& channels) {
  const std::int64_t D = x.h_MDK.size(1);
  const auto of_chunks = [&](const at::Tensor& tensor, std::int64_t axis) {
    return tensor.unflatten(axis, {tensor.size(axis) / D, D})
        .index_select(axis + 1, channels)
        .flatten(axis, axis + 1)
        .to(at::kDouble);
  };
  const auto of_rows = [&](const at::Tensor& tensor) {
    return tensor.index_select(1, channels).to(at::kDouble);
  };
  return {.p_BCL = of_chunks(x.p_BCL, 1),
          .short_weight_CT = of_chunks(x.short_weight_CT, 0),
          .short_bias_C = of_chunks(x.short_bias_C, 0),
          .h_MDK = of_rows(x.h_MDK),
          .skip_MD = of_rows(x.skip_MD),
          .dy_BDL = of_rows(x.dy_BDL)};
}

double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  const double error =
      (actual.to(at::kDouble) - expected).norm().item<double>() / expected.norm().item<double>();
  return std::isfinite(error) ? error : HUGE_VAL;
}

at::Tensor composed_mixer(const MixerTensors& x) {
  return ops::composed::hyena_mixer(x.p_BCL, x.short_weight_CT, x.short_bias_C, x.h_MDK, x.skip_MD);
}

at::Tensor registered_mixer(const MixerTensors& x) {
  return ops::hyena_mixer(x.p_BCL, x.short_weight_CT, x.short_bias_C, x.h_MDK, x.skip_MD);
}

/// The implementation that the registered op chooses for these tensors.
std::string path_of(const MixerTensors& x) {
  if (ops::cuda::supports(x.p_BCL, x.h_MDK)) return ops::cuda::path_of(x.p_BCL, x.h_MDK);
  return ops::cpu::supports(x.p_BCL) ? "right_angle" : "composed";
}

struct Timings {
  Timing forward;
  Timing forward_backward;
};

Timings time_mixer(const Mixer& mixer, const MixerTensors& tensors) {
  const at::Device device = tensors.p_BCL.device();
  Timings timings;
  {
    const torch::NoGradGuard no_grad;
    timings.forward = time_runs([&] { (void)mixer(tensors); }, device);
  }
  MixerTensors x = differentiable(tensors);
  timings.forward_backward = time_runs([&] { (void)gradients(mixer(x), x); }, device);
  return timings;
}

}  // namespace

std::string dtype_name(at::ScalarType dtype) {
  switch (dtype) {
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    case at::kDouble:
      return "float64";
    default:
      return "float32";
  }
}

MixerTensors mixer_tensors(const MixerCase& mixer) {
  const std::int64_t D = mixer.channels;
  const std::int64_t C = (mixer.order + 1) * D;
  const std::int64_t M = mixer.order - 1;
  const std::int64_t L = mixer.length;
  const bool is_double = mixer.dtype == at::kDouble;
  const auto parameter =
      at::TensorOptions(mixer.device).dtype(is_double ? at::kDouble : at::kFloat);
  torch::manual_seed(2302);
  at::Tensor p = at::randn({mixer.batch, L, C}, parameter).to(mixer.dtype).transpose(1, 2);
  at::Tensor dy = at::randn({mixer.batch, L, D}, parameter).to(mixer.dtype).transpose(1, 2);
  if (mixer.device.is_cuda()) {
    p = p.contiguous();
    dy = dy.contiguous();
  }
  const double bound = 1.0 / std::sqrt(static_cast<double>(kTaps));
  const at::Tensor decay = at::exp(at::linspace(0.0, -4.0, L, parameter));
  at::Tensor h = at::randn({M, D, L}, parameter) * decay;
  h = h / h.norm(2, {2}, /*keepdim=*/true);
  return {.p_BCL = p,
          .short_weight_CT = at::empty({C, kTaps}, parameter).uniform_(-bound, bound),
          .short_bias_C = at::empty({C}, parameter).uniform_(-bound, bound),
          .h_MDK = h,
          .skip_MD = at::randn({M, D}, parameter),
          .dy_BDL = dy};
}

MixerErrors mixer_errors(const Mixer& mixer, const MixerTensors& tensors) {
  constexpr std::int64_t kChannels = 8;
  const std::int64_t D = tensors.h_MDK.size(1);
  const at::Tensor channels =
      at::linspace(0.0, static_cast<double>(D - 1), std::min(D, kChannels), at::kDouble)
          .round()
          .to(tensors.p_BCL.device(), at::kLong);
  MixerTensors expected = differentiable(some_channels(tensors, channels));
  const at::Tensor expected_y = composed_mixer(expected);
  const std::vector<at::Tensor> expected_gradients = gradients(expected_y, expected);

  MixerTensors actual = differentiable(tensors);
  const at::Tensor actual_y = mixer(actual);
  const std::vector<at::Tensor> all = gradients(actual_y, actual);
  const MixerTensors actual_gradients = some_channels({.p_BCL = all[0],
                                                       .short_weight_CT = all[1],
                                                       .short_bias_C = all[2],
                                                       .h_MDK = all[3],
                                                       .skip_MD = all[4],
                                                       .dy_BDL = actual_y.detach()},
                                                      channels);
  MixerErrors errors{.y = relative_error(actual_gradients.dy_BDL, expected_y.detach()),
                     .gradients = 0.0};
  MixerTensors views = actual_gradients;
  const std::vector<at::Tensor*> selected = arguments(views);
  for (std::size_t i = 0; i < selected.size(); ++i) {
    errors.gradients =
        std::max(errors.gradients, relative_error(*selected[i], expected_gradients[i]));
  }
  return errors;
}

double largest_error(const MixerCase& mixer) {
  const auto N = static_cast<double>(mixer.order);
  const bool is_double = mixer.dtype == at::kDouble;
  const double transform_eps = is_double ? std::ldexp(1.0, -52) : std::ldexp(1.0, -23);
  const double rounding = mixer.dtype == at::kBFloat16 ? std::ldexp(1.0, -8)
                          : mixer.dtype == at::kHalf   ? std::ldexp(1.0, -11)
                                                       : transform_eps;
  const double transforms =
      (N + 1.0) * 2.0 * transform_eps * std::log2(2.0 * static_cast<double>(mixer.length));
  return (4.0 * N + 4.0) * rounding + transforms;
}

Timing time_runs(const std::function<void()>& run, at::Device device) {
  using Clock = std::chrono::steady_clock;
  constexpr int kRuns = 20;
  constexpr int kFewestRuns = 5;
  constexpr double kSeconds = 10.0;
  for (int i = 0; i < 2; ++i) {
    run();
  }
  synchronize(device);
  std::vector<double> ms;
  const Clock::time_point start = Clock::now();
  for (int i = 0; i < kRuns; ++i) {
    const Clock::time_point begin = Clock::now();
    run();
    synchronize(device);
    const Clock::time_point end = Clock::now();
    ms.push_back(std::chrono::duration<double, std::milli>(end - begin).count());
    if (i + 1 >= kFewestRuns && std::chrono::duration<double>(end - start).count() > kSeconds) {
      break;
    }
  }
  std::sort(ms.begin(), ms.end());
  const auto quantile = [&](double q) {
    const double place = q * static_cast<double>(ms.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, ms.size() - 1);
    return std::lerp(ms[below], ms[above], place - static_cast<double>(below));
  };
  return {.median_ms = quantile(0.5), .spread_ms = quantile(0.75) - quantile(0.25)};
}

double copy_gbps(at::Device device) {
  const std::int64_t bytes = device.is_cuda() ? std::int64_t{1} << 30 : std::int64_t{1} << 28;
  const at::Tensor from = at::zeros({bytes}, at::TensorOptions(device).dtype(at::kByte));
  const at::Tensor to = at::zeros_like(from);
  const Timing timing = time_runs([&] { to.copy_(from); }, device);
  return 2.0 * static_cast<double>(bytes) / (timing.median_ms * 1e6);
}

std::optional<io::Json> bench_mixer(const MixerCase& mixer, double copy_gbps,
                                    std::string& failure) {
  const MixerTensors tensors = mixer_tensors(mixer);
  const double limit = largest_error(mixer);
  const MixerErrors errors = mixer_errors(registered_mixer, tensors);
  const MixerErrors baseline_errors = mixer_errors(composed_mixer, tensors);
  for (const auto& [what, error] : {std::pair("y", errors.y), {"gradients", errors.gradients}}) {
    if (!(error <= limit)) {
      failure = fmt::format(
          "{} of hyena_mixer at length {}: relative error {:.2e}, at most {:.2e} "
          "can come from rounding",
          what, mixer.length, error, limit);
      return std::nullopt;
    }
  }
  const Timings fused = time_mixer(registered_mixer, tensors);
  const Timings baseline = time_mixer(composed_mixer, tensors);
  const double elements =
      static_cast<double>(mixer.batch * mixer.channels) * static_cast<double>(mixer.length);
  const auto N = static_cast<double>(mixer.order);
  const auto element_bytes = static_cast<double>(c10::elementSize(mixer.dtype));
  const auto bound_ms = [&](double tensors_moved) {
    return elements * element_bytes * tensors_moved / (copy_gbps * 1e6);
  };
  const std::string device = mixer.device.is_cuda() ? "cuda" : "cpu";
  return io::Json{{"bench", "mixer"},
                  {"device", device},
                  {"device_name", device_name(mixer.device)},
                  {"dtype", dtype_name(mixer.dtype)},
                  {"batch", mixer.batch},
                  {"channels", mixer.channels},
                  {"length", mixer.length},
                  {"order", mixer.order},
                  {"threads", at::get_num_threads()},
                  {"path", path_of(tensors)},
                  {"forward_ms", fused.forward.median_ms},
                  {"forward_backward_ms", fused.forward_backward.median_ms},
                  {"baseline_forward_ms", baseline.forward.median_ms},
                  {"baseline_forward_backward_ms", baseline.forward_backward.median_ms},
                  {"speedup_forward", baseline.forward.median_ms / fused.forward.median_ms},
                  {"speedup_forward_backward",
                   baseline.forward_backward.median_ms / fused.forward_backward.median_ms},
                  {"copy_gbps", copy_gbps},
                  // Forward: the N+1 chunks of p in, y out. Backward: p and dy in, dp out.
                  {"bound_forward_ms", bound_ms(N + 2.0)},
                  {"bound_forward_backward_ms", bound_ms((N + 2.0) + (2.0 * N + 3.0))},
                  {"forward_spread_ms", fused.forward.spread_ms},
                  {"forward_backward_spread_ms", fused.forward_backward.spread_ms},
                  {"rel_error", errors.y},
                  {"rel_error_grad", errors.gradients},
                  {"baseline_rel_error", baseline_errors.y},
                  {"baseline_rel_error_grad", baseline_errors.gradients}};
}

}  // namespace hyena::cli
