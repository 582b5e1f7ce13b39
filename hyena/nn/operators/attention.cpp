#include "hyena/nn/operators/attention.h"

#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/nn/affine.h"

namespace hyena::nn {

CausalAttentionImpl::CausalAttentionImpl(std::int64_t d_model, std::int64_t num_heads,
                                         double dropout)
    : num_heads_(num_heads), dropout_(dropout) {
  if (num_heads < 1 || d_model % num_heads != 0) {
    throw user_error("num_heads: expected a divisor of d_model = {}, got {}", d_model, num_heads);
  }
  Wqkv_ = register_module("Wqkv", torch::nn::Linear(d_model, 3 * d_model));
  out_proj_ = register_module("out_proj", torch::nn::Linear(d_model, d_model));
}

at::Tensor CausalAttentionImpl::forward(const at::Tensor& u_BLD) {
  const std::int64_t B = u_BLD.size(0);
  const std::int64_t L = u_BLD.size(1);
  const std::int64_t D = u_BLD.size(2);
  const auto qkv = affine(Wqkv_, u_BLD)
                       .view({B, L, 3, num_heads_, D / num_heads_})
                       .permute({2, 0, 3, 1, 4})  // (3, B, H, L, D/H)
                       .unbind(0);
  const at::Tensor y = at::scaled_dot_product_attention(
      qkv[0], qkv[1], qkv[2], /*attn_mask=*/{}, is_training() ? dropout_ : 0.0, /*is_causal=*/true);
  return affine(out_proj_, y.transpose(1, 2).reshape({B, L, D}));
}

}  // namespace hyena::nn
