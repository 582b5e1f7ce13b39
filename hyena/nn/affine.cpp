#include "hyena/nn/affine.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/torch.h>

#include "hyena/nn/full_precision.h"

namespace hyena::nn {
namespace {

struct Affine : torch::autograd::Function<Affine> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x_NI,
                            const at::Tensor& weight_OI, const at::Tensor& bias_O) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({x_NI, weight_OI});
    return at::addmm(bias_O, x_NI, weight_OI.t());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& dy_NO) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& dy = dy_NO[0];
    const at::Tensor ones_1N = at::ones({1, dy.size(0)}, dy.options());
    return {dy.mm(saved[1]), dy.t().mm(saved[0]), ones_1N.mm(dy).squeeze(0)};
  }
};

}  // namespace

at::Tensor affine(const torch::nn::Linear& layer, const at::Tensor& x) {
  const auto device = x.device().type();
  const bool is_autocast = at::autocast::is_autocast_enabled(device);
  const auto cast = [&](const at::Tensor& tensor) {
    return is_autocast
               ? at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), tensor, device)
               : tensor;
  };
  const FullPrecision casts_are_done;
  auto shape = x.sizes().vec();
  const at::Tensor x_NI = cast(x).reshape({-1, shape.back()});
  shape.back() = layer->weight.size(0);
  return Affine::apply(x_NI, cast(layer->weight), cast(layer->bias)).view(shape);
}

}  // namespace hyena::nn
