#include "hyena/ops/cuda_implicit_filter.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "hyena/kernels/implicit_filter_cuda.h"

namespace hyena::ops::cuda {
namespace {

kernels::FilterRows rows_of(const at::Tensor& x_CK) {
  return {.channels = x_CK.size(0), .steps = x_CK.size(1)};
}

CUstream_st* stream_of(const at::Tensor& x) {
  return c10::cuda::getCurrentCUDAStream(x.get_device()).stream();
}

const float* floats(const at::Tensor& x) {
  return x.const_data_ptr<float>();
}

/// Channels of a parameter, (C) or (C, W), in the order of the filters (o, d).
at::Tensor in_filter_order(const at::Tensor& x, std::int64_t M, ChannelLayout layout) {
  if (M == 1 || layout == ChannelLayout::kStandalone) return x.contiguous();
  return x.unflatten(0, {x.size(0) / M, M}).transpose(0, 1).flatten(0, 1).contiguous();
}

/// The inverse, of a gradient.
at::Tensor in_layer_order(const at::Tensor& x, std::int64_t M, ChannelLayout layout) {
  if (M == 1 || layout == ChannelLayout::kStandalone) return x;
  return x.unflatten(0, {M, x.size(0) / M}).transpose(0, 1).flatten(0, 1);
}

/// The MLP up to the last product, transposed: rows are units, columns are steps.
struct Layers {
  at::Tensor freq_W;
  std::vector<at::Tensor> linear_WK;
  std::vector<at::Tensor> activation_WK;  // [0]: the features

  Layers(const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
         const at::Tensor& freq)
      : freq_W(freq.contiguous()), activation_WK{z_KE.t()} {
    for (std::size_t i = 0; i < biases.size(); ++i) {
      linear_WK.push_back(at::addmm(biases[i].unsqueeze(1), weights[i], activation_WK[i]));
      const at::Tensor& x = linear_WK.back();
      activation_WK.push_back(at::empty_like(x));
      kernels::filter_sine_cuda(rows_of(x), floats(freq_W), floats(x),
                                activation_WK.back().mutable_data_ptr<float>(), stream_of(x));
    }
  }
};

/// The window's own tensors, dense and in the order of the filters.
struct Window {
  at::Tensor t_K;
  at::Tensor delta_C;
  float shift;
  Window(const FilterWindow& window, std::int64_t M, ChannelLayout layout)
      : t_K(window.t_K.contiguous()),
        delta_C(in_filter_order(window.deltas_C, M, layout)),
        shift(static_cast<float>(window.shift)) {}
  [[nodiscard]] kernels::FilterWindowRows rows() const {
    return {.t = floats(t_K), .delta = floats(delta_C), .shift = shift};
  }
};

/// Room for the sums of every block of every row.
at::Tensor empty_parts(const at::Tensor& x_CK) {
  return x_CK.new_empty({x_CK.size(0), rows_of(x_CK).blocks()});
}

}  // namespace

bool supports_filter(const at::Tensor& z_KE, at::TensorList weights, const FilterWindow& window) {
  constexpr std::int64_t kMostBlocks = 65535;  // of a grid's y
  return z_KE.is_cuda() && z_KE.scalar_type() == at::kFloat && z_KE.numel() > 0 &&
         weights.back().numel() > 0 && !window.normalized &&
         z_KE.size(0) <= kMostBlocks * kernels::kFilterBlock &&
         kernels::implicit_filter_cuda_supports(z_KE.get_device());
}

at::Tensor implicit_filter(const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
                           const at::Tensor& freq_W, const FilterWindow& window, std::int64_t M,
                           ChannelLayout layout) {
  const c10::cuda::CUDAGuard guard(z_KE.device());
  const Layers layers(z_KE, weights, biases, freq_W);
  const at::Tensor h_CK =
      at::mm(in_filter_order(weights[biases.size()], M, layout), layers.activation_WK.back());
  if (window.deltas_C.defined()) {
    const Window w(window, M, layout);
    kernels::filter_window_cuda(rows_of(h_CK), w.rows(), floats(h_CK),
                                h_CK.mutable_data_ptr<float>(), stream_of(h_CK));
  }
  return h_CK.unflatten(0, {M, h_CK.size(0) / M});
}

composed::ImplicitFilterGradients implicit_filter_backward(
    const at::Tensor& dh_MDK, const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
    const at::Tensor& freq_W, const FilterWindow& window, std::int64_t M, ChannelLayout layout) {
  const c10::cuda::CUDAGuard guard(z_KE.device());
  const Layers layers(z_KE, weights, biases, freq_W);
  const std::size_t sines = biases.size();
  const at::Tensor last_CW = in_filter_order(weights[sines], M, layout);
  composed::ImplicitFilterGradients d;
  at::Tensor dm_CK = dh_MDK.contiguous().flatten(0, 1);
  if (window.deltas_C.defined()) {
    const Window w(window, M, layout);
    const at::Tensor m_CK = at::mm(last_CW, layers.activation_WK.back());
    const at::Tensor parts = empty_parts(m_CK);
    kernels::filter_window_backward_cuda(rows_of(m_CK), w.rows(), floats(m_CK), floats(dm_CK),
                                         m_CK.mutable_data_ptr<float>(),
                                         parts.mutable_data_ptr<float>(), stream_of(m_CK));
    dm_CK = m_CK;
    d.deltas_C = in_layer_order(parts.sum(1), M, layout);
  }
  d.weights.resize(sines + 1);
  d.biases.resize(sines);
  d.freq_W = at::zeros_like(layers.freq_W);
  d.weights[sines] =
      in_layer_order(at::mm(dm_CK, layers.activation_WK.back().t()), M, layout).contiguous();
  at::Tensor da_WK = at::mm(last_CW.t(), dm_CK);
  for (std::size_t i = sines; i-- > 0;) {
    const at::Tensor& x = layers.linear_WK[i];
    const at::Tensor dfreq = empty_parts(x);
    const at::Tensor dbias = empty_parts(x);
    kernels::filter_sine_backward_cuda(rows_of(x), floats(layers.freq_W), floats(x), floats(da_WK),
                                       da_WK.mutable_data_ptr<float>(),
                                       dfreq.mutable_data_ptr<float>(),
                                       dbias.mutable_data_ptr<float>(), stream_of(x));
    d.freq_W += dfreq.sum(1);
    d.biases[i] = dbias.sum(1);
    d.weights[i] = at::mm(da_WK, layers.activation_WK[i].t());
    da_WK = at::mm(weights[i].t(), da_WK);
  }
  d.z_KE = da_WK.t().contiguous();
  return d;
}

}  // namespace hyena::ops::cuda
