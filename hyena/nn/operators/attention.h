// Causal multi-head attention: the baseline, and the layers of hybrid models.
#pragma once

#include <cstdint>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "hyena/nn/operators/mixer.h"

namespace hyena::nn {

/// softmax(q k^T / sqrt(D/H), causal) v between Wqkv and out_proj, both with biases. Rows of Wqkv
/// are [q | k | v], each head-major (PAPER 6.2). Evaluated by LibTorch's SDPA.
class CausalAttentionImpl : public Mixer {
 public:
  /// @throws UserError unless num_heads divides d_model.
  CausalAttentionImpl(std::int64_t d_model, std::int64_t num_heads, double dropout = 0.0);

  [[nodiscard]] at::Tensor forward(const at::Tensor& u_BLD) override;

 private:
  std::int64_t num_heads_;
  double dropout_;
  torch::nn::Linear Wqkv_{nullptr};
  torch::nn::Linear out_proj_{nullptr};
};
TORCH_MODULE(CausalAttention);

}  // namespace hyena::nn
