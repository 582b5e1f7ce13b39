// What a language model is made of, and its JSON form (config.json of a checkpoint).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hyena/io/field_reader.h"
#include "hyena/io/json.h"
#include "hyena/nn/operators/hyena_operator.h"

namespace hyena::models {

/// Names and defaults of the published language model; PAPER sections 1.4, 2 and 6.
struct ModelConfig {
  std::int64_t d_model = 256;
  std::int64_t n_layer = 4;
  std::int64_t d_inner = 1024;  ///< width of the MLP
  std::int64_t vocab_size = 257;
  std::int64_t pad_vocab_size_multiple = 8;
  std::int64_t l_max = 1024;  ///< longest input, and the time scale of the filters

  /// What every layer outside attn_layer_idx mixes with: one of mixer_names().
  std::string mixer = "hyena";

  // Hyena layers.
  std::int64_t order = 2;
  std::string mode = "safari";            ///< or "paper"
  std::string channel_layout = "safari";  ///< or "standalone"
  std::int64_t short_filter_order = 3;
  std::int64_t inner_factor = 1;
  std::int64_t hyena_heads = 1;  ///< heads that share their filters
  std::int64_t num_blocks = 1;
  bool outer_mixing = false;
  bool post_order_ffn = false;
  std::string activation = "id";
  double hyena_dropout = 0.0;

  // Their implicit filters.
  std::int64_t emb_dim = 5;
  std::int64_t filter_order = 64;
  std::int64_t num_inner_mlps = 2;
  double w = 10.0;
  bool modulate = true;
  double shift = 0.0;
  bool normalized = false;
  bool filter_bias = true;
  bool train_features = true;
  bool train_decay = false;

  // Their other parametrisations (nn/filters/parametrisations.h); ckconv takes filter_order and w.
  std::string filter = "hyena";
  std::int64_t filter_size = 64;    ///< taps, modes, states or polynomial order
  double kernel_threshold = 0.003;  ///< long_conv: soft threshold of the taps
  double kernel_dropout = 0.0;      ///< long_conv: dropout of the taps

  // Other mixers.
  std::int64_t d_state = 64;     ///< h3: states (and taps); gss: complex modes
  std::int64_t head_dim = 1;     ///< h3
  std::int64_t aft_window = 64;  ///< aft_conv: lags with a bias of their own

  // Attention layers, by index; all of them (or mixer = "attention"): the GPT baseline.
  std::vector<std::int64_t> attn_layer_idx;
  std::int64_t num_heads = 1;  ///< of attention, linear_attention, performer and aft_conv
  std::int64_t max_position_embeddings = 0;  ///< learned positions added to the embedding; 0: none
  double attention_dropout = 0.0;

  double embed_dropout = 0.0;
  double resid_dropout = 0.0;

  /// Standard deviation of linear layers and embeddings at the start (initialisation.h).
  double init_std = 0.02;

  /// V: vocab_size rounded up to a multiple.
  [[nodiscard]] std::int64_t padded_vocab_size() const;
  [[nodiscard]] bool is_attention(std::int64_t layer) const;
  /// The options of the Hyena layers.
  [[nodiscard]] nn::HyenaOperatorOptions hyena_options() const;
};

/// hyena, attention, h3, gss, aft_conv, aft_full, rwkv, linear_attention, performer (PAPER 7.2).
///
/// Reformer is not among them: it attends within chunks of tokens sorted by hash bucket, and where
/// a chunk begins depends on how many tokens of the whole sequence fell into earlier buckets. The
/// future decides which part of the past is seen: it fails the causality test by construction.
[[nodiscard]] const std::vector<std::string>& mixer_names();

/// Reads every key that is present into `config`, which holds the defaults. The keys are the
/// field names, and `attn_layer_idx` and `num_heads` may be null. Does not call fields.finish().
/// @throws UserError that names the key.
void read_model_fields(io::FieldReader& fields, ModelConfig& config);

/// All fields, in the order above.
[[nodiscard]] io::Json to_json(const ModelConfig& config);

/// @throws UserError if fields contradict one another (a layer index beyond n_layer, no positions
///   for l_max, ...); single values are checked by read_model_fields and the modules.
void validate(const ModelConfig& config);

}  // namespace hyena::models
