#include "hyena/ops/long_conv.h"

#include <string>

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "hyena/ops/check.h"
#include "hyena/ops/cpu_gated_conv.h"
#include "hyena/ops/cuda_mixer.h"
#include "hyena/ops/kept_memory.h"
#include "hyena/ops/layout.h"

namespace hyena::ops {
namespace {

LongConvAlgorithm parse(std::string_view name) {
  if (name == "auto") {
    return LongConvAlgorithm::kAuto;
  }
  if (name == "direct") {
    return LongConvAlgorithm::kDirect;
  }
  TORCH_CHECK_VALUE(name == "fft",
                    "[long_conv] algorithm: expected 'auto', 'direct' or 'fft', got '", name, "'.");
  return LongConvAlgorithm::kFft;
}

std::string_view name_of(LongConvAlgorithm algorithm) {
  switch (algorithm) {
    case LongConvAlgorithm::kDirect:
      return "direct";
    case LongConvAlgorithm::kFft:
      return "fft";
    default:
      return "auto";
  }
}

/// Zero-padded real transform of 2L points along time.
at::Tensor spectrum(const at::Tensor& x, std::int64_t L) {
  return at::fft_rfft(x, 2 * L);
}

/// The first `count` samples of the inverse transform of 2L points.
at::Tensor samples(const at::Tensor& spectrum, std::int64_t L, std::int64_t count) {
  return at::fft_irfft(spectrum, 2 * L).narrow(-1, 0, count);
}

/// Depthwise conv1d with K-1 zeros on the side of the past (or the future, for `reverse`).
at::Tensor direct(const at::Tensor& u_BDL, const at::Tensor& h_DK, bool reverse) {
  const std::int64_t K = h_DK.size(1);
  const at::Tensor padded =
      at::constant_pad_nd(u_BDL, reverse ? at::IntArrayRef{0, K - 1} : at::IntArrayRef{K - 1, 0});
  const at::Tensor taps = reverse ? h_DK : h_DK.flip(1);
  return at::conv1d(padded, taps.unsqueeze(1), {}, 1, at::IntArrayRef{0}, 1, h_DK.size(0));
}

}  // namespace

namespace composed {

at::Tensor long_conv(const at::Tensor& u_BDL, const at::Tensor& h_DK,
                     const std::optional<at::Tensor>& skip_D,
                     const std::optional<at::Tensor>& reverse_DK, LongConvAlgorithm algorithm) {
  const std::int64_t L = u_BDL.size(2);
  const at::Tensor u = u_BDL.to(h_DK.scalar_type());
  at::Tensor y;
  if (u.numel() == 0) {
    y = u * h_DK.sum();  // empty, yet part of the graph
  } else if (algorithm == LongConvAlgorithm::kDirect) {
    y = direct(u, h_DK, /*reverse=*/false);
    if (reverse_DK) {
      y = y + direct(u, *reverse_DK, /*reverse=*/true);
    }
  } else {
    at::Tensor filter = spectrum(h_DK, L);
    if (reverse_DK) {
      filter = filter + at::conj(spectrum(*reverse_DK, L));
    }
    y = samples(spectrum(u, L) * filter, L, L);
  }
  if (skip_D) {
    y = y + u * skip_D->unsqueeze(-1);
  }
  return y.to(u_BDL.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> long_conv_backward(
    const at::Tensor& dy_BDL, const at::Tensor& u_BDL, const at::Tensor& h_DK,
    const std::optional<at::Tensor>& skip_D, const std::optional<at::Tensor>& reverse_DK) {
  const std::int64_t L = u_BDL.size(2);
  const std::int64_t K = h_DK.size(1);
  const at::Tensor u = u_BDL.to(h_DK.scalar_type());
  const at::Tensor dy = dy_BDL.to(h_DK.scalar_type());
  at::Tensor du;
  at::Tensor dh;
  at::Tensor dreverse;
  if (u.numel() == 0) {
    du = at::zeros_like(u);
    dh = at::zeros_like(h_DK);
    dreverse = reverse_DK ? at::zeros_like(*reverse_DK) : at::Tensor();
  } else {
    const at::Tensor U = spectrum(u, L);
    const at::Tensor G = spectrum(dy, L);
    at::Tensor adjoint = at::conj(spectrum(h_DK, L));
    if (reverse_DK) {
      adjoint = adjoint + spectrum(*reverse_DK, L);
    }
    du = samples(G * adjoint, L, L);
    const at::Tensor correlation = (at::conj(U) * G).sum(0);
    dh = samples(correlation, L, K);
    dreverse = reverse_DK ? samples(at::conj(correlation).resolve_conj(), L, K) : at::Tensor();
  }
  at::Tensor dskip;
  if (skip_D) {
    du = du + dy * skip_D->unsqueeze(-1);
    dskip = (dy * u).sum(at::IntArrayRef{0, 2});
  }
  return {du.to(u_BDL.scalar_type()), dh, dskip, dreverse};
}

}  // namespace composed

namespace {

using OptionalTensor = std::optional<at::Tensor>;
using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

void check(const at::Tensor& u_BDL, const at::Tensor& h_DK, const OptionalTensor& skip_D,
           const OptionalTensor& reverse_DK) {
  check_shape("long_conv", "u", u_BDL, {{"B", kAny}, {"D", kAny}, {"L", kAny}});
  check_floating("long_conv", "u", u_BDL);
  const std::int64_t D = u_BDL.size(1);
  const std::int64_t L = u_BDL.size(2);
  check_shape("long_conv", "h", h_DK, {{"D", D}, {"K", kAny}});
  const std::int64_t K = h_DK.size(1);
  TORCH_CHECK_VALUE(K <= L && (K >= 1 || L == 0), "[long_conv] h: expected 1 <= K <= L=", L,
                    " taps, got K=", K, ": cut the filter to its first L taps.");
  check_parameter("long_conv", "h", h_DK, u_BDL);
  TORCH_CHECK_VALUE(h_DK.scalar_type() == at::kFloat || h_DK.scalar_type() == at::kDouble,
                    "[long_conv] h: expected float32 or float64, got ", h_DK.scalar_type(),
                    ": filters keep full precision, only u may be half precision.");
  if (skip_D) {
    check_shape("long_conv", "skip", *skip_D, {{"D", D}});
    check_parameter("long_conv", "skip", *skip_D, h_DK);
  }
  if (reverse_DK) {
    check_shape("long_conv", "reverse", *reverse_DK, {{"D", D}, {"K", K}});
    check_parameter("long_conv", "reverse", *reverse_DK, h_DK);
  }
}

cpu::Filter cpu_filter(const at::Tensor& h_DK, const OptionalTensor& skip_D,
                       const OptionalTensor& reverse_DK) {
  const auto dense = [](const OptionalTensor& x) { return x ? x->contiguous() : at::Tensor(); };
  return {.h_DK = h_DK.contiguous(), .skip_D = dense(skip_D), .reverse_DK = dense(reverse_DK)};
}

bool cuda_kernel_runs(const at::Tensor& u_BDL, const at::Tensor& h_DK,
                      const OptionalTensor& reverse_DK, LongConvAlgorithm algorithm) {
  return algorithm != LongConvAlgorithm::kDirect &&
         cuda::supports(u_BDL, h_DK.unsqueeze(0), reverse_DK.has_value());
}

at::Tensor forward(const at::Tensor& u_BDL, const at::Tensor& h_DK, const OptionalTensor& skip_D,
                   const OptionalTensor& reverse_DK, c10::string_view algorithm) {
  check(u_BDL, h_DK, skip_D, reverse_DK);
  const LongConvAlgorithm parsed = parse(algorithm);
  if (parsed != LongConvAlgorithm::kDirect && cpu::supports(u_BDL)) {
    at::Tensor y = cpu::empty_output(u_BDL, u_BDL.size(1));
    cpu::GatedConv(u_BDL, /*taps=*/0, cpu_filter(h_DK, skip_D, reverse_DK))
        .forward({}, {}, {.x_BDL = u_BDL}, y);
    return y;
  }
  if (cuda_kernel_runs(u_BDL, h_DK, reverse_DK, parsed)) {
    return in_layout_of(u_BDL, cuda::long_conv_forward(u_BDL, h_DK, skip_D, reverse_DK));
  }
  return in_layout_of(u_BDL, composed::long_conv(u_BDL, h_DK, skip_D, reverse_DK, parsed));
}

Gradients backward(const at::Tensor& dy_BDL, const at::Tensor& u_BDL, const at::Tensor& h_DK,
                   const OptionalTensor& skip_D, const OptionalTensor& reverse_DK,
                   c10::string_view algorithm) {
  check(u_BDL, h_DK, skip_D, reverse_DK);
  check_gradient("long_conv_backward", "dy", dy_BDL, u_BDL,
                 {{"B", u_BDL.size(0)}, {"D", u_BDL.size(1)}, {"L", u_BDL.size(2)}});
  const auto none = [&] { return h_DK.new_empty({0}); };  // results may not share memory
  if (parse(algorithm) != LongConvAlgorithm::kDirect && cpu::supports(u_BDL)) {
    const cpu::Filter filter = cpu_filter(h_DK, skip_D, reverse_DK);
    const auto gradient_of = [](const at::Tensor& x) {
      return x.defined() ? cpu::empty_kept(x.sizes(), x.scalar_type()) : at::Tensor();
    };
    const cpu::Filter d{.h_DK = gradient_of(filter.h_DK),
                        .skip_D = gradient_of(filter.skip_D),
                        .reverse_DK = gradient_of(filter.reverse_DK)};
    const at::Tensor du = cpu::empty_output(u_BDL, u_BDL.size(1));
    cpu::GatedConv(u_BDL, /*taps=*/0, filter)
        .backward({}, {}, {.x_BDL = u_BDL}, dy_BDL.to(u_BDL.scalar_type()), {}, {}, {.x_BDL = du},
                  d);
    return {du, d.h_DK, skip_D ? d.skip_D : none(), reverse_DK ? d.reverse_DK : none()};
  }
  if (cuda_kernel_runs(u_BDL, h_DK, reverse_DK, parse(algorithm))) {
    auto [du, dh, dskip, dreverse] =
        cuda::long_conv_backward(dy_BDL, u_BDL, h_DK, skip_D, reverse_DK);
    return {in_layout_of(u_BDL, du), dh.contiguous(), skip_D ? dskip : none(),
            reverse_DK ? dreverse : none()};
  }
  auto [du, dh, dskip, dreverse] =
      composed::long_conv_backward(dy_BDL, u_BDL, h_DK, skip_D, reverse_DK);
  return {in_layout_of(u_BDL, du), dh.contiguous(), skip_D ? dskip : none(),
          reverse_DK ? dreverse.contiguous() : none()};
}

at::Tensor forward_meta(const at::Tensor& u_BDL, const at::Tensor& /*h_DK*/,
                        const OptionalTensor& /*skip_D*/, const OptionalTensor& /*reverse_DK*/,
                        c10::string_view /*algorithm*/) {
  return empty_in_layout_of(u_BDL, u_BDL.sym_size(1));
}

Gradients backward_meta(const at::Tensor& /*dy_BDL*/, const at::Tensor& u_BDL,
                        const at::Tensor& h_DK, const OptionalTensor& skip_D,
                        const OptionalTensor& reverse_DK, c10::string_view /*algorithm*/) {
  const auto none = [&] { return h_DK.new_empty({0}); };
  return {empty_in_layout_of(u_BDL, u_BDL.sym_size(1)), h_DK.new_empty_symint(h_DK.sym_sizes()),
          skip_D ? skip_D->new_empty_symint(skip_D->sym_sizes()) : none(),
          reverse_DK ? reverse_DK->new_empty_symint(reverse_DK->sym_sizes()) : none()};
}

at::Tensor call_forward(const at::Tensor& u_BDL, const at::Tensor& h_DK,
                        const OptionalTensor& skip_D, const OptionalTensor& reverse_DK,
                        c10::string_view algorithm) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("hyena::long_conv", "")
                             .typed<decltype(forward)>();
  return op.call(u_BDL, h_DK, skip_D, reverse_DK, algorithm);
}

Gradients call_backward(const at::Tensor& dy_BDL, const at::Tensor& u_BDL, const at::Tensor& h_DK,
                        const OptionalTensor& skip_D, const OptionalTensor& reverse_DK,
                        c10::string_view algorithm) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("hyena::long_conv_backward", "")
                             .typed<decltype(backward)>();
  return op.call(dy_BDL, u_BDL, h_DK, skip_D, reverse_DK, algorithm);
}

struct LongConv : torch::autograd::Function<LongConv> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& u_BDL,
                            const at::Tensor& h_DK, const OptionalTensor& skip_D,
                            const OptionalTensor& reverse_DK, const std::string& algorithm) {
    const at::AutoDispatchBelowADInplaceOrView below;
    context->save_for_backward(
        {u_BDL, h_DK, skip_D.value_or(at::Tensor()), reverse_DK.value_or(at::Tensor())});
    context->saved_data["algorithm"] = algorithm;
    return call_forward(u_BDL, h_DK, skip_D, reverse_DK, algorithm);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& dy) {
    const auto saved = context->get_saved_variables();
    const auto optional = [](const at::Tensor& x) {
      return x.defined() ? OptionalTensor(x) : std::nullopt;
    };
    const OptionalTensor skip = optional(saved[2]);
    const OptionalTensor reverse = optional(saved[3]);
    auto [du, dh, dskip, dreverse] = call_backward(dy[0], saved[0], saved[1], skip, reverse,
                                                   context->saved_data["algorithm"].toStringRef());
    return {du, dh, skip ? dskip : at::Tensor(), reverse ? dreverse : at::Tensor(), at::Tensor()};
  }
};

at::Tensor forward_autograd(const at::Tensor& u_BDL, const at::Tensor& h_DK,
                            const OptionalTensor& skip_D, const OptionalTensor& reverse_DK,
                            c10::string_view algorithm) {
  return LongConv::apply(u_BDL, h_DK, skip_D, reverse_DK, std::string(algorithm));
}

}  // namespace

at::Tensor long_conv(const at::Tensor& u_BDL, const at::Tensor& h_DK, const OptionalTensor& skip_D,
                     const OptionalTensor& reverse_DK, LongConvAlgorithm algorithm) {
  return call_forward(u_BDL, h_DK, skip_D, reverse_DK, name_of(algorithm));
}

TORCH_LIBRARY_IMPL(hyena, CPU, library) {
  library.impl("long_conv", &forward);
  library.impl("long_conv_backward", &backward);
}
TORCH_LIBRARY_IMPL(hyena, CUDA, library) {
  library.impl("long_conv", &forward);
  library.impl("long_conv_backward", &backward);
}
TORCH_LIBRARY_IMPL(hyena, Meta, library) {
  library.impl("long_conv", &forward_meta);
  library.impl("long_conv_backward", &backward_meta);
}
TORCH_LIBRARY_IMPL(hyena, Autograd, library) {
  library.impl("long_conv", &forward_autograd);
  library.impl("long_conv_backward", torch::autograd::autogradNotImplementedFallback());
}

}  // namespace hyena::ops
