#include "hyena/models/language_model.h"

#include <string>

#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/models/initialisation.h"
#include "hyena/models/mixers.h"

namespace hyena::models {
namespace {

std::shared_ptr<torch::nn::Module> group(const char* name) {
  return std::make_shared<torch::nn::Module>(name);
}

}  // namespace

LanguageModelImpl::LanguageModelImpl(const ModelConfig& config) : config_(config) {
  validate(config);
  const std::int64_t D = config.d_model;
  auto backbone = register_module("backbone", group("backbone"));
  auto embeddings = backbone->register_module("embeddings", group("embeddings"));
  word_embeddings_ = embeddings->register_module(
      "word_embeddings", torch::nn::Embedding(config.padded_vocab_size(), D));
  if (config.max_position_embeddings > 0) {
    position_embeddings_ = embeddings->register_module(
        "position_embeddings", torch::nn::Embedding(config.max_position_embeddings, D));
  }
  auto layers = backbone->register_module("layers", group("layers"));
  for (std::int64_t i = 0; i < config.n_layer; ++i) {
    layers_.emplace_back(layers->register_module(
        std::to_string(i),
        nn::Block(D, config.d_inner, make_mixer(config, i),
                  i == 0 ? config.embed_dropout : config.resid_dropout, config.resid_dropout)));
  }
  ln_f_ = backbone->register_module("ln_f", torch::nn::LayerNorm(torch::nn::LayerNormOptions({D})));
  initialise(*this, config.n_layer, config.init_std);
}

at::Tensor LanguageModelImpl::hidden(const at::Tensor& ids_BL) {
  const std::int64_t L = ids_BL.size(1);
  if (L > config_.l_max) {
    throw user_error("sequence of {} tokens is longer than the model's l_max = {}", L,
                     config_.l_max);
  }
  nn::BlockImpl::Stream stream{.h_BLD = word_embeddings_(ids_BL), .r_BLD = {}};
  if (position_embeddings_) {
    stream.h_BLD = stream.h_BLD + position_embeddings_->weight.narrow(0, 0, L);
  }
  for (nn::Block& layer : layers_) {
    stream = layer(std::move(stream));
  }
  const at::Tensor h = config_.resid_dropout > 0.0
                           ? at::dropout(stream.h_BLD, config_.resid_dropout, is_training())
                           : stream.h_BLD;
  return ln_f_(h + stream.r_BLD);
}

at::Tensor LanguageModelImpl::logits(const at::Tensor& hidden) {
  return at::linear(hidden, word_embeddings_->weight);
}

at::Tensor LanguageModelImpl::forward(const at::Tensor& ids_BL) {
  return logits(hidden(ids_BL));
}

}  // namespace hyena::models
