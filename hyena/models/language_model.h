// The Hyena language model, its hybrids with attention, and the GPT baseline.
#pragma once

#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/pimpl.h>

#include "hyena/models/config.h"
#include "hyena/nn/block.h"

namespace hyena::models {

/// Pre-norm blocks over a float32 residual stream, head tied to the embedding (PAPER 6.1):
///
///     h = E[ids] [+ P[0..L-1]] ;  blocks ;  logits = LN_f(drop(h) + r) E^T
///
/// Parameters carry the published names (PAPER 14.1): backbone.embeddings.word_embeddings.weight,
/// backbone.layers.{i}.{norm1, mixer.*, norm2, mlp.*}, backbone.ln_f; lm_head.weight is the
/// embedding and has no entry of its own.
class LanguageModelImpl : public torch::nn::Module {
 public:
  /// Builds and initialises (initialisation.h) in float32 on the CPU, from LibTorch's generator.
  /// @throws UserError for a configuration that makes no model.
  explicit LanguageModelImpl(const ModelConfig& config);

  /// ids_BL int64 (B, L), 1 <= L <= l_max, to the output of ln_f (B, L, D).
  /// @throws UserError if L > l_max.
  [[nodiscard]] at::Tensor hidden(const at::Tensor& ids_BL);

  /// Logits over the padded vocabulary, (B, L, V).
  [[nodiscard]] at::Tensor forward(const at::Tensor& ids_BL);

  /// E h^T for the given hidden states: (..., D) to (..., V).
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden);

  [[nodiscard]] const ModelConfig& config() const { return config_; }

 private:
  ModelConfig config_;
  torch::nn::Embedding word_embeddings_{nullptr};
  torch::nn::Embedding position_embeddings_{nullptr};
  std::vector<nn::Block> layers_;
  torch::nn::LayerNorm ln_f_{nullptr};
};
TORCH_MODULE(LanguageModel);

}  // namespace hyena::models
