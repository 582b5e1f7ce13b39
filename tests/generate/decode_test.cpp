#include "hyena/generate/decode.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/base/error.h"

namespace hyena::generate {
namespace {

models::LanguageModel small_model(std::int64_t num_blocks = 1) {
  torch::manual_seed(3);
  models::ModelConfig config;
  config.d_model = 16;
  config.n_layer = 2;
  config.d_inner = 16;
  config.vocab_size = 13;
  config.l_max = 96;
  config.filter_order = 8;
  config.num_blocks = num_blocks;
  models::LanguageModel model(config);
  model->eval();
  return model;
}

std::vector<std::int64_t> decoded(models::LanguageModel& model, std::int64_t max_tokens,
                                  std::optional<std::int64_t> end_token = {}) {
  std::vector<std::int64_t> ids;
  decode(model, {1, 2, 3},
         {.max_tokens = max_tokens, .end_token = end_token, .sampler = {.temperature = 0.0}},
         [&](std::int64_t id) {
           ids.push_back(id);
           return true;
         });
  return ids;
}

TEST(Decode, GreedyTokensAreTheArgmaxOfTheWholeSequence) {
  const torch::NoGradGuard no_grad;
  for (const std::int64_t num_blocks : {1, 3}) {
    models::LanguageModel model = small_model(num_blocks);
    const std::vector<std::int64_t> ids = decoded(model, 80);
    ASSERT_EQ(ids.size(), 80U);
    // One forward pass over everything: position t's logits choose token t + 1. The padded part of
    // the vocabulary (13 of 16) must never be chosen.
    std::vector<std::int64_t> all{1, 2, 3};
    all.insert(all.end(), ids.begin(), ids.end());
    at::Tensor inputs = at::zeros({1, 96}, at::kLong);
    std::copy(all.begin(), all.end(), inputs.mutable_data_ptr<std::int64_t>());
    const at::Tensor logits = model->forward(inputs).select(0, 0).narrow(1, 0, 13);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const at::Tensor row = logits[static_cast<std::int64_t>(i) + 2];
      // Another FFT length rounds otherwise: the chosen logit is the highest up to that.
      EXPECT_GE(row[ids[i]].item<float>(), row.max().item<float>() - 1e-5F) << i;
    }
  }
}

TEST(Decode, EndTokenStopsAndIsNotHandedOut) {
  models::LanguageModel model = small_model();
  const std::vector<std::int64_t> ids = decoded(model, 20);
  const std::int64_t end = ids.at(4);
  const auto first = std::find(ids.begin(), ids.end(), end);
  EXPECT_EQ(decoded(model, 20, end), std::vector<std::int64_t>(ids.begin(), first));
}

TEST(Decode, CallerCancels) {
  models::LanguageModel model = small_model();
  int count = 0;
  EXPECT_EQ(decode(model, {1}, {.max_tokens = 9}, [&](std::int64_t) { return ++count < 2; }),
            Stop::kCancelled);
  EXPECT_EQ(count, 2);
}

TEST(Decode, LengthAndIdsAreChecked) {
  models::LanguageModel model = small_model();
  const auto run = [&](std::vector<std::int64_t> prompt, std::int64_t tokens) {
    (void)decode(model, std::move(prompt), {.max_tokens = tokens},
                 [](std::int64_t) { return true; });
  };
  EXPECT_NO_THROW(run({1}, 95));
  EXPECT_THROW(run({1, 2}, 95), UserError);
  EXPECT_THROW(run({}, 1), UserError);
  EXPECT_THROW(run({13}, 1), UserError);
  EXPECT_THROW(run({-1}, 1), UserError);
}

}  // namespace
}  // namespace hyena::generate
