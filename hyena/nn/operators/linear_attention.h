// Linear attention and Performer: attention through positive features, without an L x L matrix.
#pragma once

#include <cstdint>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "hyena/nn/operators/mixer.h"

namespace hyena::nn {

enum class FeatureMap : std::uint8_t {
  kElu,       ///< phi(x) = elu(x) + 1: linear attention
  kPerformer  ///< phi(x) = m^(-1/2) (exp(omega x' - |x'|^2/2) + 1e-4), x' = x d^(-1/4)
};

/// y[t] = phi(q[t])^T sum_{s<=t} phi(k[s]) v[s]^T / (phi(q[t])^T sum_{s<=t} phi(k[s]) + 1e-6) per
/// head of d = D/H channels, between Wqkv (rows [q | k | v], head-major) and out_proj.
///
/// Performer: m = floor(d ln d) (at least 1) rows omega, orthogonal in groups of d with the norms
/// of Gaussian rows; a buffer, drawn once. Queries subtract the largest exponent of their position,
/// which cancels but for the 1e-4. Keys subtract nothing: the usual maximum over the sequence would
/// let the future change the weight of the 1e-4, and exp(|omega|^2/2) bounds what it guards
/// against.
class LinearAttentionImpl : public Mixer {
 public:
  /// @throws UserError unless num_heads divides d_model.
  LinearAttentionImpl(std::int64_t d_model, std::int64_t num_heads, FeatureMap features);
  [[nodiscard]] at::Tensor forward(const at::Tensor& u_BLD) override;

 private:
  enum class Role : std::uint8_t { kQuery, kKey };
  [[nodiscard]] at::Tensor features(const at::Tensor& x_BHLE, Role role) const;

  std::int64_t num_heads_;
  FeatureMap features_;
  torch::nn::Linear Wqkv_{nullptr};
  torch::nn::Linear out_proj_{nullptr};
  at::Tensor omega_;  // (m, d)
};
TORCH_MODULE(LinearAttention);

}  // namespace hyena::nn
