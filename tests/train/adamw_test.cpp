#include "hyena/train/adamw.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace hyena::train {
namespace {

/// The formula of the header for one number, in float64.
struct Scalar {
  double theta = 0.0;
  double m = 0.0;
  double v = 0.0;
  int k = 0;

  void step(double g, double lr, double decay, const AdamWOptions& options) {
    ++k;
    theta -= lr * decay * theta;
    m = options.beta1 * m + (1.0 - options.beta1) * g;
    v = options.beta2 * v + (1.0 - options.beta2) * g * g;
    const double m_hat = m / (1.0 - std::pow(options.beta1, k));
    const double v_hat = v / (1.0 - std::pow(options.beta2, k));
    theta -= lr * m_hat / (std::sqrt(v_hat) + options.eps);
  }
};

ParameterGroup group(const char* name, double lr, double decay, const at::Tensor& tensor) {
  return {.name = name, .lr = lr, .weight_decay = decay, .names = {name}, .tensors = {tensor}};
}

TEST(AdamW, FollowsTheFormulaInEveryGroup) {
  torch::manual_seed(1);
  const auto options = at::TensorOptions(at::kDouble).requires_grad(true);
  const at::Tensor a = at::randn({5}, options);
  const at::Tensor b = at::randn({3}, options);
  const at::Tensor untouched = at::randn({2}, options);
  const at::Tensor before = untouched.detach().clone();
  const AdamWOptions adamw{.beta1 = 0.9, .beta2 = 0.98, .eps = 1e-8};
  AdamW optimizer(
      {group("a", 0.1, 0.5, a), group("b", 0.02, 0.0, b), group("c", 0.1, 0.5, untouched)}, adamw);
  std::vector<Scalar> expected;
  for (const at::Tensor& tensor : {a, b}) {
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      expected.push_back({.theta = tensor[i].item<double>()});
    }
  }
  for (int k = 0; k < 4; ++k) {
    const double warm = 0.25 * (k + 1);
    const at::Tensor ga = at::randn({5}, at::kDouble);
    const at::Tensor gb = at::randn({3}, at::kDouble);
    optimizer.zero_grad();
    a.mutable_grad() = ga;
    b.mutable_grad() = gb;
    EXPECT_EQ(optimizer.gradients().size(), 2U);
    optimizer.step([&](double base) { return warm * base; });
    for (std::int64_t i = 0; i < 8; ++i) {
      const bool in_a = i < 5;
      expected[static_cast<std::size_t>(i)].step((in_a ? ga[i] : gb[i - 5]).item<double>(),
                                                 warm * (in_a ? 0.1 : 0.02), in_a ? 0.5 : 0.0,
                                                 adamw);
    }
  }
  for (std::int64_t i = 0; i < 8; ++i) {
    const auto actual = (i < 5 ? a[i] : b[i - 5]).item<double>();
    // A step has about ten operations; the fused kernel orders them its own way.
    EXPECT_NEAR(actual, expected[static_cast<std::size_t>(i)].theta, 4 * 20 * 2.3e-16) << i;
  }
  EXPECT_TRUE(at::equal(untouched.detach(), before)) << "a tensor without gradient must stay";
}

TEST(AdamW, AStepCountsAsAChangeOfItsParametersOnly) {
  const auto options = at::TensorOptions(at::kFloat).requires_grad(true);
  const at::Tensor a = torch::ones({5}, options);
  const at::Tensor untouched = torch::ones({2}, options);
  AdamW optimizer({group("a", 0.1, 0.0, a), group("b", 0.1, 0.0, untouched)}, {});
  a.sum().backward();
  const std::int64_t version = a._version();
  const std::int64_t other = untouched._version();
  optimizer.step([](double lr) { return lr; });
  EXPECT_GT(a._version(), version);
  EXPECT_EQ(untouched._version(), other);
}

TEST(ClipGradients, ScalesToTheNormAndReportsTheOldOne) {
  const at::Tensor a = at::tensor({3.0F, 0.0F});
  const at::Tensor b = at::tensor({4.0F});
  EXPECT_FLOAT_EQ(clip_gradients({a, b}, 0.0).item<float>(), 5.0F);
  EXPECT_FLOAT_EQ(b[0].item<float>(), 4.0F);
  EXPECT_FLOAT_EQ(clip_gradients({a, b}, 10.0).item<float>(), 5.0F);
  EXPECT_FLOAT_EQ(a[0].item<float>(), 3.0F) << "below the limit nothing is scaled";
  EXPECT_FLOAT_EQ(clip_gradients({a, b}, 1.0).item<float>(), 5.0F);
  EXPECT_NEAR(a[0].item<float>(), 0.6, 1e-6);
  EXPECT_NEAR(b[0].item<float>(), 0.8, 1e-6);
}

TEST(ClipGradients, NotANumberIsReported) {
  const at::Tensor a = at::tensor({std::nanf(""), 0.0F});
  EXPECT_TRUE(std::isnan(clip_gradients({a}, 1.0).item<float>()));
}

}  // namespace
}  // namespace hyena::train
