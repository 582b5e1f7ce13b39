#include "hyena/models/mixers.h"

#include "hyena/base/error.h"
#include "hyena/nn/operators/aft.h"
#include "hyena/nn/operators/attention.h"
#include "hyena/nn/operators/gss.h"
#include "hyena/nn/operators/h3.h"
#include "hyena/nn/operators/linear_attention.h"
#include "hyena/nn/operators/rwkv.h"

namespace hyena::models {

std::shared_ptr<nn::Mixer> make_mixer(const ModelConfig& config, std::int64_t layer) {
  const std::int64_t D = config.d_model;
  if (config.is_attention(layer)) {
    return std::make_shared<nn::CausalAttentionImpl>(D, config.num_heads, config.attention_dropout);
  }
  const std::string& name = config.mixer;
  if (name == "hyena") {
    return std::make_shared<nn::HyenaOperatorImpl>(config.hyena_options());
  }
  if (name == "h3") {
    return std::make_shared<nn::H3Impl>(
        nn::H3Options{.d_model = D, .d_state = config.d_state, .head_dim = config.head_dim});
  }
  if (name == "gss") {
    return std::make_shared<nn::GssImpl>(nn::GssOptions{.d_model = D, .d_state = config.d_state});
  }
  const nn::AftOptions aft{.d_model = D,
                           .num_heads = config.num_heads,
                           .window = config.aft_window,
                           .l_max = config.l_max};
  if (name == "aft_conv") {
    return std::make_shared<nn::AftConvImpl>(aft);
  }
  if (name == "aft_full") {
    return std::make_shared<nn::AftFullImpl>(aft);
  }
  if (name == "rwkv") {
    return std::make_shared<nn::RwkvImpl>(
        nn::RwkvOptions{.d_model = D, .layer = layer, .n_layer = config.n_layer});
  }
  if (name == "linear_attention" || name == "performer") {
    return std::make_shared<nn::LinearAttentionImpl>(
        D, config.num_heads,
        name == "performer" ? nn::FeatureMap::kPerformer : nn::FeatureMap::kElu);
  }
  throw user_error("mixer: '{}' is unknown", name);
}

}  // namespace hyena::models
