#include "hyena/models/presets.h"

#include <algorithm>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"

namespace hyena::models {
namespace {

struct Shape {
  std::string name;
  std::int64_t n_layer;
  std::int64_t d_model;
  std::int64_t d_inner;
  std::int64_t order;      // 0: attention in every layer
  std::int64_t num_heads;  // of attention
};

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> table{
      {"hyena-125m", 12, 768, 3072, 3, 0},  {"hyena-125m-slim", 18, 768, 1536, 3, 0},
      {"hyena-153m", 18, 864, 1728, 2, 0},  {"hyena-355m", 36, 1024, 2048, 2, 0},
      {"hyena-1.3b", 36, 2048, 4096, 2, 0}, {"gpt-125m", 12, 768, 3072, 0, 12},
      {"gpt-355m", 24, 1024, 4096, 0, 16}};
  return table;
}

}  // namespace

const std::vector<std::string>& preset_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Shape& shape : shapes()) {
      all.push_back(shape.name);
    }
    return all;
  }();
  return names;
}

ModelConfig preset(const std::string& name) {
  const auto& table = shapes();
  const auto shape = std::find_if(table.begin(), table.end(),
                                  [&](const Shape& candidate) { return candidate.name == name; });
  if (shape == table.end()) {
    throw user_error("model.preset: expected one of {}, got '{}'{}",
                     fmt::join(preset_names(), ", "), name, did_you_mean(name, preset_names()));
  }
  ModelConfig config;
  config.n_layer = shape->n_layer;
  config.d_model = shape->d_model;
  config.d_inner = shape->d_inner;
  config.vocab_size = 50257;
  config.l_max = 2048;
  config.emb_dim = 33;
  config.w = 14.0;
  if (shape->order > 0) {
    config.order = shape->order;
  } else {
    config.attn_layer_idx.resize(static_cast<std::size_t>(shape->n_layer));
    std::iota(config.attn_layer_idx.begin(), config.attn_layer_idx.end(), 0);
    config.num_heads = shape->num_heads;
    config.max_position_embeddings = config.l_max;
  }
  return config;
}

}  // namespace hyena::models
