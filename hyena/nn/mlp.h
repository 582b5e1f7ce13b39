// The position-wise MLP of a block.
#pragma once

#include <cstdint>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

namespace hyena::nn {

/// fc2(GELU(fc1(x))), GELU in its tanh form 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
class MlpImpl : public torch::nn::Module {
 public:
  MlpImpl(std::int64_t d_model, std::int64_t d_inner);
  [[nodiscard]] at::Tensor forward(const at::Tensor& x_BLD);

 private:
  torch::nn::Linear fc1_{nullptr};
  torch::nn::Linear fc2_{nullptr};
};
TORCH_MODULE(Mlp);

}  // namespace hyena::nn
