#include "hyena/ops/cuda_mixer.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "hyena/kernels/hyena_mixer_cuda.h"

namespace hyena::ops::cuda {
namespace {

/// Rows are padded to a multiple of this many elements, so that they start at 16 bytes.
constexpr std::int64_t kRowMultiple = 8;

std::int64_t padded(std::int64_t L) {
  return (L + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
}

kernels::CudaMixerShape shape_of(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                                 const at::Tensor& h_MDK) {
  return {.batch = p_BCL.size(0),
          .channels = h_MDK.size(1),
          .length = p_BCL.size(2),
          .filter_length = h_MDK.size(2),
          .row_stride = padded(p_BCL.size(2)),
          .taps = static_cast<int>(weight_CT.size(1)),
          .type = p_BCL.scalar_type() == at::kBFloat16 ? kernels::CudaElement::kBFloat16
                                                       : kernels::CudaElement::kFloat16};
}

/// A (B, C, L) tensor whose rows lie padded(L) apart.
at::Tensor empty_rows(const at::Tensor& like_BCL, std::int64_t channels) {
  const std::int64_t L = like_BCL.size(2);
  return like_BCL.new_empty({like_BCL.size(0), channels, padded(L)}).narrow(2, 0, L);
}

/// `x_BCL` itself where its rows are dense and padded(L) apart, else a copy that is.
at::Tensor in_rows(const at::Tensor& x_BCL) {
  const std::int64_t L = x_BCL.size(2);
  const std::int64_t C = x_BCL.size(1);
  const std::int64_t row = padded(L);
  if (x_BCL.stride(2) == 1 && x_BCL.stride(1) == row && x_BCL.stride(0) == C * row) {
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

/// The arguments as the kernel wants them, and the filter's spectrum.
struct Call {
  kernels::CudaMixerShape shape;
  CUstream_st* stream;
  at::Tensor p_BCL;
  at::Tensor weight_CT;
  at::Tensor bias_C;
  at::Tensor spectrum;

  Call(const at::Tensor& p, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
       const at::Tensor& h_MDK, const std::optional<at::Tensor>& skip_MD)
      : shape(shape_of(p, weight, h_MDK)),
        stream(c10::cuda::getCurrentCUDAStream(p.get_device()).stream()),
        p_BCL(in_rows(p)),
        weight_CT(single(weight)),
        bias_C(bias ? single(*bias) : at::Tensor()),
        spectrum(bytes(p, kernels::hyena_mixer_cuda_spectrum_bytes(shape))) {
    const at::Tensor h = single(h_MDK);
    const at::Tensor skip = skip_MD ? single(*skip_MD) : at::Tensor();
    kernels::hyena_mixer_cuda_spectrum(shape, floats(h), floats(skip), spectrum.mutable_data_ptr(),
                                       stream);
  }
};

}  // namespace

bool supports(const at::Tensor& p_BCL, const at::Tensor& weight_CT, const at::Tensor& h_MDK,
              MixerMode mode) {
  const auto type = p_BCL.scalar_type();
  return p_BCL.is_cuda() && p_BCL.numel() > 0 && (type == at::kBFloat16 || type == at::kHalf) &&
         mode == MixerMode::kSafari && h_MDK.size(0) == 1 && h_MDK.scalar_type() == at::kFloat &&
         kernels::hyena_mixer_cuda_supports(shape_of(p_BCL, weight_CT, h_MDK), p_BCL.get_device());
}

at::Tensor mixer_forward(const at::Tensor& p_BCL, const at::Tensor& weight_CT,
                         const std::optional<at::Tensor>& bias_C, const at::Tensor& h_MDK,
                         const std::optional<at::Tensor>& skip_MD) {
  const c10::cuda::CUDAGuard guard(p_BCL.device());
  const Call call(p_BCL, weight_CT, bias_C, h_MDK, skip_MD);
  at::Tensor y = empty_rows(p_BCL, h_MDK.size(1));
  const at::Tensor workspace =
      bytes(p_BCL, kernels::hyena_mixer_cuda_forward_workspace(call.shape));
  kernels::hyena_mixer_cuda_forward(call.shape, call.p_BCL.const_data_ptr(), floats(call.weight_CT),
                                    floats(call.bias_C), call.spectrum.const_data_ptr(),
                                    y.mutable_data_ptr(), workspace.mutable_data_ptr(),
                                    call.stream);
  return y;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> mixer_backward(
    const at::Tensor& dy_BDL, const at::Tensor& p_BCL, const at::Tensor& weight_CT,
    const std::optional<at::Tensor>& bias_C, const at::Tensor& h_MDK,
    const std::optional<at::Tensor>& skip_MD) {
  const c10::cuda::CUDAGuard guard(p_BCL.device());
  const Call call(p_BCL, weight_CT, bias_C, h_MDK, skip_MD);
  const at::Tensor dy = in_rows(dy_BDL.to(p_BCL.scalar_type()));
  at::Tensor dp = empty_rows(p_BCL, p_BCL.size(1));
  at::Tensor dweight = at::empty_like(call.weight_CT);
  at::Tensor dbias = call.weight_CT.new_empty({weight_CT.size(0)});
  at::Tensor dh = at::empty_like(h_MDK, h_MDK.options(), at::MemoryFormat::Contiguous);
  at::Tensor dskip = h_MDK.new_empty({1, h_MDK.size(1)});
  const at::Tensor workspace =
      bytes(p_BCL, kernels::hyena_mixer_cuda_backward_workspace(call.shape));
  kernels::hyena_mixer_cuda_backward(call.shape, dy.const_data_ptr(), call.p_BCL.const_data_ptr(),
                                     floats(call.weight_CT), floats(call.bias_C),
                                     call.spectrum.const_data_ptr(),
                                     {.dp_BCL = dp.mutable_data_ptr(),
                                      .dweight_CT = dweight.mutable_data_ptr<float>(),
                                      .dbias_C = dbias.mutable_data_ptr<float>(),
                                      .dh_DK = dh.mutable_data_ptr<float>(),
                                      .dskip_D = dskip.mutable_data_ptr<float>()},
                                     workspace.mutable_data_ptr(), call.stream);
  return {dp, dweight.to(weight_CT.scalar_type()),
          bias_C ? dbias.to(bias_C->scalar_type()) : at::Tensor(), dh,
          skip_MD ? dskip.to(skip_MD->scalar_type()) : at::Tensor()};
}

}  // namespace hyena::ops::cuda
