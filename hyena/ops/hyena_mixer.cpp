#include "hyena/ops/hyena_mixer.h"

#include <algorithm>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "hyena/ops/check.h"
#include "hyena/ops/cpu_gated_conv.h"
#include "hyena/ops/cuda_mixer.h"
#include "hyena/ops/layout.h"
#include "hyena/ops/long_conv.h"
#include "hyena/ops/prepared_filters.h"
#include "hyena/ops/short_conv.h"

namespace hyena::ops {
namespace {

using OptionalTensor = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

std::int64_t order_of(std::int64_t M, MixerMode mode) {
  return mode == MixerMode::kSafari ? M + 1 : M;
}

/// Not split(), which gives one chunk where there are no channels.
std::vector<at::Tensor> chunks(const at::Tensor& q_BCL, std::int64_t count) {
  const std::int64_t D = q_BCL.size(1) / count;
  std::vector<at::Tensor> parts;
  for (std::int64_t i = 0; i < count; ++i) {
    parts.push_back(q_BCL.narrow(1, i * D, D));
  }
  return parts;
}

OptionalTensor row(const OptionalTensor& skip_MD, std::int64_t o) {
  return skip_MD ? OptionalTensor(skip_MD->select(0, o)) : std::nullopt;
}

}  // namespace

std::string_view to_string(MixerMode mode) {
  return mode == MixerMode::kSafari ? "safari" : "paper";
}

MixerMode mixer_mode(std::string_view name) {
  TORCH_CHECK_VALUE(name == "safari" || name == "paper",
                    "[hyena_mixer] mode: expected 'safari' or 'paper', got '", name, "'.");
  return name == "safari" ? MixerMode::kSafari : MixerMode::kPaper;
}

namespace composed {

at::Tensor hyena_mixer(const at::Tensor& p_BCL, const at::Tensor& short_weight_CT,
                       const OptionalTensor& short_bias_C, const at::Tensor& h_MDK,
                       const OptionalTensor& skip_MD, MixerMode mode) {
  const std::int64_t M = h_MDK.size(0);
  const std::int64_t N = order_of(M, mode);
  const auto q = chunks(composed::short_conv(p_BCL, short_weight_CT, short_bias_C), N + 1);
  const auto at_order = [&q](std::int64_t i) { return q[static_cast<std::size_t>(i)]; };
  at::Tensor v = at_order(N);
  for (std::int64_t o = 0; o < M; ++o) {
    if (mode == MixerMode::kSafari) {
      v = composed::long_conv(v * at_order(N - 1 - o), h_MDK[o], row(skip_MD, o));
    } else {
      v = at_order(o) * composed::long_conv(v, h_MDK[o], row(skip_MD, o));
    }
  }
  return mode == MixerMode::kSafari ? v * at_order(0) : v;
}

Gradients hyena_mixer_backward(const at::Tensor& dy_BDL, const at::Tensor& p_BCL,
                               const at::Tensor& short_weight_CT,
                               const OptionalTensor& short_bias_C, const at::Tensor& h_MDK,
                               const OptionalTensor& skip_MD, MixerMode mode) {
  const std::int64_t M = h_MDK.size(0);
  const std::int64_t N = order_of(M, mode);
  const bool safari = mode == MixerMode::kSafari;
  const auto q = chunks(composed::short_conv(p_BCL, short_weight_CT, short_bias_C), N + 1);
  std::vector<at::Tensor> dq(q.size());
  const auto index = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  // The gate of long convolution o, and the tensor it multiplies: safari gates the input v of the
  // convolution, paper its output c.
  const auto gate = [&](std::int64_t o) { return safari ? index(N - 1 - o) : index(o); };
  std::vector<at::Tensor> gated(index(M));
  std::vector<at::Tensor> input(index(M));
  at::Tensor v = q[index(N)];
  for (std::int64_t o = 0; o < M; ++o) {
    if (safari) {
      gated[index(o)] = v;
      input[index(o)] = v * q[gate(o)];
      v = composed::long_conv(input[index(o)], h_MDK[o], row(skip_MD, o));
    } else {
      input[index(o)] = v;
      gated[index(o)] = composed::long_conv(v, h_MDK[o], row(skip_MD, o));
      v = q[gate(o)] * gated[index(o)];
    }
  }

  at::Tensor dv = dy_BDL;
  if (safari) {
    dq[0] = dy_BDL * v;
    dv = dy_BDL * q[0];
  }
  std::vector<at::Tensor> dh(index(M));
  std::vector<at::Tensor> dskip(index(M));
  for (std::int64_t o = M - 1; o >= 0; --o) {
    if (!safari) {
      dq[gate(o)] = dv * gated[index(o)];
      dv = dv * q[gate(o)];
    }
    at::Tensor dreverse;
    std::tie(dv, dh[index(o)], dskip[index(o)], dreverse) =
        composed::long_conv_backward(dv, input[index(o)], h_MDK[o], row(skip_MD, o), std::nullopt);
    if (safari) {
      dq[gate(o)] = dv * gated[index(o)];
      dv = dv * q[gate(o)];
    }
  }
  dq[index(N)] = dv;
  auto [dp, dweight, dbias] = composed::short_conv_backward(at::cat(dq, 1), p_BCL, short_weight_CT,
                                                            short_bias_C.has_value());
  return {dp, dweight, dbias, at::stack(dh), skip_MD ? at::stack(dskip) : at::Tensor()};
}

}  // namespace composed

namespace {

void check(const at::Tensor& p_BCL, const at::Tensor& short_weight_CT,
           const OptionalTensor& short_bias_C, const at::Tensor& h_MDK,
           const OptionalTensor& skip_MD, MixerMode mode) {
  constexpr const char* kOp = "hyena_mixer";
  check_shape(kOp, "p", p_BCL, {{"B", kAny}, {"C", kAny}, {"L", kAny}});
  check_floating(kOp, "p", p_BCL);
  check_shape(kOp, "h", h_MDK, {{"M", kAny}, {"D", kAny}, {"K", kAny}});
  const std::int64_t M = h_MDK.size(0);
  const std::int64_t D = h_MDK.size(1);
  const std::int64_t K = h_MDK.size(2);
  const std::int64_t L = p_BCL.size(2);
  TORCH_CHECK_VALUE(M >= 1,
                    "[hyena_mixer] h: expected M >= 1 filters (order 2 in safari mode has "
                    "one), got 0.");
  const std::int64_t C = (order_of(M, mode) + 1) * D;
  TORCH_CHECK_VALUE(p_BCL.size(1) == C, "[hyena_mixer] p: expected (N+1) D = ", C,
                    " channels for h of M=", M, ", D=", D, " in ", to_string(mode), " mode, got ",
                    p_BCL.size(1), ".");
  TORCH_CHECK_VALUE(K <= L && (K >= 1 || L == 0), "[hyena_mixer] h: expected 1 <= K <= L=", L,
                    " taps, got K=", K, ": cut the filter to its first L taps.");
  check_parameter(kOp, "h", h_MDK, p_BCL);
  TORCH_CHECK_VALUE(h_MDK.scalar_type() == at::kFloat || h_MDK.scalar_type() == at::kDouble,
                    "[hyena_mixer] h: expected float32 or float64, got ", h_MDK.scalar_type(), ".");
  check_shape(kOp, "short_weight", short_weight_CT, {{"C", C}, {"T", kAny}});
  TORCH_CHECK_VALUE(short_weight_CT.size(1) >= 1,
                    "[hyena_mixer] short_weight: expected at least one tap, got 0.");
  check_parameter(kOp, "short_weight", short_weight_CT, p_BCL);
  if (short_bias_C) {
    check_shape(kOp, "short_bias", *short_bias_C, {{"C", C}});
    check_parameter(kOp, "short_bias", *short_bias_C, p_BCL);
  }
  if (skip_MD) {
    check_shape(kOp, "skip", *skip_MD, {{"M", M}, {"D", D}});
    check_parameter(kOp, "skip", *skip_MD, h_MDK);
  }
}

at::Tensor forward(const at::Tensor& p_BCL, const at::Tensor& short_weight_CT,
                   const OptionalTensor& short_bias_C, const at::Tensor& h_MDK,
                   const OptionalTensor& skip_MD, c10::string_view mode_name) {
  const MixerMode mode = mixer_mode(mode_name);
  check(p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode);
  if (cpu::supports(p_BCL)) {
    return cpu::mixer_forward(p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode);
  }
  if (cuda::supports(p_BCL, h_MDK)) {
    return in_layout_of(
        p_BCL, cuda::mixer_forward(p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode));
  }
  return in_layout_of(
      p_BCL, composed::hyena_mixer(p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode));
}

Gradients backward(const at::Tensor& dy_BDL, const at::Tensor& p_BCL,
                   const at::Tensor& short_weight_CT, const OptionalTensor& short_bias_C,
                   const at::Tensor& h_MDK, const OptionalTensor& skip_MD,
                   c10::string_view mode_name) {
  const MixerMode mode = mixer_mode(mode_name);
  check(p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode);
  check_gradient("hyena_mixer_backward", "dy", dy_BDL, p_BCL,
                 {{"B", p_BCL.size(0)}, {"D", h_MDK.size(1)}, {"L", p_BCL.size(2)}});
  Gradients d;
  if (cpu::supports(p_BCL)) {
    auto fused =
        cpu::mixer_backward(dy_BDL, p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode);
    d = {fused.p_BCL, fused.weight_CT.to(short_weight_CT.scalar_type()), fused.bias_C, fused.h_MDK,
         fused.skip_MD};
    if (short_bias_C) {
      std::get<2>(d) = fused.bias_C.to(short_bias_C->scalar_type());
    }
  } else if (cuda::supports(p_BCL, h_MDK)) {
    d = cuda::mixer_backward(dy_BDL, p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode);
  } else {
    d = composed::hyena_mixer_backward(dy_BDL, p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD,
                                       mode);
  }
  auto& [dp, dweight, dbias, dh, dskip] = d;
  const auto none = [&] { return h_MDK.new_empty({0}); };  // results may not share memory
  return {in_layout_of(p_BCL, dp), dweight.contiguous(), short_bias_C ? dbias : none(),
          dh.contiguous(), skip_MD ? dskip : none()};
}

at::Tensor forward_meta(const at::Tensor& p_BCL, const at::Tensor& /*short_weight_CT*/,
                        const OptionalTensor& /*short_bias_C*/, const at::Tensor& h_MDK,
                        const OptionalTensor& /*skip_MD*/, c10::string_view /*mode*/) {
  return empty_in_layout_of(p_BCL, h_MDK.sym_size(1));
}

Gradients backward_meta(const at::Tensor& /*dy_BDL*/, const at::Tensor& p_BCL,
                        const at::Tensor& short_weight_CT, const OptionalTensor& short_bias_C,
                        const at::Tensor& h_MDK, const OptionalTensor& skip_MD,
                        c10::string_view /*mode*/) {
  const auto empty_like = [](const at::Tensor& x) { return x.new_empty_symint(x.sym_sizes()); };
  const auto none = [&] { return h_MDK.new_empty({0}); };
  return {empty_in_layout_of(p_BCL, p_BCL.sym_size(1)), empty_like(short_weight_CT),
          short_bias_C ? empty_like(*short_bias_C) : none(), empty_like(h_MDK),
          skip_MD ? empty_like(*skip_MD) : none()};
}

at::Tensor call_forward(const at::Tensor& p_BCL, const at::Tensor& short_weight_CT,
                        const OptionalTensor& short_bias_C, const at::Tensor& h_MDK,
                        const OptionalTensor& skip_MD, c10::string_view mode) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("hyena::hyena_mixer", "")
                             .typed<decltype(forward)>();
  return op.call(p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode);
}

struct HyenaMixer : torch::autograd::Function<HyenaMixer> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& p_BCL,
                            const at::Tensor& short_weight_CT, const OptionalTensor& short_bias_C,
                            const at::Tensor& h_MDK, const OptionalTensor& skip_MD,
                            const std::string& mode) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward({p_BCL, short_weight_CT, short_bias_C.value_or(at::Tensor()), h_MDK,
                                skip_MD.value_or(at::Tensor())});
    context->saved_data["mode"] = mode;
    return call_forward(p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& dy) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("hyena::hyena_mixer_backward", "")
                               .typed<decltype(ops::backward)>();
    const auto saved = context->get_saved_variables();
    const auto optional = [](const at::Tensor& x) {
      return x.defined() ? OptionalTensor(x) : std::nullopt;
    };
    const OptionalTensor bias = optional(saved[2]);
    const OptionalTensor skip = optional(saved[4]);
    auto [dp, dweight, dbias, dh, dskip] = op.call(dy[0], saved[0], saved[1], bias, saved[3], skip,
                                                   context->saved_data["mode"].toStringRef());
    return {dp,          dweight, bias ? dbias : at::Tensor(), dh, skip ? dskip : at::Tensor(),
            at::Tensor()};
  }
};

at::Tensor forward_autograd(const at::Tensor& p_BCL, const at::Tensor& short_weight_CT,
                            const OptionalTensor& short_bias_C, const at::Tensor& h_MDK,
                            const OptionalTensor& skip_MD, c10::string_view mode) {
  return HyenaMixer::apply(p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, std::string(mode));
}

}  // namespace

at::Tensor hyena_mixer(const at::Tensor& p_BCL, const at::Tensor& short_weight_CT,
                       const OptionalTensor& short_bias_C, const at::Tensor& h_MDK,
                       const OptionalTensor& skip_MD, MixerMode mode) {
  return call_forward(p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, to_string(mode));
}

at::Tensor hyena_mixer_prepared(const at::Tensor& p_BCL, const at::Tensor& short_weight_CT,
                                const OptionalTensor& short_bias_C, const PreparedFilters& filters,
                                MixerMode mode) {
  const at::NoGradGuard no_gradient;
  check_shape("hyena_mixer", "p", p_BCL, {{"B", kAny}, {"C", kAny}, {"L", kAny}});
  const at::Tensor resolved_BCL = p_BCL.resolve_neg();  // the dispatcher's work, which is not asked
  const std::int64_t taps = std::min(filters.h().size(2), resolved_BCL.size(2));
  const at::Tensor h_MDK = filters.h().narrow(2, 0, taps);
  const OptionalTensor& skip_MD = filters.skip();
  check(resolved_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, mode);
  if (cpu::supports(resolved_BCL)) {
    return cpu::mixer_forward(resolved_BCL, short_weight_CT, short_bias_C, filters, mode);
  }
  if (cuda::supports(resolved_BCL, h_MDK)) {
    return in_layout_of(resolved_BCL,
                        cuda::mixer_forward(resolved_BCL, short_weight_CT, short_bias_C, h_MDK,
                                            skip_MD, mode, &filters));
  }
  return call_forward(resolved_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, to_string(mode));
}

TORCH_LIBRARY_IMPL(hyena, CPU, library) {
  library.impl("hyena_mixer", &forward);
  library.impl("hyena_mixer_backward", &backward);
}
TORCH_LIBRARY_IMPL(hyena, CUDA, library) {
  library.impl("hyena_mixer", &forward);
  library.impl("hyena_mixer_backward", &backward);
}
TORCH_LIBRARY_IMPL(hyena, Meta, library) {
  library.impl("hyena_mixer", &forward_meta);
  library.impl("hyena_mixer_backward", &backward_meta);
}
TORCH_LIBRARY_IMPL(hyena, Autograd, library) {
  library.impl("hyena_mixer", &forward_autograd);
  library.impl("hyena_mixer_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace hyena::ops
