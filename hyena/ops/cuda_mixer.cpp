#include "hyena/ops/cuda_mixer.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "hyena/kernels/hyena_mixer_cuda.h"
#include "hyena/kernels/mixer_cuda_generic.h"
#include "hyena/ops/layout.h"
#include "hyena/ops/mixer_chain.h"
#include "hyena/ops/short_conv.h"

namespace hyena::ops::cuda {
namespace {

/// Rows start at 16 or 32 bytes.
std::int64_t padded(std::int64_t L) {
  return padded_row(L).expect_int();
}

using OptionalTensor = std::optional<at::Tensor>;

kernels::CudaElement element_of(at::ScalarType type) {
  return type == at::kBFloat16 ? kernels::CudaElement::kBFloat16
         : type == at::kHalf   ? kernels::CudaElement::kFloat16
                               : kernels::CudaElement::kFloat32;
}

kernels::CudaMixerShape shape_of(const at::Tensor& p_BCL, std::int64_t taps,
                                 const at::Tensor& h_MDK) {
  return {.batch = p_BCL.size(0),
          .channels = h_MDK.size(1),
          .length = p_BCL.size(2),
          .filter_length = h_MDK.size(2),
          .row_stride = padded(p_BCL.size(2)),
          .taps = static_cast<int>(taps),
          .type = element_of(p_BCL.scalar_type())};
}

/// A family of kernels: they differ in what they run and promise, not in how they are called.
struct Kernels {
  decltype(&kernels::hyena_mixer_cuda_generic_spectrum_bytes) spectrum_bytes, forward_workspace,
      backward_workspace;
  decltype(&kernels::hyena_mixer_cuda_generic_spectrum) spectrum;
  decltype(&kernels::hyena_mixer_cuda_generic_forward) forward;
  decltype(&kernels::hyena_mixer_cuda_generic_backward) backward;
};

/// The fused kernels as the generic ones are called; kernels_of gives them no reverse filter.
void fused_spectrum(const kernels::CudaMixerShape& shape, const float* h_DK, const float* skip_D,
                    const float* /*reverse_DK*/, void* spectrum, CUstream_st* stream) {
  kernels::hyena_mixer_cuda_spectrum(shape, h_DK, skip_D, spectrum, stream);
}
void fused_backward(const kernels::CudaMixerShape& shape, const void* dy_BDL, const void* p_BCL,
                    const float* weight_CT, const float* bias_C, const void* spectrum,
                    const kernels::CudaMixerGradients& gradients, float* /*dreverse_DK*/,
                    void* workspace, CUstream_st* stream) {
  kernels::hyena_mixer_cuda_backward(shape, dy_BDL, p_BCL, weight_CT, bias_C, spectrum, gradients,
                                     workspace, stream);
}

constexpr Kernels kFused{kernels::hyena_mixer_cuda_spectrum_bytes,
                         kernels::hyena_mixer_cuda_forward_workspace,
                         kernels::hyena_mixer_cuda_backward_workspace,
                         fused_spectrum,
                         kernels::hyena_mixer_cuda_forward,
                         fused_backward};
constexpr Kernels kGeneric{kernels::hyena_mixer_cuda_generic_spectrum_bytes,
                           kernels::hyena_mixer_cuda_generic_forward_workspace,
                           kernels::hyena_mixer_cuda_generic_backward_workspace,
                           kernels::hyena_mixer_cuda_generic_spectrum,
                           kernels::hyena_mixer_cuda_generic_forward,
                           kernels::hyena_mixer_cuda_generic_backward};

/// The fastest that run the call with `taps` short taps, with a reverse filter or without, or null.
const Kernels* kernels_of(const at::Tensor& p_BCL, std::int64_t taps, const at::Tensor& h_MDK,
                          bool both_ways) {
  const kernels::CudaMixerShape shape = shape_of(p_BCL, taps, h_MDK);
  const int device = p_BCL.get_device();
  if (!both_ways && kernels::hyena_mixer_cuda_supports(shape, device)) return &kFused;
  return kernels::hyena_mixer_cuda_generic_supports(shape, device) ? &kGeneric : nullptr;
}

/// A (B, C, L) tensor whose rows lie padded(L) apart.
at::Tensor empty_rows(const at::Tensor& like_BCL, std::int64_t channels) {
  const std::int64_t L = like_BCL.size(2);
  return like_BCL.new_empty({like_BCL.size(0), channels, padded(L)}).narrow(2, 0, L);
}

/// `x_BCL` itself where its rows are dense, padded(L) apart and begin at 16 bytes, else a copy.
at::Tensor in_rows(const at::Tensor& x_BCL) {
  const std::int64_t L = x_BCL.size(2);
  const std::int64_t C = x_BCL.size(1);
  const std::int64_t row = padded(L);
  const bool aligned = reinterpret_cast<std::uintptr_t>(x_BCL.const_data_ptr()) % 16 == 0;
  if (aligned && x_BCL.stride(2) == 1 && x_BCL.stride(1) == row && x_BCL.stride(0) == C * row) {
    return x_BCL;
  }
  at::Tensor copy = empty_rows(x_BCL, C);
  copy.copy_(x_BCL);
  return copy;
}

at::Tensor bytes(const at::Tensor& like, std::size_t count) {
  return at::empty({static_cast<std::int64_t>(count)}, like.options().dtype(at::kByte));
}

at::Tensor single(const at::Tensor& x) {
  return x.to(at::kFloat).contiguous();
}

const float* floats(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<float>() : nullptr;
}

at::Tensor make_spectrum(const Kernels& run, const kernels::CudaMixerShape& shape,
                         const chain::Filter& filter, CUstream_st* stream) {
  at::Tensor spectrum = bytes(filter.h_MDK, run.spectrum_bytes(shape));
  const auto dense = [](const OptionalTensor& x) { return x ? single(*x) : at::Tensor(); };
  const at::Tensor h = single(filter.h_MDK);
  const at::Tensor skip = dense(filter.skip_MD);
  const at::Tensor reverse = dense(filter.reverse_MDK);
  run.spectrum(shape, floats(h), floats(skip), floats(reverse), spectrum.mutable_data_ptr(),
               stream);
  return spectrum;
}

/// Larger spectra are made in every call: that costs a transform of the filter, but a model of long
/// float32 filters would keep 8 bytes per point of every layer.
constexpr std::size_t kMostKept = std::size_t{512} << 20;

/// Where a call's spectrum is kept: filter `o` of `filters`, or nowhere.
struct KeptAt {
  const PreparedFilters* filters = nullptr;
  std::int64_t o = 0;
};

/// The arguments as the kernels want them, and the filter's spectrum.
struct Call {
  const Kernels& run;
  kernels::CudaMixerShape shape;
  CUstream_st* stream;
  at::Tensor p_BCL;
  at::Tensor weight_CT;
  at::Tensor bias_C;
  at::Tensor spectrum;

  Call(const at::Tensor& p, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
       const chain::Filter& filter, KeptAt kept = {})
      : run(*kernels_of(p, weight.size(1), filter.h_MDK, filter.reverse_MDK.has_value())),
        shape(shape_of(p, weight.size(1), filter.h_MDK)),
        stream(c10::cuda::getCurrentCUDAStream(p.get_device()).stream()),
        p_BCL(in_rows(p)),
        weight_CT(single(weight)),
        bias_C(bias ? single(*bias) : at::Tensor()) {
    const auto make = [&] { return make_spectrum(run, shape, filter, stream); };
    // What a capture makes exists when the graph is replayed, not before.
    const bool keeps =
        kept.filters != nullptr && run.spectrum_bytes(shape) <= kMostKept &&
        c10::cuda::currentStreamCaptureStatusMayInitCtx() == c10::cuda::CaptureStatus::None;
    spectrum = keeps ? kept.filters->spectrum(kept.o,
                                              {shape.length, shape.filter_length, shape.batch,
                                               static_cast<std::int64_t>(shape.type),
                                               static_cast<std::int64_t>(&run == &kFused)},
                                              make)
                     : make();
  }
};

at::Tensor order_two_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                             const OptionalTensor& bias_C, const chain::Filter& filter,
                             KeptAt kept) {
  const Call call(p_BCL, weight_CT, bias_C, filter, kept);
  at::Tensor y = empty_rows(p_BCL, filter.h_MDK.size(1));
  const at::Tensor workspace = bytes(p_BCL, call.run.forward_workspace(call.shape));
  call.run.forward(call.shape, call.p_BCL.const_data_ptr(), floats(call.weight_CT),
                   floats(call.bias_C), call.spectrum.const_data_ptr(), y.mutable_data_ptr(),
                   workspace.mutable_data_ptr(), call.stream);
  return y;
}

chain::StageGradients order_two_backward(const at::Tensor& dy_BDL, const at::Tensor& p_BCL,
                                         const at::Tensor& weight_CT, const OptionalTensor& bias_C,
                                         const chain::Filter& filter) {
  const at::Tensor& h_MDK = filter.h_MDK;
  const Call call(p_BCL, weight_CT, bias_C, filter);
  const at::Tensor dy = in_rows(dy_BDL.to(p_BCL.scalar_type()));
  at::Tensor dp = empty_rows(p_BCL, p_BCL.size(1));
  at::Tensor dweight = at::empty_like(call.weight_CT);
  at::Tensor dbias = call.weight_CT.new_empty({weight_CT.size(0)});
  at::Tensor dh = at::empty_like(h_MDK, h_MDK.options(), at::MemoryFormat::Contiguous);
  at::Tensor dskip = h_MDK.new_empty({1, h_MDK.size(1)});
  at::Tensor dreverse = filter.reverse_MDK ? at::empty_like(dh) : at::Tensor();
  const at::Tensor workspace = bytes(p_BCL, call.run.backward_workspace(call.shape));
  call.run.backward(call.shape, dy.const_data_ptr(), call.p_BCL.const_data_ptr(),
                    floats(call.weight_CT), floats(call.bias_C), call.spectrum.const_data_ptr(),
                    {.dp_BCL = dp.mutable_data_ptr(),
                     .dweight_CT = dweight.mutable_data_ptr<float>(),
                     .dbias_C = dbias.mutable_data_ptr<float>(),
                     .dh_DK = dh.mutable_data_ptr<float>(),
                     .dskip_D = dskip.mutable_data_ptr<float>()},
                    dreverse.defined() ? dreverse.mutable_data_ptr<float>() : nullptr,
                    workspace.mutable_data_ptr(), call.stream);
  return {dp,
          dweight.to(weight_CT.scalar_type()),
          bias_C ? dbias.to(bias_C->scalar_type()) : at::Tensor(),
          dh,
          filter.skip_MD ? dskip.to(filter.skip_MD->scalar_type()) : at::Tensor(),
          dreverse};
}

chain::OrderTwo order_two(const PreparedFilters* kept = nullptr) {
  const auto forward = [kept](const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                              const at::Tensor& bias_C, const chain::Filter& filter,
                              std::int64_t o) {
    return order_two_forward(p_BCL, weight_CT, bias_C, filter, {kept, o});
  };
  return {empty_rows, forward, order_two_backward};
}

/// The short convolution by LibTorch's, and the weights that leave its result alone.
struct Convolved {
  at::Tensor q_BCL;
  at::Tensor weight_C1;
  Convolved(const at::Tensor& p_BCL, const at::Tensor& weight_CT, const OptionalTensor& bias_C)
      : q_BCL(composed::short_conv(p_BCL, weight_CT, bias_C)),
        weight_C1(weight_CT.new_ones({weight_CT.size(0), 1})) {}
};

/// Whether kernels with that many taps are those that run one: else the short convolution is done
/// before them, which costs less than to leave the faster ones.
bool includes_short_conv(const at::Tensor& p_BCL, std::int64_t taps, const at::Tensor& h_MDK) {
  return kernels_of(p_BCL, taps, h_MDK, false) == kernels_of(p_BCL, 1, h_MDK, false);
}

}  // namespace

bool supports(const at::Tensor& p_BCL, const at::Tensor& h_MDK, bool both_ways) {
  const auto type = p_BCL.scalar_type();
  return p_BCL.is_cuda() && p_BCL.numel() > 0 &&
         (type == at::kBFloat16 || type == at::kHalf || type == at::kFloat) &&
         h_MDK.scalar_type() == at::kFloat && kernels_of(p_BCL, 1, h_MDK, both_ways) != nullptr;
}

std::string path_of(const at::Tensor& p_BCL, const at::Tensor& h_MDK) {
  if (kernels_of(p_BCL, 1, h_MDK, /*both_ways=*/false) != &kFused) return "generic";
  return kernels::hyena_mixer_cuda_is_toeplitz(shape_of(p_BCL, 1, h_MDK)) ? "toeplitz"
                                                                          : "right_angle";
}

at::Tensor mixer_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                         const OptionalTensor& bias_C, const at::Tensor& h_MDK,
                         const OptionalTensor& skip_MD, MixerMode mode,
                         const PreparedFilters* kept) {
  const c10::cuda::CUDAGuard guard(p_BCL.device());
  if (!includes_short_conv(p_BCL, weight_CT.size(1), h_MDK)) {
    const Convolved c(p_BCL, weight_CT, bias_C);
    return mixer_forward(c.q_BCL, c.weight_C1, std::nullopt, h_MDK, skip_MD, mode, kept);
  }
  if (h_MDK.size(0) == 1 && mode == MixerMode::kSafari) {
    return order_two_forward(p_BCL, weight_CT, bias_C, {h_MDK, skip_MD, std::nullopt}, {kept, 0});
  }
  return chain::mixer_forward(order_two(kept), p_BCL, weight_CT, bias_C, h_MDK, skip_MD, mode);
}

chain::Gradients mixer_backward(const at::Tensor& dy_BDL, const at::Tensor& p_BCL,
                                const at::Tensor& weight_CT, const OptionalTensor& bias_C,
                                const at::Tensor& h_MDK, const OptionalTensor& skip_MD,
                                MixerMode mode) {
  const c10::cuda::CUDAGuard guard(p_BCL.device());
  if (!includes_short_conv(p_BCL, weight_CT.size(1), h_MDK)) {
    const Convolved c(p_BCL, weight_CT, bias_C);
    const auto [dq, dones, none, dh, dskip] =
        mixer_backward(dy_BDL, c.q_BCL, c.weight_C1, std::nullopt, h_MDK, skip_MD, mode);
    const auto [dp, dweight, dbias] =
        composed::short_conv_backward(dq, p_BCL, weight_CT, bias_C.has_value());
    return {dp, dweight, dbias, dh, dskip};
  }
  if (h_MDK.size(0) == 1 && mode == MixerMode::kSafari) {
    const chain::StageGradients d =
        order_two_backward(dy_BDL, p_BCL, weight_CT, bias_C, {h_MDK, skip_MD, std::nullopt});
    return {d.dp_BCL, d.dweight_CT, d.dbias_C, d.dh_MDK, d.dskip_MD};
  }
  return chain::mixer_backward(order_two(), dy_BDL, p_BCL, weight_CT, bias_C, h_MDK, skip_MD, mode);
}

at::Tensor long_conv_forward(const at::Tensor& u_BDL, const at::Tensor& h_DK,
                             const OptionalTensor& skip_D, const OptionalTensor& reverse_DK) {
  const c10::cuda::CUDAGuard guard(u_BDL.device());
  return chain::long_conv_forward(order_two(), u_BDL, h_DK, skip_D, reverse_DK);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> long_conv_backward(
    const at::Tensor& dy_BDL, const at::Tensor& u_BDL, const at::Tensor& h_DK,
    const OptionalTensor& skip_D, const OptionalTensor& reverse_DK) {
  const c10::cuda::CUDAGuard guard(u_BDL.device());
  return chain::long_conv_backward(order_two(), dy_BDL, u_BDL, h_DK, skip_D, reverse_DK);
}

}  // namespace hyena::ops::cuda
