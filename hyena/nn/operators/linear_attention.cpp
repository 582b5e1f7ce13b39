#include "hyena/nn/operators/linear_attention.h"

#include <algorithm>
#include <cmath>

#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/nn/affine.h"
#include "hyena/nn/full_precision.h"
#include "hyena/nn/operators/scan.h"

namespace hyena::nn {
namespace {

/// Rows orthogonal in groups of d, with the norms of Gaussian rows.
at::Tensor orthogonal_rows(std::int64_t d) {
  const auto width = static_cast<double>(d);
  const auto m = std::max<std::int64_t>(1, static_cast<std::int64_t>(width * std::log(width)));
  std::vector<at::Tensor> groups;
  for (std::int64_t rows = 0; rows < m; rows += d) {
    groups.push_back(std::get<0>(at::linalg_qr(at::randn({d, d}))).t());
  }
  const at::Tensor norms = at::randn({m, d}).norm(2, 1, /*keepdim=*/true);
  return at::cat(groups).narrow(0, 0, m) * norms;
}

}  // namespace

LinearAttentionImpl::LinearAttentionImpl(std::int64_t d_model, std::int64_t num_heads,
                                         FeatureMap features)
    : num_heads_(num_heads), features_(features) {
  if (num_heads < 1 || d_model % num_heads != 0) {
    throw user_error("num_heads: expected a divisor of d_model = {}, got {}", d_model, num_heads);
  }
  Wqkv_ = register_module("Wqkv", torch::nn::Linear(d_model, 3 * d_model));
  out_proj_ = register_module("out_proj", torch::nn::Linear(d_model, d_model));
  if (features == FeatureMap::kPerformer) {
    omega_ = register_buffer("omega", orthogonal_rows(d_model / num_heads));
  }
}

at::Tensor LinearAttentionImpl::features(const at::Tensor& x_BHLE, Role role) const {
  if (features_ == FeatureMap::kElu) {
    return at::elu(x_BHLE) + 1.0;
  }
  const at::Tensor x = x_BHLE * std::pow(static_cast<double>(x_BHLE.size(-1)), -0.25);
  at::Tensor exponent = at::matmul(x, omega_.t()) - 0.5 * x.square().sum(-1, /*keepdim=*/true);
  if (role == Role::kQuery) {
    exponent = exponent - std::get<0>(exponent.detach().max(-1, /*keepdim=*/true));
  }
  return (at::exp(exponent) + 1e-4) / std::sqrt(static_cast<double>(omega_.size(0)));
}

at::Tensor LinearAttentionImpl::forward(const at::Tensor& u_BLD) {
  const std::int64_t B = u_BLD.size(0);
  const std::int64_t L = u_BLD.size(1);
  const std::int64_t D = u_BLD.size(2);
  const at::Tensor projected = affine(Wqkv_, u_BLD);
  // Sums over thousands of positions need more than half precision.
  const auto type = projected.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto qkv = projected.to(type)
                       .view({B, L, 3, num_heads_, D / num_heads_})
                       .permute({2, 0, 3, 1, 4})  // (3, B, H, L, D/H)
                       .unbind(0);
  at::Tensor y;
  {
    const FullPrecision no_autocast;
    y = linear_attention(features(qkv[0], Role::kQuery), features(qkv[1], Role::kKey), qkv[2]);
  }
  return affine(out_proj_, y.transpose(1, 2).reshape({B, L, D}).to(projected.scalar_type()));
}

}  // namespace hyena::nn
