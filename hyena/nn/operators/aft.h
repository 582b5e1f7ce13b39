// AFT: attention-free transformer, with position biases in a window (conv) or everywhere (full).
#pragma once

#include <cstdint>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "hyena/nn/operators/mixer.h"

namespace hyena::nn {

struct AftOptions {
  std::int64_t d_model = 64;
  std::int64_t num_heads = 1;  ///< channels of a head share the biases of AFT-conv
  std::int64_t window = 64;    ///< T, lags with a bias of their own, AFT-conv
  std::int64_t l_max = 1024;   ///< size of AFT-full's biases
};

/// y[t] = sigmoid(q[t]) sum_{s<=t} exp(k[s] + w[t-s]) v[s] / sum_{s<=t} exp(k[s] + w[t-s]) per
/// channel, between {q,k,v}_proj and out_proj; w is learned for lags below T and 0 beyond, where
/// tokens still count with exp(k[s]) (PAPER 7.2).
///
/// Parameter w (H, T), at first 0. Cost O(L T) per channel: the block of T around a position and
/// the one before are products with (T, 2T) matrices, older blocks a running mean (scan.h) of their
/// means. Inside two blocks, a key more than 80 below their largest counts as 80 below it.
class AftConvImpl : public Mixer {
 public:
  /// @throws UserError for a window below 1 or heads that do not divide d_model.
  explicit AftConvImpl(const AftOptions& options);
  [[nodiscard]] at::Tensor forward(const at::Tensor& u_BLD) override;

 private:
  AftOptions options_;
  torch::nn::Linear q_proj_{nullptr}, k_proj_{nullptr}, v_proj_{nullptr}, out_proj_{nullptr};
  at::Tensor w_;
};
TORCH_MODULE(AftConv);

/// The same with a bias w[t,s] for every pair: parameter w (l_max, l_max), at first 0. Quadratic by
/// definition: cost O(L^2) per channel, memory O(L^2) once. A key more than 80 below the largest of
/// the whole sequence counts as 80 below it (the one way in which a future key is seen).
/// forward throws UserError if L > l_max.
class AftFullImpl : public Mixer {
 public:
  explicit AftFullImpl(const AftOptions& options);
  [[nodiscard]] at::Tensor forward(const at::Tensor& u_BLD) override;

 private:
  torch::nn::Linear q_proj_{nullptr}, k_proj_{nullptr}, v_proj_{nullptr}, out_proj_{nullptr};
  at::Tensor w_;
};
TORCH_MODULE(AftFull);

}  // namespace hyena::nn
