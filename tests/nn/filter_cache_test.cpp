// The filters of evaluation mode: kept as long as nothing changes, made anew after every way in
// which a parameter can change.
#include "hyena/nn/filters/filter_cache.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/nn/operators/hyena_operator.h"

namespace hyena::nn {
namespace {

HyenaOperator made(const std::string& filter = "hyena") {
  torch::manual_seed(7);
  HyenaOperatorOptions options{.d_model = 4, .l_max = 64, .filter_name = filter};
  options.filter.filter_order = 8;
  options.other_filter.size = 6;
  HyenaOperator op(options);
  op->eval();
  return op;
}

/// What an operator without a past would answer: another one with the same parameters.
at::Tensor answer_without_cache(HyenaOperator& op, const at::Tensor& u_BLD) {
  HyenaOperator fresh(op->options());
  fresh->to(u_BLD.scalar_type());
  fresh->eval();
  const torch::NoGradGuard no_grad;
  const auto to = fresh->named_parameters();
  for (const auto& entry : op->named_parameters()) {
    to[entry.key()].copy_(entry.value());
  }
  return fresh->forward(u_BLD);
}

FilterCache::Shared prepared(const at::Tensor& h_MDK) {
  return std::make_shared<const ops::PreparedFilters>(h_MDK, std::nullopt);
}

TEST(FilterCache, MakesFiltersOnceForTheLongestLengthSoFar) {
  FilterCache cache;
  const at::Tensor source = at::ones({3});
  std::vector<std::int64_t> made_for;
  const auto make = [&](std::int64_t taps) {
    made_for.push_back(taps);
    return prepared(at::arange(taps).view({1, 1, taps}).to(at::kFloat));
  };
  const torch::NoGradGuard no_grad;
  for (const std::int64_t length : {5, 6, 7, 8, 3, 9, 20, 19, 24}) {
    const at::Tensor h = cache.get({source}, length, 24, make)->h();
    ASSERT_GE(h.size(2), length);
    EXPECT_TRUE(at::equal(h.flatten(), at::arange(h.size(2)).to(at::kFloat)));
  }
  EXPECT_EQ(made_for, (std::vector<std::int64_t>{8, 16, 24}));  // doubled, at most the longest
}

TEST(FilterCache, KeepsFiltersShorterThanAsked) {
  FilterCache cache;
  const torch::NoGradGuard no_grad;
  const auto make = [](std::int64_t) { return prepared(at::ones({1, 2, 5})); };
  EXPECT_EQ(cache.get({at::ones({1})}, 12, 32, make)->h().size(2), 5);
}

TEST(FilterCache, AFailureLeavesItEmpty) {
  FilterCache cache;
  const torch::NoGradGuard no_grad;
  const at::Tensor source = at::ones({1});
  const auto fail = [](std::int64_t) -> FilterCache::Shared {
    throw std::runtime_error("no filter");
  };
  EXPECT_THROW((void)cache.get({source}, 4, 8, fail), std::runtime_error);
  const auto make = [](std::int64_t taps) { return prepared(at::ones({1, 1, taps})); };
  EXPECT_EQ(cache.get({source}, 4, 8, make)->h().size(2), 4);
}

// Each changes a parameter or a buffer of the filter in another way.
class WayToChange
    : public testing::TestWithParam<std::pair<const char*, std::function<void(HyenaOperator&)>>> {};

TEST_P(WayToChange, IsNoticed) {
  HyenaOperator op = made();
  const at::Tensor u = at::randn({2, 48, 4});  // long enough for a transform: spectra are kept
  const torch::NoGradGuard no_grad;
  const at::Tensor before = op->forward(u);
  EXPECT_TRUE(at::equal(op->forward(u), before)) << "nothing changed";
  GetParam().second(op);
  const at::ScalarType dtype = op->parameters()[0].scalar_type();
  const at::Tensor after = op->forward(u.to(dtype));
  EXPECT_FALSE(at::allclose(after, before.to(dtype), 0, 1e-12)) << "the change must matter";
  EXPECT_TRUE(at::allclose(after, answer_without_cache(op, u.to(dtype)), 1e-5, 1e-6));
}

at::Tensor last_weight(HyenaOperator& op) {
  return op->named_parameters()["filter_fn.implicit_filter.6.weight"];
}

void optimizer_step(HyenaOperator& op, torch::optim::Optimizer& optimizer) {
  const torch::AutoGradMode grad(true);
  op->train();
  op->forward(at::randn({2, 16, 4})).square().sum().backward();
  optimizer.step();
  op->eval();
}

INSTANTIATE_TEST_SUITE_P(
    All, WayToChange,
    testing::Values(
        std::pair{"copied into",
                  [](HyenaOperator& op) {
                    last_weight(op).copy_(at::ones({4, 8}));
                  }},
        std::pair{"arithmetic in place", [](HyenaOperator& op) { last_weight(op).mul_(2.0); }},
        std::pair{"through a view", [](HyenaOperator& op) { last_weight(op)[0].fill_(3.0); }},
        std::pair{"the frequency",
                  [](HyenaOperator& op) {
                    op->named_parameters()["filter_fn.implicit_filter.1.freq"].add_(1.0);
                  }},
        std::pair{"the skip",
                  [](HyenaOperator& op) { op->named_parameters()["filter_fn.bias"].add_(1.0); }},
        std::pair{"an optimizer",
                  [](HyenaOperator& op) {
                    torch::optim::AdamW optimizer(op->parameters(),
                                                  torch::optim::AdamWOptions(0.1));
                    optimizer_step(op, optimizer);
                  }},
        std::pair{"other data",
                  [](HyenaOperator& op) {
                    at::Tensor w = last_weight(op);
                    w.set_data(at::full({4, 8}, 0.25));
                  }}),
    [](const auto& way) {
      std::string name = way.param.first;
      std::replace(name.begin(), name.end(), ' ', '_');
      return name;
    });

// What no counter of LibTorch sees: a fused kernel, a replayed CUDA graph. Training is what they
// do.
TEST(FilterCache, TrainingInBetweenForgetsEverything) {
  HyenaOperator op = made();
  const torch::NoGradGuard no_grad;
  const at::Tensor before = op->filters(16).clone();
  op->train();
  const at::Tensor weight = last_weight(op);
  const std::int64_t version = weight._version();
  weight.data_ptr<float>()[0] += 1.F;
  ASSERT_EQ(weight._version(), version);
  op->eval();
  EXPECT_FALSE(at::allclose(op->filters(16), before));
}

TEST(FilterCache, AChangedBufferIsNoticed) {
  HyenaOperator op = made();
  const torch::NoGradGuard no_grad;
  const at::Tensor before = op->filters(16).clone();
  for (auto& buffer : op->named_buffers()) {
    buffer.value().mul_(0.5);
  }
  EXPECT_FALSE(at::allclose(op->filters(16), before));
}

TEST(FilterCache, AnotherDtypeIsNoticed) {
  HyenaOperator op = made();
  const torch::NoGradGuard no_grad;
  (void)op->filters(16);
  op->to(at::kDouble);
  EXPECT_EQ(op->filters(16).scalar_type(), at::kDouble);
}

TEST(FilterCache, EveryParametrisationAnswersTheSameTwice) {
  for (const std::string& name : filter_names()) {
    HyenaOperator op = made(name);
    const torch::NoGradGuard no_grad;
    for (const std::int64_t length : {8, 64, 48}) {  // a prefix of longer filters, too
      const at::Tensor u = at::randn({2, length, 4});
      const at::Tensor first = op->forward(u);
      EXPECT_TRUE(at::equal(op->forward(u), first)) << name;
      EXPECT_TRUE(at::allclose(first, answer_without_cache(op, u), 1e-4, 1e-5)) << name << length;
    }
  }
}

TEST(FilterCache, GradientsStillFlowInEvaluationMode) {
  HyenaOperator op = made();
  const at::Tensor u = at::randn({2, 16, 4});
  {
    const torch::NoGradGuard no_grad;
    (void)op->forward(u);
  }
  op->forward(u).sum().backward();
  EXPECT_TRUE(last_weight(op).grad().defined());
}

TEST(FilterCache, InferenceModeDoesNotLeakIntoGradients) {
  HyenaOperator op = made();
  for (at::Tensor& parameter : op->parameters()) {
    parameter.requires_grad_(false);
  }
  {
    const c10::InferenceMode inference;
    (void)op->forward(at::randn({2, 16, 4}));
  }
  const at::Tensor u = at::randn({2, 16, 4}).requires_grad_();
  op->forward(u).sum().backward();
  EXPECT_TRUE(u.grad().defined());
}

}  // namespace
}  // namespace hyena::nn
