// Parameters and FLOPs against the numbers of the paper, without building the large models.
#include "hyena/models/counting.h"

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/models/language_model.h"
#include "hyena/models/presets.h"

namespace hyena::models {
namespace {

ModelConfig with(ModelConfig config, const std::function<void(ModelConfig&)>& change) {
  change(config);
  return config;
}

/// Every cell of the table in PAPER 6.3.
TEST(ParameterCount, EveryModelOfThePaper) {
  struct Row {
    std::string preset;
    std::int64_t order;
    bool train_features;
    std::int64_t expected;
  };
  const std::vector<Row> table{
      {"hyena-125m", 2, true, 125'306'112},      {"hyena-125m", 3, true, 133'029'120},
      {"hyena-125m-slim", 2, true, 126'162'048}, {"hyena-125m-slim", 3, true, 137'746'560},
      {"hyena-153m", 2, true, 153'700'416},      {"hyena-355m", 2, true, 359'519'488},
      {"hyena-1.3b", 2, true, 1'320'205'568},    {"hyena-153m", 2, false, 152'483'904},
      {"hyena-355m", 2, false, 357'086'464},     {"hyena-1.3b", 2, false, 1'317'772'544}};
  for (const Row& row : table) {
    const ModelConfig config = with(preset(row.preset), [&](ModelConfig& c) {
      c.order = row.order;
      c.train_features = row.train_features;
    });
    EXPECT_EQ(parameter_count(config), row.expected) << row.preset << " order " << row.order;
  }
  EXPECT_EQ(parameter_count(preset("gpt-125m")), 125'231'616);
  EXPECT_EQ(parameter_count(preset("gpt-355m")), 355'878'912);
}

TEST(Presets, AreTheOrdersOfThePaper) {
  // WikiText-103 models are order 3, Pile models order 2.
  EXPECT_EQ(preset("hyena-125m").order, 3);
  EXPECT_EQ(preset("hyena-125m-slim").order, 3);
  for (const char* name : {"hyena-153m", "hyena-355m", "hyena-1.3b"}) {
    EXPECT_EQ(preset(name).order, 2) << name;
  }
  for (const std::string& name : preset_names()) {
    const ModelConfig config = preset(name);
    EXPECT_EQ(config.padded_vocab_size(), 50264) << name;
    EXPECT_EQ(config.l_max, 2048) << name;
    EXPECT_EQ(config.emb_dim, 33) << name;
    EXPECT_EQ(config.filter_order, 64) << name;
    EXPECT_EQ(config.w, 14.0) << name;
    EXPECT_NO_THROW(validate(config)) << name;
  }
  EXPECT_EQ(preset_names().size(), 7U);
  try {
    (void)preset("hyena-153n");
    ADD_FAILURE();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "model.preset: expected one of hyena-125m, hyena-125m-slim, hyena-153m, "
                 "hyena-355m, hyena-1.3b, gpt-125m, gpt-355m, got 'hyena-153n', did you mean "
                 "'hyena-153m'?");
  }
}

/// The count is what a built model holds, whatever the options.
TEST(ParameterCount, IsTheSumOfTheBuiltModel) {
  const std::vector<std::function<void(ModelConfig&)>> changes{
      [](ModelConfig&) {},
      [](ModelConfig& c) { c.order = 3; },
      [](ModelConfig& c) {
        c.order = 1;
        c.mode = "paper";
      },
      [](ModelConfig& c) { c.train_features = false; },
      [](ModelConfig& c) { c.train_decay = true; },
      [](ModelConfig& c) { c.short_filter_order = 5; },
      [](ModelConfig& c) { c.inner_factor = 2; },
      [](ModelConfig& c) {
        c.hyena_heads = 4;
        c.post_order_ffn = true;
      },
      [](ModelConfig& c) { c.num_inner_mlps = 0; },
      [](ModelConfig& c) {
        c.attn_layer_idx = {1};
        c.num_heads = 2;
        c.max_position_embeddings = 33;
      }};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    ModelConfig small;
    small.d_model = 8;
    small.n_layer = 2;
    small.d_inner = 12;
    small.vocab_size = 21;
    small.l_max = 33;
    small.filter_order = 6;
    const ModelConfig config = with(small, changes[i]);
    LanguageModel model(config);
    std::int64_t total = 0;
    for (const at::Tensor& parameter : model->parameters()) {
      total += parameter.numel();
    }
    EXPECT_EQ(parameter_count(config), total) << "change " << i;
  }
}

/// Row "formula" of the table in PAPER 10: 15.73e9 tokens, in 1e19, three digits after the point.
TEST(TrainingFlops, TheFormulaReproducesThePaper) {
  const double tokens = 30'000.0 * 256.0 * 2048.0;
  const auto count = [&](const char* name) { return training_flops(preset(name), tokens) / 1e19; };
  EXPECT_NEAR(count("gpt-125m"), 1.890, 5e-4);
  EXPECT_NEAR(count("gpt-355m"), 4.782, 5e-4);
  EXPECT_NEAR(count("hyena-153m"), 1.851, 5e-4);
  EXPECT_NEAR(count("hyena-355m"), 3.863, 5e-4);
}

}  // namespace
}  // namespace hyena::models
