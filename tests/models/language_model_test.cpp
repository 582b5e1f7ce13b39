#include "hyena/models/language_model.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/models/checkpoint.h"
#include "tests/support/tensors.h"

namespace hyena::models {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

ModelConfig small() {
  ModelConfig config;
  config.d_model = 8;
  config.n_layer = 3;
  config.d_inner = 12;
  config.vocab_size = 21;
  config.l_max = 33;
  config.filter_order = 6;
  return config;
}

ModelConfig hybrid() {
  ModelConfig config = small();
  config.attn_layer_idx = {1};
  config.num_heads = 2;
  config.max_position_embeddings = 33;
  return config;
}

at::Tensor ids(std::int64_t B, std::int64_t L, std::int64_t vocabulary) {
  return at::randint(vocabulary, {B, L}, at::kLong);
}

TEST(LanguageModel, StateCarriesThePublishedNames) {
  std::map<std::string, std::vector<std::int64_t>> expected{
      {"backbone.embeddings.word_embeddings.weight", {24, 8}},
      {"backbone.embeddings.position_embeddings.weight", {33, 8}},
      {"backbone.ln_f.weight", {8}},
      {"backbone.ln_f.bias", {8}}};
  for (const int i : {0, 1, 2}) {
    const std::string layer = "backbone.layers." + std::to_string(i) + ".";
    for (const char* norm : {"norm1", "norm2"}) {
      expected[layer + norm + ".weight"] = {8};
      expected[layer + norm + ".bias"] = {8};
    }
    expected[layer + "mlp.fc1.weight"] = {12, 8};
    expected[layer + "mlp.fc1.bias"] = {12};
    expected[layer + "mlp.fc2.weight"] = {8, 12};
    expected[layer + "mlp.fc2.bias"] = {8};
    const std::string mixer = layer + "mixer.";
    expected[mixer + "out_proj.weight"] = {8, 8};
    expected[mixer + "out_proj.bias"] = {8};
    if (i == 1) {
      expected[mixer + "Wqkv.weight"] = {24, 8};
      expected[mixer + "Wqkv.bias"] = {24};
      continue;
    }
    expected[mixer + "in_proj.weight"] = {24, 8};
    expected[mixer + "in_proj.bias"] = {24};
    expected[mixer + "short_filter.weight"] = {24, 1, 3};
    expected[mixer + "short_filter.bias"] = {24};
    expected[mixer + "filter_fn.bias"] = {8};
    expected[mixer + "filter_fn.pos_emb.z"] = {1, 33, 5};
    expected[mixer + "filter_fn.pos_emb.t"] = {1, 33, 1};
    expected[mixer + "filter_fn.modulation.deltas"] = {1, 1, 8};
    const std::string mlp = mixer + "filter_fn.implicit_filter.";
    expected[mlp + "0.weight"] = {6, 5};
    expected[mlp + "1.freq"] = {1, 6};
    expected[mlp + "2.weight"] = {6, 6};
    expected[mlp + "4.weight"] = {6, 6};
    expected[mlp + "6.weight"] = {8, 6};
    for (const char* linear : {"0", "2", "4"}) {
      expected[mlp + linear + ".bias"] = {6};
    }
  }
  const auto state = named_state(LanguageModel(hybrid()));
  EXPECT_EQ(state.size(), expected.size());
  for (const NamedTensor& item : state) {
    ASSERT_TRUE(expected.contains(item.name)) << item.name;
    EXPECT_EQ(item.tensor.sizes(), at::IntArrayRef(expected[item.name])) << item.name;
  }
}

/// n draws estimate a standard deviation s to s / sqrt(2n) and a mean to s / sqrt(n); five of those
/// are exceeded once in two million draws, and the seed is fixed.
void expect_moments(const at::Tensor& x, double deviation, const std::string& name) {
  const auto n = static_cast<double>(x.numel());
  const at::Tensor wide = x.to(at::kDouble);
  EXPECT_NEAR(wide.std().item<double>(), deviation, 5.0 * deviation / std::sqrt(2.0 * n)) << name;
  EXPECT_NEAR(wide.mean().item<double>(), 0.0, 5.0 * deviation / std::sqrt(n)) << name;
}

void expect_start(double deviation) {
  torch::manual_seed(1);
  const ModelConfig config{.d_model = 64,
                           .n_layer = 4,
                           .d_inner = 256,
                           .vocab_size = 500,
                           .l_max = 64,
                           .order = 3,
                           .emb_dim = 33,
                           .w = 14.0,
                           .attn_layer_idx = {2},
                           .num_heads = 2,
                           .max_position_embeddings = 64,
                           .init_std = deviation};
  for (const NamedTensor& item : named_state(LanguageModel(config))) {
    const std::string& name = item.name;
    const auto is = [&](const char* end) { return name.ends_with(end); };
    if (is("mixer.out_proj.weight") || is("mlp.fc2.weight")) {
      expect_moments(item.tensor, deviation / std::sqrt(8.0), name);
    } else if (is("short_filter.weight") || is("short_filter.bias")) {
      expect_moments(item.tensor, 1.0 / 3.0, name);  // U(+-1/sqrt(3))
      EXPECT_LE(item.tensor.abs().max().item<double>(), 1.0 / std::sqrt(3.0) + 1e-6);
    } else if (is("filter_fn.bias")) {
      expect_moments(item.tensor, 1.0, name);
    } else if (is(".freq")) {
      EXPECT_TRUE((item.tensor == 14.0).all().item<bool>()) << name;
    } else if (name.find("norm") != std::string::npos || name.find("ln_f") != std::string::npos) {
      EXPECT_TRUE((item.tensor == (is("weight") ? 1.0 : 0.0)).all().item<bool>()) << name;
    } else if (is(".bias")) {
      EXPECT_TRUE((item.tensor == 0.0).all().item<bool>()) << name;
    } else if (is(".weight")) {
      expect_moments(item.tensor, deviation, name);
    }
  }
}

TEST(LanguageModel, StartsAsThePublishedModelsDo) {
  expect_start(ModelConfig().init_std);
}

TEST(LanguageModel, StartsWithAnyDeviation) {
  expect_start(0.1);
}

TEST(LanguageModel, NeverLooksIntoTheFutureAndTakesShorterInputs) {
  for (const ModelConfig& config : {small(), hybrid()}) {
    torch::manual_seed(2);
    LanguageModel model(config);
    model->to(at::kDouble);
    model->eval();
    const torch::NoGradGuard no_grad;
    const at::Tensor x = ids(2, 33, 21);
    const at::Tensor logits = model(x);
    EXPECT_EQ(logits.sizes(), at::IntArrayRef({2, 33, 24}));
    at::Tensor changed = x.clone();
    changed.narrow(1, 17, 16).copy_((x.narrow(1, 17, 16) + 5) % 21);
    EXPECT_LT(relative_error(model(changed).narrow(1, 0, 17), logits.narrow(1, 0, 17)), 1e-12);
    EXPECT_GT(relative_error(model(changed).narrow(1, 17, 16), logits.narrow(1, 17, 16)), 1e-3);
    EXPECT_LT(relative_error(model(x.narrow(1, 0, 17)), logits.narrow(1, 0, 17)), 1e-12);
    EXPECT_TRUE(at::equal(model->logits(model->hidden(x)), logits));
  }
}

TEST(LanguageModel, HeadIsTheEmbedding) {
  LanguageModel model(small());
  const at::Tensor embedding =
      model->named_parameters()["backbone.embeddings.word_embeddings.weight"];
  const at::Tensor h = normal({2, 3, 8}, 4, at::kFloat);
  EXPECT_LT(relative_error(model->logits(h), h.matmul(embedding.t())), 1e-6);
  EXPECT_FALSE(model->named_parameters().contains("lm_head.weight"));
}

TEST(LanguageModel, SameSeedSameModel) {
  torch::manual_seed(8);
  const auto first = named_state(LanguageModel(small()));
  torch::manual_seed(8);
  const auto second = named_state(LanguageModel(small()));
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_TRUE(at::equal(first[i].tensor, second[i].tensor)) << first[i].name;
  }
}

TEST(LanguageModel, OneBatchIsLearnedByHeart) {
  torch::manual_seed(3);
  LanguageModel model(hybrid());
  const at::Tensor x = ids(2, 33, 21);
  torch::optim::Adam adam(model->parameters(), torch::optim::AdamOptions(1e-2));
  double loss = 0.0;
  for (int step = 0; step < 150; ++step) {
    adam.zero_grad();
    const at::Tensor logits = model(x.narrow(1, 0, 32));
    const at::Tensor error =
        torch::nn::functional::cross_entropy(logits.flatten(0, 1), x.narrow(1, 1, 32).flatten());
    error.backward();
    adam.step();
    loss = error.item<double>();
  }
  EXPECT_LT(loss, 0.5);  // from ln 24 = 3.2
}

TEST(LanguageModel, RefusesWhatMakesNoModel) {
  const auto message = [](const auto& action) -> std::string {
    try {
      action();
    } catch (const UserError& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  LanguageModel model(small());
  EXPECT_EQ(message([&] { (void)model(ids(1, 34, 21)); }),
            "sequence of 34 tokens is longer than the model's l_max = 33");
  const auto building = [&](const auto& change) {
    return message([&] {
      ModelConfig config = hybrid();
      change(config);
      LanguageModel other(config);
    });
  };
  EXPECT_EQ(building([](ModelConfig& c) { c.attn_layer_idx = {3}; }),
            "attn_layer_idx: expected layers below n_layer = 3, got 3");
  EXPECT_EQ(building([](ModelConfig& c) { c.num_heads = 3; }),
            "num_heads: expected a divisor of d_model = 8, got 3");
  EXPECT_EQ(building([](ModelConfig& c) { c.max_position_embeddings = 20; }),
            "max_position_embeddings: expected 0 or at least l_max = 33, got 20");
}

}  // namespace
}  // namespace hyena::models
