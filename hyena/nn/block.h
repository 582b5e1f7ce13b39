// A residual block: mixer, then MLP, each behind its norm.
#pragma once

#include <memory>

#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include "hyena/nn/mlp.h"
#include "hyena/nn/operators/mixer.h"

namespace hyena::nn {

/// With the residual stream r kept in float32 (PAPER 6.1):
///
///     r = drop1(h) + r ;  h = mixer(norm1(r)) ;  r = drop2(h) + r ;  h = mlp(norm2(r))
///
/// so that the caller adds the last h: dropout, addition and norm stand side by side.
class BlockImpl : public torch::nn::Module {
 public:
  BlockImpl(std::int64_t d_model, std::int64_t d_inner, std::shared_ptr<Mixer> mixer,
            double dropout1, double dropout2);

  struct Stream {
    at::Tensor h_BLD;  ///< what the next addition adds
    at::Tensor r_BLD;  ///< the residual; undefined before the first block
  };
  [[nodiscard]] Stream forward(const Stream& stream);

 private:
  std::shared_ptr<Mixer> mixer_;
  torch::nn::LayerNorm norm1_{nullptr};
  torch::nn::LayerNorm norm2_{nullptr};
  Mlp mlp_{nullptr};
  double dropout1_;
  double dropout2_;
};
TORCH_MODULE(Block);

}  // namespace hyena::nn
