#include "hyena/nn/mlp.h"

#include <torch/torch.h>

#include "hyena/nn/affine.h"

namespace hyena::nn {

MlpImpl::MlpImpl(std::int64_t d_model, std::int64_t d_inner) {
  fc1_ = register_module("fc1", torch::nn::Linear(d_model, d_inner));
  fc2_ = register_module("fc2", torch::nn::Linear(d_inner, d_model));
}

at::Tensor MlpImpl::forward(const at::Tensor& x_BLD) {
  return affine(fc2_, at::gelu(affine(fc1_, x_BLD), "tanh"));
}

}  // namespace hyena::nn
