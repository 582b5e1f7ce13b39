#include "hyena/ops/short_conv.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "hyena/ops/check.h"
#include "hyena/ops/layout.h"

namespace hyena::ops {
namespace composed {

at::Tensor short_conv(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                      const std::optional<at::Tensor>& bias_C) {
  const std::int64_t C = weight_CT.size(0);
  const std::int64_t T = weight_CT.size(1);
  const std::int64_t L = p_BCL.size(2);
  if (p_BCL.numel() == 0) {
    return p_BCL * weight_CT.to(p_BCL.scalar_type()).sum();  // empty, yet part of the graph
  }
  const auto bias =
      bias_C ? std::optional<at::Tensor>(bias_C->to(p_BCL.scalar_type())) : std::nullopt;
  return at::conv1d(p_BCL, weight_CT.to(p_BCL.scalar_type()).unsqueeze(1), bias, /*stride=*/1,
                    /*padding=*/T - 1, /*dilation=*/1, /*groups=*/C)
      .narrow(2, 0, L);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> short_conv_backward(const at::Tensor& dq_BCL,
                                                                   const at::Tensor& p_BCL,
                                                                   const at::Tensor& weight_CT,
                                                                   bool has_bias) {
  const std::int64_t C = weight_CT.size(0);
  const std::int64_t T = weight_CT.size(1);
  const auto type = weight_CT.scalar_type();
  if (p_BCL.numel() == 0) {
    return {at::zeros_like(p_BCL), at::zeros_like(weight_CT),
            has_bias ? weight_CT.new_zeros({C}) : at::Tensor()};
  }
  // The forward cropped T-1 outputs at the end: their gradient is zero.
  const at::Tensor dq_padded = at::constant_pad_nd(dq_BCL, {0, T - 1});
  auto [dp, dweight, dbias] = at::convolution_backward(
      dq_padded.contiguous(), p_BCL.contiguous(), weight_CT.to(p_BCL.scalar_type()).unsqueeze(1),
      has_bias ? at::OptionalIntArrayRef({C}) : std::nullopt, /*stride=*/1, /*padding=*/T - 1,
      /*dilation=*/1, /*transposed=*/false, /*output_padding=*/0, /*groups=*/C,
      {true, true, has_bias});
  return {dp, dweight.squeeze(1).to(type), has_bias ? dbias.to(type) : at::Tensor()};
}

}  // namespace composed

namespace {

void check(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
           const std::optional<at::Tensor>& bias_C) {
  check_shape("short_conv", "p", p_BCL, {{"B", kAny}, {"C", kAny}, {"L", kAny}});
  check_floating("short_conv", "p", p_BCL);
  const std::int64_t C = p_BCL.size(1);
  check_shape("short_conv", "weight", weight_CT, {{"C", C}, {"T", kAny}});
  TORCH_CHECK_VALUE(weight_CT.size(1) >= 1,
                    "[short_conv] weight: expected at least one tap, got 0.");
  check_parameter("short_conv", "weight", weight_CT, p_BCL);
  if (bias_C) {
    check_shape("short_conv", "bias", *bias_C, {{"C", C}});
    check_parameter("short_conv", "bias", *bias_C, p_BCL);
  }
}

at::Tensor forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                   const std::optional<at::Tensor>& bias_C) {
  check(p_BCL, weight_CT, bias_C);
  return in_layout_of(p_BCL, composed::short_conv(p_BCL, weight_CT, bias_C));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& dq_BCL,
                                                        const at::Tensor& p_BCL,
                                                        const at::Tensor& weight_CT,
                                                        bool has_bias) {
  check(p_BCL, weight_CT, std::nullopt);
  check_gradient("short_conv_backward", "dq", dq_BCL, p_BCL,
                 {{"B", p_BCL.size(0)}, {"C", p_BCL.size(1)}, {"L", p_BCL.size(2)}});
  auto [dp, dweight, dbias] = composed::short_conv_backward(dq_BCL, p_BCL, weight_CT, has_bias);
  return {in_layout_of(p_BCL, dp), dweight, has_bias ? dbias : weight_CT.new_empty({0})};
}

at::Tensor forward_meta(const at::Tensor& p_BCL, const at::Tensor& /*weight_CT*/,
                        const std::optional<at::Tensor>& /*bias_C*/) {
  return empty_in_layout_of(p_BCL, p_BCL.sym_size(1));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> backward_meta(const at::Tensor& /*dq_BCL*/,
                                                             const at::Tensor& p_BCL,
                                                             const at::Tensor& weight_CT,
                                                             bool has_bias) {
  return {empty_in_layout_of(p_BCL, p_BCL.sym_size(1)), at::empty_like(weight_CT),
          weight_CT.new_empty_symint({has_bias ? weight_CT.sym_size(0) : c10::SymInt(0)})};
}

at::Tensor call_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                        const std::optional<at::Tensor>& bias_C) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("hyena::short_conv", "")
                             .typed<decltype(forward)>();
  return op.call(p_BCL, weight_CT, bias_C);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> call_backward(const at::Tensor& dq_BCL,
                                                             const at::Tensor& p_BCL,
                                                             const at::Tensor& weight_CT,
                                                             bool has_bias) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("hyena::short_conv_backward", "")
                             .typed<decltype(backward)>();
  return op.call(dq_BCL, p_BCL, weight_CT, has_bias);
}

struct ShortConv : torch::autograd::Function<ShortConv> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& p_BCL,
                            const at::Tensor& weight_CT, const std::optional<at::Tensor>& bias_C) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({p_BCL, weight_CT});
    context->saved_data["has_bias"] = bias_C.has_value();
    return call_forward(p_BCL, weight_CT, bias_C);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& dq) {
    const auto saved = context->get_saved_variables();
    const bool has_bias = context->saved_data["has_bias"].toBool();
    auto [dp, dweight, dbias] = call_backward(dq[0], saved[0], saved[1], has_bias);
    return {dp, dweight, has_bias ? dbias : at::Tensor()};
  }
};

at::Tensor forward_autograd(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                            const std::optional<at::Tensor>& bias_C) {
  return ShortConv::apply(p_BCL, weight_CT, bias_C);
}

}  // namespace

at::Tensor short_conv(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                      const std::optional<at::Tensor>& bias_C) {
  return call_forward(p_BCL, weight_CT, bias_C);
}

TORCH_LIBRARY_IMPL(hyena, CPU, library) {
  library.impl("short_conv", &forward);
  library.impl("short_conv_backward", &backward);
}
TORCH_LIBRARY_IMPL(hyena, CUDA, library) {
  library.impl("short_conv", &forward);
  library.impl("short_conv_backward", &backward);
}
TORCH_LIBRARY_IMPL(hyena, Meta, library) {
  library.impl("short_conv", &forward_meta);
  library.impl("short_conv_backward", &backward_meta);
}
TORCH_LIBRARY_IMPL(hyena, Autograd, library) {
  library.impl("short_conv", &forward_autograd);
  library.impl("short_conv_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace hyena::ops
