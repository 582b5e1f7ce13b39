#include "hyena/nn/affine.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/torch.h>

#include "hyena/nn/full_precision.h"
#include "hyena/ops/layout.h"

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

at::Tensor empty_rows(const at::Tensor& like, std::int64_t B, std::int64_t C, std::int64_t L) {
  return like.new_empty({B, C, ops::padded_row(L).expect_int()}).narrow(2, 0, L);
}

/// One of x (B, L, in) and y (B, L, out) is stored with time contiguous, and given as such.
struct AffineOfRows : torch::autograd::Function<AffineOfRows> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& weight_OI, const at::Tensor& bias_O, bool to_rows) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({x, weight_OI});
    context->saved_data["to_rows"] = to_rows;
    const std::int64_t B = x.size(0);
    const auto of_each = [B](const at::Tensor& w) { return w.expand({B, -1, -1}); };
    if (!to_rows) {
      return at::baddbmm(bias_O, x.transpose(1, 2), of_each(weight_OI.t()));
    }
    at::Tensor y_BOL = empty_rows(x, B, weight_OI.size(0), x.size(1));
    return at::baddbmm_out(y_BOL, bias_O.unsqueeze(1), of_each(weight_OI), x.transpose(1, 2));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& weight_OI = saved[1];
    const at::Tensor& dy = gradients[0];
    const std::int64_t B = x.size(0);
    const auto of_each = [B](const at::Tensor& w) { return w.expand({B, -1, -1}); };
    if (context->saved_data["to_rows"].toBool()) {
      return {at::bmm(dy.transpose(1, 2), of_each(weight_OI)),
              at::bmm(dy, x).sum(0),
              dy.sum(at::IntArrayRef{0, 2}),
              {}};
    }
    at::Tensor dx_BIL = empty_rows(dy, B, x.size(1), x.size(2));
    at::bmm_out(dx_BIL, of_each(weight_OI.t()), dy.transpose(1, 2));
    return {dx_BIL,
            at::bmm(dy.transpose(1, 2), x.transpose(1, 2)).sum(0),
            dy.sum(at::IntArrayRef{0, 1}),
            {}};
  }
};

/// `x`, weight and bias in the dtype that autocast asks for.
struct Operands {
  at::Tensor x, weight_OI, bias_O;
  Operands(const torch::nn::Linear& layer, const at::Tensor& given) {
    const auto device = given.device().type();
    const bool is_autocast = at::autocast::is_autocast_enabled(device);
    const auto cast = [&](const at::Tensor& tensor) {
      return is_autocast ? at::autocast::cached_cast(at::autocast::get_autocast_dtype(device),
                                                     tensor, device)
                         : tensor;
    };
    x = cast(given);
    weight_OI = cast(layer->weight);
    bias_O = cast(layer->bias);
  }
};

}  // namespace

at::Tensor affine(const torch::nn::Linear& layer, const at::Tensor& x) {
  const Operands o(layer, x);
  const FullPrecision casts_are_done;
  auto shape = x.sizes().vec();
  const at::Tensor x_NI = o.x.reshape({-1, shape.back()});
  shape.back() = layer->weight.size(0);
  return Affine::apply(x_NI, o.weight_OI, o.bias_O).view(shape);
}

at::Tensor affine_to_rows(const torch::nn::Linear& layer, const at::Tensor& x_BLI) {
  const Operands o(layer, x_BLI);
  const FullPrecision casts_are_done;
  return AffineOfRows::apply(o.x, o.weight_OI, o.bias_O, /*to_rows=*/true);
}

at::Tensor affine_from_rows(const torch::nn::Linear& layer, const at::Tensor& x_BIL) {
  const Operands o(layer, x_BIL);
  const FullPrecision casts_are_done;
  return AffineOfRows::apply(o.x, o.weight_OI, o.bias_O, /*to_rows=*/false);
}

}  // namespace hyena::nn
