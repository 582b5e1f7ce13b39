#include "hyena/nn/block.h"

#include <torch/torch.h>

namespace hyena::nn {
namespace {

/// drop(h) + r in at least float32 (float64 stays float64).
at::Tensor add(const at::Tensor& h, const at::Tensor& r, double dropout, bool training) {
  const at::Tensor dropped = dropout > 0.0 ? at::dropout(h, dropout, training) : h;
  const at::Tensor wide = dropped.scalar_type() == at::kDouble ? dropped : dropped.to(at::kFloat);
  return r.defined() ? wide + r : wide;
}

}  // namespace

BlockImpl::BlockImpl(std::int64_t d_model, std::int64_t d_inner, std::shared_ptr<Mixer> mixer,
                     double dropout1, double dropout2)
    : mixer_(std::move(mixer)), dropout1_(dropout1), dropout2_(dropout2) {
  register_module("mixer", mixer_);
  norm1_ = register_module("norm1", torch::nn::LayerNorm(torch::nn::LayerNormOptions({d_model})));
  norm2_ = register_module("norm2", torch::nn::LayerNorm(torch::nn::LayerNormOptions({d_model})));
  mlp_ = register_module("mlp", Mlp(d_model, d_inner));
}

BlockImpl::Stream BlockImpl::forward(const Stream& stream) {
  at::Tensor r = add(stream.h_BLD, stream.r_BLD, dropout1_, is_training());
  r = add(mixer_->forward(norm1_(r)), r, dropout2_, is_training());
  return {.h_BLD = mlp_(norm2_(r)), .r_BLD = r};
}

}  // namespace hyena::nn
