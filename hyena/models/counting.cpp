#include "hyena/models/counting.h"

#include <cmath>

namespace hyena::models {
namespace {

std::int64_t filters(const ModelConfig& config) {
  return config.mode == "safari" ? config.order - 1 : config.order;
}

/// Of C long filters, the skip not counted; the formulas of nn/filters/parametrisations.h.
std::int64_t filter_parameters(const ModelConfig& config, std::int64_t C) {
  const std::int64_t W = config.filter_order;
  const std::int64_t E = config.emb_dim;
  const std::int64_t S = config.filter_size;
  const std::string& name = config.filter;
  if (name == "conv1d") return C * S;
  if (name == "s4d") return C * (3 * S + 1);
  if (name == "ckconv") return W * W + 5 * W + C * (W + 2);
  if (name == "long_conv") return C * config.l_max;
  if (name != "hyena") return 2 * C * S;  // fno, shift, transfer_function
  const std::int64_t mlp = (E + 1) * W + config.num_inner_mlps * (W + 1) * W + W + C * W;
  const std::int64_t features = config.train_features ? config.l_max * E : 0;
  const std::int64_t decay = config.train_decay ? C : 0;
  return mlp + features + decay;
}

std::int64_t hyena_parameters(const ModelConfig& config) {
  const std::int64_t D = config.d_model;
  const std::int64_t inner = config.inner_factor * D;
  const std::int64_t projected = (config.order + 1) * inner;
  const std::int64_t C = filters(config) * (inner / config.hyena_heads);
  const std::int64_t projections = projected * (D + 1) + D * (inner + 1);
  const std::int64_t short_filter = projected * (config.short_filter_order + 1);
  const std::int64_t head_mixing =
      config.post_order_ffn ? config.order * config.hyena_heads * config.hyena_heads : 0;
  return projections + short_filter + C + filter_parameters(config, C) + head_mixing;
}

/// What stands beside four D x D layers with biases (q, k, v, out) in most of the other mixers.
std::int64_t mixer_parameters(const ModelConfig& config) {
  const std::int64_t D = config.d_model;
  const std::int64_t S = config.d_state;
  const std::int64_t projections = 4 * D * D + 4 * D;
  const std::string& name = config.mixer;
  if (name == "hyena") return hyena_parameters(config);
  if (name == "h3") {
    const std::int64_t heads = D / config.head_dim;
    return projections + D + heads + 2 * D * S + heads * (3 * S + 1);
  }
  if (name == "gss") return 13 * D * D + 10 * D + 2 * S + 2 * D * S + D;
  if (name == "aft_conv") return projections + config.num_heads * config.aft_window;
  if (name == "aft_full") return projections + config.l_max * config.l_max;
  if (name == "rwkv") return 4 * D * D + 5 * D;
  return projections;  // attention, linear_attention, performer
}

}  // namespace

std::int64_t parameter_count(const ModelConfig& config) {
  const std::int64_t D = config.d_model;
  const std::int64_t F = config.d_inner;
  const std::int64_t attention = 4 * D * D + 4 * D;
  std::int64_t total = (config.padded_vocab_size() + config.max_position_embeddings) * D + 2 * D;
  for (std::int64_t i = 0; i < config.n_layer; ++i) {
    total += config.is_attention(i) ? attention : mixer_parameters(config);
    total += 4 * D + 2 * D * F + F + D;
  }
  return total;
}

double forward_flops(const ModelConfig& config) {
  const auto D = static_cast<double>(config.d_model);
  const auto L = static_cast<double>(config.l_max);
  const auto V = static_cast<double>(config.vocab_size);
  const auto inner = static_cast<double>(config.inner_factor) * D;
  const auto o = static_cast<double>(config.order + 1);
  // o-1 = N long convolutions also for the N-1 of the published code: the paper's table was made
  // so.
  const double hyena =
      2.0 * (o * D * inner * L + o * inner * L * static_cast<double>(config.short_filter_order) +
             5.0 * (o - 1.0) * inner * L * std::log2(L) + inner * D * L);
  const double attention =
      8.0 * L * D * D + 4.0 * L * L * D + 3.0 * static_cast<double>(config.num_heads) * L * L;
  double total = 4.0 * L * V * D;
  for (std::int64_t i = 0; i < config.n_layer; ++i) {
    total += config.is_attention(i) ? attention : hyena;
    total += 4.0 * L * D * static_cast<double>(config.d_inner);
  }
  return total;
}

double training_flops(const ModelConfig& config, double tokens) {
  return 3.0 * forward_flops(config) * tokens / static_cast<double>(config.l_max);
}

}  // namespace hyena::models
