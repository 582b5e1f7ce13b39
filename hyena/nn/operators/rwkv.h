// RWKV-v4's time mixing.
#pragma once

#include <cstdint>

#include <torch/nn/pimpl.h>

#include "hyena/nn/operators/mixer.h"

namespace hyena::nn {

struct RwkvOptions {
  std::int64_t d_model = 64;
  std::int64_t layer = 0;  ///< its index, of
  std::int64_t n_layer = 2;
};

/// With k, v, r bias-free linear in mu u[t] + (1 - mu) u[t-1], each with its own mu, and
/// d = exp(time_decay), b = time_first, per channel (PAPER 7.2):
///
///     wkv[t] = (sum_{i<t} exp(k[i] - (t-1-i) d) v[i] + exp(b + k[t]) v[t]) / (the same without v)
///     y = out_proj( sigmoid(r) wkv )
///
/// The block keeps its own MLP (RWKV's channel mixing is not part of the mixer). Parameters:
/// {key, value, receptance, out_proj}.weight (D, D), time_mix_{k,v,r} (D), time_decay, time_first.
/// They keep RWKV's initialisation inside a language model: value orthogonal, the other matrices
/// zero, time_decay -5 + 8 (h/(D-1))^(0.7 + 1.3 layer/(n-1)), time_first ln 0.3 +- 0.5, and mixing
/// ratios that grow with the channel.
/// Cost: one scan (scan.h), O(L log L) per channel.
class RwkvImpl : public Mixer {
 public:
  explicit RwkvImpl(const RwkvOptions& options);
  [[nodiscard]] at::Tensor forward(const at::Tensor& u_BLD) override;

 private:
  at::Tensor key_, value_, receptance_, out_;
  at::Tensor mix_k_, mix_v_, mix_r_, decay_, first_;
};
TORCH_MODULE(Rwkv);

}  // namespace hyena::nn
