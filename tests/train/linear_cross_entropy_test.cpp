#include "hyena/train/linear_cross_entropy.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace hyena::train {
namespace {

struct Case {
  at::Tensor h_ND, w_VD, targets_N;
};

Case make_case(at::ScalarType dtype, std::int64_t n, std::int64_t D, std::int64_t V) {
  torch::manual_seed(7);
  const auto options = at::TensorOptions(dtype);
  return {at::randn({n, D}, options), at::randn({V, D}, options), at::randint(V, {n}, at::kLong)};
}

/// The formula of the header by loops in float64.
double oracle(const Case& x) {
  const at::Tensor h = x.h_ND.to(at::kDouble);
  const at::Tensor w = x.w_VD.to(at::kDouble);
  const auto h_at = h.accessor<double, 2>();
  const auto w_at = w.accessor<double, 2>();
  double total = 0.0;
  for (std::int64_t i = 0; i < h.size(0); ++i) {
    double sum = 0.0;
    double of_target = 0.0;
    for (std::int64_t v = 0; v < w.size(0); ++v) {
      double logit = 0.0;
      for (std::int64_t d = 0; d < h.size(1); ++d) {
        logit += h_at[i][d] * w_at[v][d];
      }
      sum += std::exp(logit);
      of_target = v == x.targets_N[i].item<std::int64_t>() ? logit : of_target;
    }
    total += std::log(sum) - of_target;
  }
  return total / static_cast<double>(h.size(0));
}

TEST(LinearCrossEntropy, IsTheFormulaForEveryChunk) {
  const Case x = make_case(at::kDouble, 7, 4, 11);
  const double expected = oracle(x);
  for (const std::int64_t rows : {0, 1, 2, 3, 7, 8}) {
    EXPECT_NEAR(linear_cross_entropy(x.h_ND, x.w_VD, x.targets_N, rows).item<double>(), expected,
                1e-13)
        << rows;
  }
}

TEST(LinearCrossEntropy, GradientsAreCentralDifferences) {
  for (const std::int64_t rows : {0, 3}) {
    const Case x = make_case(at::kDouble, 7, 4, 11);
    at::Tensor h = x.h_ND.clone().requires_grad_();
    at::Tensor w = x.w_VD.clone().requires_grad_();
    // A factor behind the loss: the backward must use the gradient that comes in.
    (3.0 * linear_cross_entropy(h, w, x.targets_N, rows)).backward();
    const double step = 1e-6;
    const auto check = [&](const at::Tensor& tensor, const at::Tensor& gradient) {
      at::Tensor flat = tensor.view({-1});
      for (std::int64_t i = 0; i < flat.numel(); ++i) {
        const auto value = flat[i].item<double>();
        flat[i] = value + step;
        const double above = oracle(x);
        flat[i] = value - step;
        const double below = oracle(x);
        flat[i] = value;
        // Central differences: step^2 and rounding eps / step, both below 1e-9 here.
        EXPECT_NEAR(gradient.view({-1})[i].item<double>(), 3.0 * (above - below) / (2.0 * step),
                    1e-8);
      }
    };
    check(x.h_ND, h.grad());
    check(x.w_VD, w.grad());
  }
}

TEST(LinearCrossEntropy, HugeLogitsStayFinite) {
  const at::Tensor h = at::tensor({1000.0F, -1000.0F}).view({1, 2});
  const at::Tensor w = at::eye(2);
  EXPECT_FLOAT_EQ(linear_cross_entropy(h, w, at::ones({1}, at::kLong)).item<float>(), 2000.0F);
}

}  // namespace
}  // namespace hyena::train
