#include "hyena/eval/perplexity.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/base/error.h"

namespace hyena::eval {
namespace {

class Ids final : public data::TokenSource {
 public:
  explicit Ids(std::vector<std::int64_t> ids) : ids_(std::move(ids)) {}
  [[nodiscard]] std::int64_t size() const override {
    return static_cast<std::int64_t>(ids_.size());
  }
  void copy(std::int64_t begin, std::span<std::int64_t> out) const override {
    std::copy_n(ids_.begin() + begin, out.size(), out.begin());
  }

 private:
  std::vector<std::int64_t> ids_;
};

constexpr std::int64_t kLength = 8;
constexpr std::int64_t kVocabulary = 13;  // padded to 16

std::shared_ptr<const data::Corpus> corpus(const std::vector<std::vector<std::int64_t>>& files) {
  auto joined = std::make_shared<data::Corpus>(kVocabulary);
  for (const auto& ids : files) {
    const data::DocumentSpan whole{
        .begin = 0, .end = static_cast<std::int64_t>(ids.size()), .bytes = 1};
    joined->add("file", std::make_unique<Ids>(ids), {&whole, 1});
  }
  return joined;
}

models::LanguageModel small_model() {
  torch::manual_seed(3);
  models::ModelConfig config;
  config.d_model = 16;
  config.n_layer = 1;
  config.d_inner = 16;
  config.vocab_size = kVocabulary;
  config.l_max = kLength;
  config.filter_order = 8;
  models::LanguageModel model(config);
  // The padding rows get large logits: a score that includes them shows it.
  const torch::NoGradGuard no_grad;
  model->named_parameters()["backbone.embeddings.word_embeddings.weight"].mul_(30.0);
  return model;
}

/// -log p of every target of one file, each with as much context as its window gives, by plain
/// float64 softmax over the first 13 logits.
struct Expected {
  double nll = 0.0;
  std::int64_t tokens = 0;
  std::int64_t correct = 0;
};

void add_window(models::LanguageModel& model, const std::vector<std::int64_t>& ids,
                std::size_t begin, std::size_t first_scored, Expected& expected) {
  const torch::NoGradGuard no_grad;
  const std::size_t length = std::min<std::size_t>(kLength, ids.size() - 1 - begin);
  at::Tensor inputs = at::zeros({1, kLength}, at::kLong);
  std::copy_n(ids.begin() + static_cast<std::ptrdiff_t>(begin), length,
              inputs.mutable_data_ptr<std::int64_t>());
  const at::Tensor logits = model->forward(inputs).select(0, 0).to(at::kDouble);
  for (std::size_t t = first_scored; t < length; ++t) {
    double sum = 0.0;
    std::int64_t best = 0;
    const auto row = logits[static_cast<std::int64_t>(t)];
    for (std::int64_t v = 0; v < kVocabulary; ++v) {
      sum += std::exp(row[v].item<double>());
      best = row[v].item<double>() > row[best].item<double>() ? v : best;
    }
    const std::int64_t target = ids[begin + t + 1];
    expected.nll += std::log(sum) - row[target].item<double>();
    expected.correct += target == best ? 1 : 0;
    ++expected.tokens;
  }
}

std::vector<std::int64_t> random_ids(std::int64_t n) {
  const at::Tensor ids = at::randint(kVocabulary, {n}, at::kLong);
  const auto* data = ids.const_data_ptr<std::int64_t>();
  return {data, data + n};
}

TEST(Score, IsTheMeanOverTheTrueVocabulary) {
  models::LanguageModel model = small_model();
  const auto long_file = random_ids(2 * kLength + 1);
  const auto short_file = random_ids(4);
  const data::EvalWindows windows(corpus({long_file, short_file}), kLength, kLength);
  Expected expected;
  add_window(model, long_file, 0, 0, expected);
  add_window(model, long_file, kLength, 0, expected);
  add_window(model, short_file, 0, 0, expected);
  for (const std::int64_t batch : {1, 2, 8}) {
    const Score actual = score(model, windows, {.batch_size = batch});
    EXPECT_EQ(actual.tokens, expected.tokens);
    // Float32 logits of a handful of operations each.
    EXPECT_NEAR(actual.nll, expected.nll / static_cast<double>(expected.tokens), 1e-5) << batch;
    EXPECT_DOUBLE_EQ(actual.accuracy,
                     static_cast<double>(expected.correct) / static_cast<double>(expected.tokens));
  }
}

TEST(Score, StrideScoresNewTargetsOnly) {
  models::LanguageModel model = small_model();
  const auto file = random_ids(kLength + 1 + 6);
  const data::EvalWindows windows(corpus({file}), kLength, 3);
  Expected expected;
  add_window(model, file, 0, 0, expected);
  add_window(model, file, 3, kLength - 3, expected);
  add_window(model, file, 6, kLength - 3, expected);
  const Score actual = score(model, windows);
  EXPECT_EQ(actual.tokens, kLength + 6);
  EXPECT_NEAR(actual.nll, expected.nll / static_cast<double>(expected.tokens), 1e-5);
}

TEST(Score, LeavesTheModelInItsMode) {
  models::LanguageModel model = small_model();
  const data::EvalWindows windows(corpus({random_ids(9)}), kLength, kLength);
  model->train();
  (void)score(model, windows);
  EXPECT_TRUE(model->is_training());
  model->eval();
  (void)score(model, windows);
  EXPECT_FALSE(model->is_training());
}

TEST(Score, ForeignIdsAreRefused) {
  models::LanguageModel model = small_model();
  const data::EvalWindows windows(corpus({{1, 2, 14}}), kLength, kLength);
  EXPECT_THROW((void)score(model, windows), UserError);
}

TEST(Score, UnitsFollowFromTheMean) {
  const Score score{.nll = std::log(2.0), .tokens = 10, .accuracy = 0.5};
  EXPECT_DOUBLE_EQ(score.perplexity(), 2.0);
  EXPECT_DOUBLE_EQ(score.bits_per_byte(20), 0.5);
}

}  // namespace
}  // namespace hyena::eval
