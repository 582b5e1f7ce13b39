#include "hyena/ops/cpu_gated_conv.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "hyena/kernels/workspace.h"
#include "hyena/ops/kept_memory.h"
#include "hyena/ops/layout.h"

#ifndef INTRA_OP_PARALLEL
#ifndef __clang_analyzer__
#error "at::parallel_for would run on one thread: compile with -fopenmp"
#endif
#endif

namespace hyena::ops::cpu {
namespace {

kernels::DataType data_type(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kDouble:
      return kernels::DataType::kFloat64;
    case at::kBFloat16:
      return kernels::DataType::kBFloat16;
    default:
      return kernels::DataType::kFloat32;
  }
}

kernels::Strides strides_of(const at::Tensor& x_BDL) {
  return {.batch = x_BDL.stride(0), .channel = x_BDL.stride(1), .time = x_BDL.stride(2)};
}

/// Of filters, weights and skips beside `x`.
at::ScalarType filter_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

const void* data_or_null(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr() : nullptr;
}
void* mutable_or_null(const at::Tensor& x) {
  return x.defined() ? x.mutable_data_ptr() : nullptr;
}

kernels::ConstArray input(const at::Tensor& x_BDL) {
  return {.data = x_BDL.const_data_ptr(), .strides = strides_of(x_BDL)};
}

kernels::Array output(const at::Tensor& x_BDL) {
  return {.data = x_BDL.mutable_data_ptr(), .strides = strides_of(x_BDL)};
}

kernels::Factor raw(const Factor& factor) {
  if (!factor.x_BDL.defined()) {
    return {};
  }
  return {.x = input(factor.x_BDL),
          .weight_DT = data_or_null(factor.weight_DT),
          .bias_D = data_or_null(factor.bias_D)};
}

kernels::FilterArguments raw(const Filter& filter) {
  return {.h_DK = data_or_null(filter.h_DK),
          .skip_D = data_or_null(filter.skip_D),
          .reverse_DK = data_or_null(filter.reverse_DK),
          .spectrum = data_or_null(filter.spectrum)};
}

kernels::FactorGradient raw_gradient(const FactorGradient& gradient) {
  if (!gradient.x_BDL.defined()) {
    return {};
  }
  return {.dx = output(gradient.x_BDL),
          .dweight_DT = mutable_or_null(gradient.weight_DT),
          .dbias_D = mutable_or_null(gradient.bias_D)};
}

/// Scratch of this process: pages that were touched once cost nothing.
kernels::WorkspacePool& workspaces() {
  static kernels::WorkspacePool pool;
  return pool;
}

/// Runs work(begin, end, workspace) over [0, items) on LibTorch's threads, one workspace each.
template <typename Work>
void on_threads(std::int64_t items, std::size_t workspace_bytes, const Work& work) {
  at::parallel_for(0, items, /*grain_size=*/1, [&](std::int64_t begin, std::int64_t end) {
    const kernels::WorkspacePool::Lease workspace(workspaces(), workspace_bytes);
    work(begin, end, workspace.data());
  });
}

kernels::GatedConvShape shape_of(const at::Tensor& x_BDL, std::int64_t taps, std::int64_t K) {
  return {.batch = x_BDL.size(0),
          .channels = x_BDL.size(1),
          .length = x_BDL.size(2),
          .filter_length = K,
          .taps = taps,
          .type = data_type(x_BDL),
          .threads = at::get_num_threads()};
}

}  // namespace

at::Tensor empty_output(const at::Tensor& like_BCL, std::int64_t channels) {
  const std::int64_t B = like_BCL.size(0);
  const std::int64_t L = like_BCL.size(2);
  const at::ScalarType type = like_BCL.scalar_type();
  if (is_channels_last(like_BCL)) {
    return empty_kept({B, L, channels}, type).transpose(1, 2);
  }
  const std::int64_t row = has_padded_rows(like_BCL) ? padded_row(L).expect_int() : L;
  return empty_kept({B, channels, row}, type).narrow(2, 0, L);
}

bool supports(const at::Tensor& x) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): once, and nobody here calls setenv
  static const char* const path = std::getenv("HYENA_CPU_PATH");
  if (path != nullptr && std::string_view(path) == "generic") {
    return false;
  }
  const auto type = x.scalar_type();
  return x.device().is_cpu() && x.numel() > 0 &&
         (type == at::kFloat || type == at::kDouble || type == at::kBFloat16);
}

GatedConv::GatedConv(const at::Tensor& like_BDL, std::int64_t taps, Filter filter)
    : plan_(shape_of(like_BDL, taps, filter.h_DK.size(1))), filter_(std::move(filter)) {}

namespace {

/// Taps [0, count) of filter o and its skip, as the kernel wants them.
Filter taps_of(const PreparedFilters& filters, std::int64_t o, std::int64_t count,
               at::ScalarType type) {
  const auto& skip_MD = filters.skip();
  return {.h_DK = filters.h().select(0, o).narrow(1, 0, count).to(type).contiguous(),
          .skip_D = skip_MD ? skip_MD->select(0, o).to(type).contiguous() : at::Tensor()};
}

at::Tensor make_spectrum(const Filter& filter, const kernels::GatedConvPlan& plan) {
  const at::ScalarType type = filter.h_DK.scalar_type();
  at::Tensor spectrum =
      empty_kept({static_cast<std::int64_t>(plan.spectrum_bytes() / at::elementSize(type))}, type);
  on_threads(plan.num_backward_items(), plan.forward_workspace_bytes(),
             [&](std::int64_t begin, std::int64_t end, void* workspace) {
               kernels::gated_conv_spectrum(plan, raw(filter), begin, end,
                                            spectrum.mutable_data_ptr(), workspace);
             });
  return spectrum;
}

}  // namespace

GatedConv::GatedConv(const at::Tensor& like_BDL, std::int64_t taps, const PreparedFilters& filters,
                     std::int64_t o)
    : plan_(shape_of(like_BDL, taps, std::min(filters.h().size(2), like_BDL.size(2)))) {
  const auto type = filter_type(like_BDL);
  const std::int64_t count = plan_.shape().filter_length;
  if (plan_.spectrum_bytes() == 0) {
    filter_ = taps_of(filters, o, count, type);
    return;
  }
  const SpectrumKey key{plan_.transform_length(), count,
                        static_cast<std::int64_t>(plan_.lane_axis()),
                        static_cast<std::int64_t>(type)};
  filter_.spectrum = filters.spectrum(
      o, key, [&] { return make_spectrum(taps_of(filters, o, count, type), plan_); });
}

void GatedConv::forward(const Factor& post, const Factor& pre, const Factor& v,
                        const at::Tensor& y_BDL) const {
  const kernels::GatedConvForward arguments{
      .post = raw(post), .pre = raw(pre), .v = raw(v), .filter = raw(filter_), .y = output(y_BDL)};
  on_threads(plan_.num_forward_items(), plan_.forward_workspace_bytes(),
             [&](std::int64_t begin, std::int64_t end, void* workspace) {
               kernels::gated_conv_forward(plan_, arguments, begin, end, workspace);
             });
}

void GatedConv::backward(const Factor& post, const Factor& pre, const Factor& v,
                         const at::Tensor& dy_BDL, const FactorGradient& dpost,
                         const FactorGradient& dpre, const FactorGradient& dv,
                         const Filter& dfilter) const {
  const kernels::GatedConvBackward arguments{.post = raw(post),
                                             .pre = raw(pre),
                                             .v = raw(v),
                                             .filter = raw(filter_),
                                             .dy = input(dy_BDL),
                                             .dpost = raw_gradient(dpost),
                                             .dpre = raw_gradient(dpre),
                                             .dv = raw_gradient(dv),
                                             .dh_DK = mutable_or_null(dfilter.h_DK),
                                             .dskip_D = mutable_or_null(dfilter.skip_D),
                                             .dreverse_DK = mutable_or_null(dfilter.reverse_DK)};
  on_threads(plan_.num_backward_items(), plan_.backward_workspace_bytes(),
             [&](std::int64_t begin, std::int64_t end, void* workspace) {
               kernels::gated_conv_backward(plan_, arguments, begin, end, workspace);
             });
}

namespace {

/// The chunks of a mixer's arguments and the roles they play in each long convolution.
struct Steps {
  std::int64_t M;
  std::int64_t D;
  std::int64_t N;
  bool safari;

  Steps(const at::Tensor& h_MDK, MixerMode mode)
      : M(h_MDK.size(0)),
        D(h_MDK.size(1)),
        N(mode == MixerMode::kSafari ? M + 1 : M),
        safari(mode == MixerMode::kSafari) {}

  /// Chunk i of p with its rows of the short filter; works for gradients alike.
  [[nodiscard]] Factor chunk(std::int64_t i, const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                             const at::Tensor& bias_C) const {
    return {.x_BDL = p_BCL.narrow(1, i * D, D),
            .weight_DT = weight_CT.narrow(0, i * D, D),
            .bias_D = bias_C.defined() ? bias_C.narrow(0, i * D, D) : at::Tensor()};
  }
  // Chunks that gate before and after long convolution o; -1: none.
  [[nodiscard]] std::int64_t pre(std::int64_t o) const { return safari ? N - 1 - o : -1; }
  [[nodiscard]] std::int64_t post(std::int64_t o) const {
    return safari ? (o == M - 1 ? 0 : -1) : o;
  }
};

at::Tensor row_or_none(const at::Tensor& x_MD, std::int64_t o) {
  return x_MD.defined() ? x_MD.select(0, o) : at::Tensor();
}

/// The mixer with its arguments in the dtypes that the kernel wants.
class Mixer {
 public:
  Mixer(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
        const std::optional<at::Tensor>& bias_C, const at::Tensor& h_MDK,
        const std::optional<at::Tensor>& skip_MD, MixerMode mode)
      : Mixer(p_BCL, weight_CT, bias_C, Steps(h_MDK, mode)) {
    const auto type = filter_type(p_BCL);
    h_MDK_ = h_MDK.to(type).contiguous();
    skip_MD_ = skip_MD ? skip_MD->to(type).contiguous() : at::Tensor();
  }

  Mixer(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
        const std::optional<at::Tensor>& bias_C, const PreparedFilters& filters, MixerMode mode)
      : Mixer(p_BCL, weight_CT, bias_C, Steps(filters.h(), mode)) {
    kept_ = &filters;
  }

  /// Runs the first `count` long convolutions; `inputs`, if given, gets the input v of each but the
  /// first. Returns the output of the last one.
  at::Tensor run(std::int64_t count, std::vector<at::Tensor>* inputs) const {
    at::Tensor v;
    for (std::int64_t o = 0; o < count; ++o) {
      const at::Tensor y = empty_output(p_BCL_, steps_.D);
      gated_conv(o).forward(factor(steps_.post(o)), factor(steps_.pre(o)), input_of(o, v), y);
      v = y;
      if (inputs != nullptr) {
        inputs->push_back(v);
      }
    }
    return v;
  }

  MixerGradients backward(const at::Tensor& dy_BDL) const {
    MixerGradients d{.p_BCL = empty_output(p_BCL_, p_BCL_.size(1)),
                     .weight_CT = at::empty_like(weight_CT_),
                     .bias_C = bias_C_.defined() ? at::empty_like(bias_C_) : at::Tensor(),
                     .h_MDK = empty_kept(h_MDK_.sizes(), h_MDK_.scalar_type()),
                     .skip_MD = skip_MD_.defined() ? at::empty_like(skip_MD_) : at::Tensor()};
    const auto chunk = [&](std::int64_t i) {
      return i < 0 ? Factor{} : steps_.chunk(i, d.p_BCL, d.weight_CT, d.bias_C);
    };
    std::vector<at::Tensor> outputs;  // outputs[o] is the input of long convolution o + 1
    static_cast<void>(run(steps_.M - 1, &outputs));
    at::Tensor dy = dy_BDL;
    for (std::int64_t o = steps_.M - 1; o >= 0; --o) {
      const bool first = o == 0;
      const at::Tensor v = first ? at::Tensor() : outputs[static_cast<std::size_t>(o - 1)];
      const FactorGradient dv =
          first ? chunk(steps_.N) : Factor{.x_BDL = empty_output(v, steps_.D)};
      gated_conv(o).backward(factor(steps_.post(o)), factor(steps_.pre(o)), input_of(o, v), dy,
                             chunk(steps_.post(o)), chunk(steps_.pre(o)), dv,
                             {.h_DK = d.h_MDK.select(0, o), .skip_D = row_or_none(d.skip_MD, o)});
      dy = dv.x_BDL;
      if (!first) {
        outputs[static_cast<std::size_t>(o - 1)] = at::Tensor();
      }
    }
    return d;
  }

  [[nodiscard]] std::int64_t count() const { return steps_.M; }

 private:
  Mixer(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
        const std::optional<at::Tensor>& bias_C, const Steps& steps)
      : p_BCL_(p_BCL), steps_(steps) {
    const auto type = filter_type(p_BCL);
    weight_CT_ = weight_CT.to(type).contiguous();
    bias_C_ = bias_C ? bias_C->to(type).contiguous() : at::Tensor();
  }

  [[nodiscard]] GatedConv gated_conv(std::int64_t o) const {
    const at::Tensor like_BDL = p_BCL_.narrow(1, 0, steps_.D);
    if (kept_ != nullptr) {
      return {like_BDL, weight_CT_.size(1), *kept_, o};
    }
    return {like_BDL,
            weight_CT_.size(1),
            {.h_DK = h_MDK_.select(0, o), .skip_D = row_or_none(skip_MD_, o)}};
  }
  [[nodiscard]] Factor factor(std::int64_t i) const {
    return i < 0 ? Factor{} : steps_.chunk(i, p_BCL_, weight_CT_, bias_C_);
  }
  [[nodiscard]] Factor input_of(std::int64_t o, const at::Tensor& v) const {
    return o == 0 ? factor(steps_.N) : Factor{.x_BDL = v};
  }

  at::Tensor p_BCL_;
  Steps steps_;
  at::Tensor weight_CT_;
  at::Tensor bias_C_;
  at::Tensor h_MDK_;
  at::Tensor skip_MD_;
  const PreparedFilters* kept_ = nullptr;  // instead of the two above
};

}  // namespace

at::Tensor mixer_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                         const std::optional<at::Tensor>& bias_C, const at::Tensor& h_MDK,
                         const std::optional<at::Tensor>& skip_MD, MixerMode mode) {
  const Mixer mixer(p_BCL, weight_CT, bias_C, h_MDK, skip_MD, mode);
  return mixer.run(mixer.count(), nullptr);
}

at::Tensor mixer_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                         const std::optional<at::Tensor>& bias_C, const PreparedFilters& filters,
                         MixerMode mode) {
  const Mixer mixer(p_BCL, weight_CT, bias_C, filters, mode);
  return mixer.run(mixer.count(), nullptr);
}

MixerGradients mixer_backward(const at::Tensor& dy_BDL, const at::Tensor& p_BCL,
                              const at::Tensor& weight_CT, const std::optional<at::Tensor>& bias_C,
                              const at::Tensor& h_MDK, const std::optional<at::Tensor>& skip_MD,
                              MixerMode mode) {
  return Mixer(p_BCL, weight_CT, bias_C, h_MDK, skip_MD, mode)
      .backward(dy_BDL.to(p_BCL.scalar_type()));
}

}  // namespace hyena::ops::cpu
