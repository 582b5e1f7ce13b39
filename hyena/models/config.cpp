#include "hyena/models/config.h"

#include <algorithm>
#include <array>
#include <optional>

#include "hyena/base/error.h"
#include "hyena/nn/operators/activation.h"

namespace hyena::models {
namespace {

// Beyond these no machine of today holds the model; a larger number is a slip of the keyboard.
constexpr io::IntegerRange kWidth{.min = 1, .max = 1 << 20};
constexpr io::IntegerRange kLength{.min = 1, .max = std::int64_t{1} << 32};
constexpr io::IntegerRange kCount{.min = 1, .max = 4096};
constexpr io::NumberRange kDropout{.min = 0.0, .max = 0.999};

/// Calls visit(key, field, range...) for every field: one list for reading and writing.
template <typename Config, typename Visitor>
void visit_fields(Config& config, Visitor&& visit) {
  static const std::vector<std::string> kModes{"safari", "paper"};
  static const std::vector<std::string> kLayouts{"safari", "standalone"};
  visit.value("d_model", config.d_model, kWidth);
  visit.value("n_layer", config.n_layer, kCount);
  visit.value("d_inner", config.d_inner, kWidth);
  visit.value("vocab_size", config.vocab_size, io::IntegerRange{.min = 1, .max = 1 << 24});
  visit.value("pad_vocab_size_multiple", config.pad_vocab_size_multiple, kCount);
  visit.value("l_max", config.l_max, kLength);
  visit.choice("mixer", config.mixer, mixer_names());
  visit.value("order", config.order, io::IntegerRange{.min = 1, .max = 64});
  visit.choice("mode", config.mode, kModes);
  visit.choice("channel_layout", config.channel_layout, kLayouts);
  visit.value("short_filter_order", config.short_filter_order, kCount);
  visit.value("inner_factor", config.inner_factor, kCount);
  visit.value("hyena_heads", config.hyena_heads, kWidth);
  visit.value("num_blocks", config.num_blocks, kLength);
  visit.value("outer_mixing", config.outer_mixing);
  visit.value("post_order_ffn", config.post_order_ffn);
  visit.choice("activation", config.activation, nn::activation_names());
  visit.value("hyena_dropout", config.hyena_dropout, kDropout);
  visit.value("emb_dim", config.emb_dim, io::IntegerRange{.min = 3, .max = 4097});
  visit.value("filter_order", config.filter_order, kWidth);
  visit.value("num_inner_mlps", config.num_inner_mlps, io::IntegerRange{.min = 0, .max = 64});
  visit.value("w", config.w, io::NumberRange{.min = -1e6, .max = 1e6});
  visit.value("modulate", config.modulate);
  visit.value("shift", config.shift, io::NumberRange{.min = -1e6, .max = 1e6});
  visit.value("normalized", config.normalized);
  visit.value("filter_bias", config.filter_bias);
  visit.value("train_features", config.train_features);
  visit.value("train_decay", config.train_decay);
  visit.choice("filter", config.filter, nn::filter_names());
  visit.value("filter_size", config.filter_size, kWidth);
  visit.value("kernel_threshold", config.kernel_threshold, io::NumberRange{.min = 0.0});
  visit.value("kernel_dropout", config.kernel_dropout, kDropout);
  visit.value("d_state", config.d_state, kWidth);
  visit.value("head_dim", config.head_dim, kWidth);
  visit.value("aft_window", config.aft_window, kWidth);
  visit.nullable("attn_layer_idx", config.attn_layer_idx, io::IntegerRange{.min = 0});
  visit.nullable("num_heads", config.num_heads, kWidth);
  visit.value("max_position_embeddings", config.max_position_embeddings,
              io::IntegerRange{.min = 0, .max = kLength.max});
  visit.value("attention_dropout", config.attention_dropout, kDropout);
  visit.value("embed_dropout", config.embed_dropout, kDropout);
  visit.value("resid_dropout", config.resid_dropout, kDropout);
  visit.value("init_std", config.init_std, io::kPositive);
}

struct Reading {
  io::FieldReader& fields;

  template <typename T, typename... Range>
  void value(std::string_view key, T& field, Range... range) {
    fields.read(key, field, range...);
  }
  void choice(std::string_view key, std::string& field, std::span<const std::string> choices) {
    fields.read_choice(key, field, choices);
  }
  template <typename T, typename Range>
  void nullable(std::string_view key, T& field, Range range) {
    std::optional<T> value;
    if (fields.read(key, value, range)) {
      field = value.value_or(T());
    }
  }
};

struct Writing {
  io::Json& json;

  template <typename T, typename... Range>
  void value(std::string_view key, const T& field, Range... /*range*/) {
    json[std::string(key)] = field;
  }
  void choice(std::string_view key, const std::string& field,
              std::span<const std::string> /*choices*/) {
    json[std::string(key)] = field;
  }
  template <typename T, typename Range>
  void nullable(std::string_view key, const T& field, Range /*range*/) {
    json[std::string(key)] = field == T() ? io::Json() : io::Json(field);
  }
};

}  // namespace

const std::vector<std::string>& mixer_names() {
  static const std::vector<std::string> names{"hyena", "attention",        "h3",
                                              "gss",   "aft_conv",         "aft_full",
                                              "rwkv",  "linear_attention", "performer"};
  return names;
}

std::int64_t ModelConfig::padded_vocab_size() const {
  const std::int64_t m = pad_vocab_size_multiple;
  return (vocab_size + m - 1) / m * m;
}

bool ModelConfig::is_attention(std::int64_t layer) const {
  return mixer == "attention" ||
         std::find(attn_layer_idx.begin(), attn_layer_idx.end(), layer) != attn_layer_idx.end();
}

nn::HyenaOperatorOptions ModelConfig::hyena_options() const {
  return {.d_model = d_model,
          .order = order,
          .l_max = l_max,
          .mode = ops::mixer_mode(mode),
          .short_filter_order = short_filter_order,
          .inner_factor = inner_factor,
          .num_heads = hyena_heads,
          .num_blocks = num_blocks,
          .outer_mixing = outer_mixing,
          .post_order_ffn = post_order_ffn,
          .activation = activation,
          .dropout = hyena_dropout,
          .filter_name = filter,
          .filter = {.emb_dim = emb_dim,
                     .filter_order = filter_order,
                     .num_inner_mlps = num_inner_mlps,
                     .w = w,
                     .modulate = modulate,
                     .shift = shift,
                     .normalized = normalized,
                     .bias = filter_bias,
                     .train_features = train_features,
                     .train_decay = train_decay,
                     .layout = ops::channel_layout(channel_layout)},
          .other_filter = {.size = filter_size,
                           .width = filter_order,
                           .omega = w,
                           .threshold = kernel_threshold,
                           .dropout = kernel_dropout}};
}

void read_model_fields(io::FieldReader& fields, ModelConfig& config) {
  visit_fields(config, Reading{fields});
}

io::Json to_json(const ModelConfig& config) {
  io::Json json = io::Json::object();
  visit_fields(config, Writing{json});
  return json;
}

void validate(const ModelConfig& config) {
  for (const std::int64_t layer : config.attn_layer_idx) {
    if (layer >= config.n_layer) {
      throw user_error("attn_layer_idx: expected layers below n_layer = {}, got {}", config.n_layer,
                       layer);
    }
  }
  const bool has_heads = config.mixer == "attention" || config.mixer == "linear_attention" ||
                         config.mixer == "performer" || config.mixer == "aft_conv";
  if ((has_heads || !config.attn_layer_idx.empty()) &&
      (config.num_heads < 1 || config.d_model % config.num_heads != 0)) {
    throw user_error("num_heads: expected a divisor of d_model = {}, got {}", config.d_model,
                     config.num_heads);
  }
  if (config.max_position_embeddings > 0 && config.max_position_embeddings < config.l_max) {
    throw user_error("max_position_embeddings: expected 0 or at least l_max = {}, got {}",
                     config.l_max, config.max_position_embeddings);
  }
}

}  // namespace hyena::models
