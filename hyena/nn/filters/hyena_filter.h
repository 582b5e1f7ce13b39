// The implicit long filter of Hyena: positional features -> sine MLP -> exponential window.
#pragma once

#include <cstdint>
#include <vector>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "hyena/nn/filters/long_filter.h"
#include "hyena/ops/implicit_filter.h"

namespace hyena::nn {

/// Names and defaults of the published filter class; PAPER section 2.
struct HyenaFilterOptions {
  std::int64_t channels = 64;       ///< D, channels per filter set
  std::int64_t num_filters = 1;     ///< M, long convolutions of the operator
  std::int64_t l_max = 1024;        ///< samples the filter is built for; time is t = n/(l_max-1)
  std::int64_t emb_dim = 3;         ///< E, odd, >= 3
  std::int64_t filter_order = 64;   ///< W, width of the MLP
  std::int64_t num_inner_mlps = 2;  ///< W x W layers
  double w = 1.0;                   ///< initial sine frequency
  bool modulate = true;             ///< the exponential window
  double fast_decay_pct = 0.3;
  double slow_decay_pct = 1.5;
  double target = 1e-2;
  double shift = 0.0;          ///< 0.05 in HyenaDNA's released inference code
  bool normalized = false;     ///< divide by the L1 norm over channels
  bool bias = true;            ///< the skip term; the parameter exists either way
  bool train_features = true;  ///< z is a parameter (lr_pos_emb != 0), else a buffer
  bool train_decay = false;    ///< deltas is a parameter (modulation_lr != 0), else a buffer
  ops::ChannelLayout layout = ops::ChannelLayout::kSafari;
};

/// Positional features, shape (1, l_max, E) with K = (E-1)/2 bands (PAPER 2.2):
///   t_n = n/(l_max-1),  w_n = 2 pi n/l_max,  f = linspace(1e-4, K-1, K),
///   [ t_n | cos(f_k w_n) | -sin(f_k w_n) ]
[[nodiscard]] at::Tensor positional_features(std::int64_t l_max, std::int64_t emb_dim);

/// linspace(ln(target)/slow, ln(target)/fast, C), shape (1, 1, C).
[[nodiscard]] at::Tensor decay_ramp(const HyenaFilterOptions& options);

/// Parameters and buffers carry the published names: bias (M*D), pos_emb.{z, t},
/// implicit_filter.{0, 2, ...}.{weight, bias}, implicit_filter.1.freq (shared by all sines, stored
/// once), modulation.deltas.
class HyenaFilterImpl : public LongFilter {
 public:
  /// @throws UserError for options out of range.
  explicit HyenaFilterImpl(const HyenaFilterOptions& options);

  /// The first `length` taps of every filter, shape (M, D, length): a prefix, never rescaled.
  /// @throws UserError if length > l_max.
  [[nodiscard]] at::Tensor filters(std::int64_t length) override;

  /// The skip terms, shape (M, D); undefined where options.bias is false.
  [[nodiscard]] at::Tensor skip() override;

  [[nodiscard]] const HyenaFilterOptions& options() const { return options_; }

 private:
  HyenaFilterOptions options_;
  at::Tensor bias_;
  at::Tensor z_;       // (1, l_max, E)
  at::Tensor t_;       // (1, l_max, 1)
  at::Tensor freq_;    // (1, W)
  at::Tensor deltas_;  // (1, 1, M*D)
  std::vector<torch::nn::Linear> layers_;
};
TORCH_MODULE(HyenaFilter);

}  // namespace hyena::nn
