// The Hyena operator as a module: projections, short convolution, implicit filters, gates.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>

#include "hyena/nn/filters/filter_cache.h"
#include "hyena/nn/filters/parametrisations.h"
#include "hyena/nn/operators/mixer.h"
#include "hyena/ops/hyena_mixer.h"

namespace hyena::nn {

/// Names and defaults of the published operator (PAPER 1.4), with the options it left unfinished
/// given the meaning stated here.
struct HyenaOperatorOptions {
  std::int64_t d_model = 64;
  std::int64_t order = 2;  ///< N: safari >= 2, paper >= 1
  std::int64_t l_max = 1024;
  ops::MixerMode mode = ops::MixerMode::kSafari;
  std::int64_t short_filter_order = 3;  ///< T

  /// The operator works on D' = inner_factor * d_model channels between in_proj and out_proj.
  std::int64_t inner_factor = 1;
  /// H heads share the filters: channel c of D' uses filter c mod (D'/H). H divides D'.
  std::int64_t num_heads = 1;
  /// Time is cut into this many equal blocks; long convolutions stay inside their block and use the
  /// first l_max/num_blocks taps. Divides l_max and every input length. (The published code keeps
  /// twice as many taps, which leak the future.)
  std::int64_t num_blocks = 1;
  /// The gate of a long convolution becomes the sum of its head's gates over channels.
  bool outer_mixing = false;
  /// After long convolution o, head j becomes sum_i ord_proj_w[o,i,j] head i.
  bool post_order_ffn = false;
  std::string activation = "id";  ///< on the result before out_proj
  double dropout = 0.0;           ///< on the input of every long convolution, in training

  /// One of filter_names(): the parametrisation of the long filters.
  std::string filter_name = "hyena";
  /// channels, num_filters and l_max of both are set by the operator.
  HyenaFilterOptions filter{};   ///< of "hyena"
  FilterOptions other_filter{};  ///< of every other name
};

/// y = out_proj(mixer(short_conv(in_proj(u)))), PAPER 1.1 and 1.2. Parameters carry the published
/// names: in_proj, short_filter.{weight ((N+1)D', 1, T), bias}, filter_fn.*, out_proj, ord_proj_w.
/// Linear layers and the short filter start with PyTorch's defaults.
class HyenaOperatorImpl : public Mixer {
 public:
  /// @throws UserError for options out of range or combinations without a meaning.
  explicit HyenaOperatorImpl(const HyenaOperatorOptions& options);

  /// u_BLD (B, L, D) to (B, L, D). @throws UserError if L > l_max or num_blocks does not divide L.
  [[nodiscard]] at::Tensor forward(const at::Tensor& u_BLD) override;

  /// Going to training forgets the filters of evaluation.
  void train(bool on = true) override;

  /// Input of the mixer: in_proj(u), shape (B, (N+1)D', L), in the layout that the mixer of the
  /// device reads fastest: on the CPU a transposed view, on CUDA time contiguous.
  [[nodiscard]] at::Tensor project(const at::Tensor& u_BLD);

  /// Filters and skips of every channel for `length` samples, heads expanded: (M, D', K), (M, D').
  [[nodiscard]] at::Tensor filters(std::int64_t length);
  [[nodiscard]] at::Tensor skip();

  [[nodiscard]] const HyenaOperatorOptions& options() const { return options_; }
  [[nodiscard]] const at::Tensor& short_weight() const { return short_weight_; }  // (C, 1, T)
  [[nodiscard]] const at::Tensor& short_bias() const { return short_bias_; }

 private:
  /// True where the whole mixer is the registered op.
  [[nodiscard]] bool is_plain() const;
  /// The same recurrence piece by piece, for the options that the op does not know.
  [[nodiscard]] at::Tensor mix_in_pieces(const at::Tensor& p_BCL);
  [[nodiscard]] at::Tensor convolve(const at::Tensor& v_BDL, std::int64_t o,
                                    const at::Tensor& h_MDK,
                                    const std::optional<at::Tensor>& skip_MD);
  /// Filters of at least `length` taps (fewer where the parametrisation has no more) and skips; in
  /// evaluation mode kept from call to call.
  [[nodiscard]] FilterCache::Shared prepared_filters(std::int64_t length);
  [[nodiscard]] at::Tensor per_head(const at::Tensor& x_MD) const;

  HyenaOperatorOptions options_;
  std::int64_t inner_ = 0;  // D'
  torch::nn::Linear in_proj_{nullptr};
  torch::nn::Linear out_proj_{nullptr};
  at::Tensor short_weight_;
  at::Tensor short_bias_;
  at::Tensor ord_proj_w_;  // (N, H, H)
  std::shared_ptr<LongFilter> filter_;
  FilterCache cache_;
};
TORCH_MODULE(HyenaOperator);

}  // namespace hyena::nn
