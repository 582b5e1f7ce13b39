#include "hyena/cli/bench_layer.h"

#include <algorithm>

#include <ATen/Context.h>
#include <fmt/format.h>
#include <torch/torch.h>

#include "hyena/cli/compute.h"
#include "hyena/nn/operators/attention.h"
#include "hyena/nn/operators/hyena_operator.h"
#include "hyena/train/autocast.h"

namespace hyena::cli {
namespace {

constexpr std::int64_t kHeadChannels = 64;

/// A step of training or evaluation: weights are cast anew in each, as they are there.
at::Tensor forward(nn::Mixer& layer, const at::Tensor& u_BLD) {
  const train::Autocast autocast(u_BLD.scalar_type() == at::kBFloat16 ? "bfloat16" : "float32",
                                 u_BLD.device());
  return layer.forward(u_BLD);
}

/// Only `kernel` of SDPA may run while this lives; "sdpa" leaves the choice alone.
class OnlyKernel {
 public:
  explicit OnlyKernel(const std::string& kernel) {
    if (kernel != "sdpa") set(kernel == "flash", kernel == "cudnn", /*others=*/false);
  }
  ~OnlyKernel() { set(true, true, true); }
  OnlyKernel(const OnlyKernel&) = delete;
  OnlyKernel& operator=(const OnlyKernel&) = delete;

 private:
  static void set(bool flash, bool cudnn, bool others) {
    at::Context& context = at::globalContext();
    context.setSDPUseFlash(flash);
    context.setSDPUseCuDNN(cudnn);
    context.setSDPUseMath(others);
    context.setSDPUseMemEfficient(others);
  }
};

struct LayerTimes {
  Timing forward;
  Timing forward_backward;
};

LayerTimes time_layer(nn::Mixer& layer, const at::Tensor& u_BLD, const at::Tensor& dy_BLD) {
  const at::Device device = u_BLD.device();
  LayerTimes times;
  {
    const torch::NoGradGuard no_grad;
    layer.eval();
    times.forward = time_runs([&] { (void)forward(layer, u_BLD); }, device);
  }
  layer.train();
  const at::Tensor u = u_BLD.detach().requires_grad_();
  std::vector<at::Tensor> inputs = layer.parameters();
  inputs.push_back(u);
  inputs.erase(std::remove_if(inputs.begin(), inputs.end(),
                              [](const at::Tensor& x) { return !x.requires_grad(); }),
               inputs.end());
  times.forward_backward = time_runs(
      [&] {
        const at::Tensor y = forward(layer, u);
        (void)torch::autograd::grad({y}, inputs, {dy_BLD}, {}, false, /*allow_unused=*/true);
      },
      device);
  return times;
}

/// Relative rms error of the layer on the first batch row, against the same layer in float64.
double layer_error(nn::Mixer& layer, const at::Tensor& u_BLD) {
  const torch::NoGradGuard no_grad;
  layer.eval();
  const at::Tensor row = u_BLD.narrow(0, 0, 1);
  const at::Tensor y = forward(layer, row);
  layer.to(at::kDouble);
  const at::Tensor exact = layer.forward(row.to(at::kDouble));
  layer.to(at::kFloat);
  return (y.to(at::kDouble) - exact).norm().item<double>() / exact.norm().item<double>();
}

}  // namespace

std::vector<std::string> attention_kernels(const MixerCase& layer) {
  return layer.device.is_cuda() && layer.dtype == at::kBFloat16
             ? std::vector<std::string>{"flash", "cudnn"}
             : std::vector<std::string>{"sdpa"};
}

std::optional<io::Json> bench_layer(const MixerCase& layer, std::string& failure) {
  const std::int64_t D = layer.channels;
  torch::manual_seed(2302);
  nn::HyenaOperator hyena(
      nn::HyenaOperatorOptions{.d_model = D, .order = layer.order, .l_max = layer.length});
  hyena->to(layer.device);
  const auto options = at::TensorOptions(layer.device).dtype(layer.dtype);
  const at::Tensor u = at::randn({layer.batch, layer.length, D}, options);
  const at::Tensor dy = at::randn_like(u);

  // The two linear layers round input, product and result: as much as one order more.
  MixerCase deeper = layer;
  deeper.order += 1;
  const double error = layer_error(*hyena, u);
  if (!(error <= largest_error(deeper))) {
    failure = fmt::format(
        "y of the Hyena layer at length {}: relative error {:.2e}, at most {:.2e} can come from "
        "rounding",
        layer.length, error, largest_error(deeper));
    return std::nullopt;
  }
  const LayerTimes ours = time_layer(*hyena, u, dy);
  io::Json line{{"bench", "layer"},
                {"device", layer.device.is_cuda() ? "cuda" : "cpu"},
                {"device_name", device_name(layer.device)},
                {"dtype", dtype_name(layer.dtype)},
                {"batch", layer.batch},
                {"channels", D},
                {"length", layer.length},
                {"order", layer.order},
                {"threads", at::get_num_threads()},
                {"forward_ms", ours.forward.median_ms},
                {"forward_backward_ms", ours.forward_backward.median_ms},
                {"forward_spread_ms", ours.forward.spread_ms},
                {"forward_backward_spread_ms", ours.forward_backward.spread_ms},
                {"rel_error", error}};
  nn::CausalAttention attention(D, std::max<std::int64_t>(1, D / kHeadChannels));
  attention->to(layer.device);
  for (const std::string& kernel : attention_kernels(layer)) {
    const OnlyKernel only(kernel);
    const LayerTimes theirs = time_layer(*attention, u, dy);
    line["attention_" + kernel + "_forward_ms"] = theirs.forward.median_ms;
    line["attention_" + kernel + "_forward_backward_ms"] = theirs.forward_backward.median_ms;
    line["speedup_" + kernel + "_forward"] = theirs.forward.median_ms / ours.forward.median_ms;
    line["speedup_" + kernel + "_forward_backward"] =
        theirs.forward_backward.median_ms / ours.forward_backward.median_ms;
  }
  return line;
}

}  // namespace hyena::cli
