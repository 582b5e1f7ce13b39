// What stands in the place of attention in a block.
#pragma once

#include <torch/nn/module.h>

namespace hyena::nn {

/// A causal sequence mixer: (B, L, D) to (B, L, D). It ends in a linear layer named out_proj, whose
/// initialisation the language model scales with its depth.
class Mixer : public torch::nn::Module {
 public:
  [[nodiscard]] virtual at::Tensor forward(const at::Tensor& u_BLD) = 0;
};

}  // namespace hyena::nn
