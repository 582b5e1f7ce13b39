// gated_conv where no O(L^2) oracle runs: identities at a million steps, impulses at the far end,
// and the accuracy that the project promises.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "hyena/kernels/workspace.h"
#include "tests/kernels/gated_conv_case.h"

namespace hyena::kernels {
namespace {

constexpr double kRoundoff = 0x1p-24;

/// One row of one channel through the long convolution alone.
struct LongConv {
  explicit LongConv(std::int64_t L, LaneAxis lane_axis = LaneAxis::kAuto)
      : plan({1, 1, L, L, 0, DataType::kFloat32, lane_axis}) {}

  std::vector<float> forward(const std::vector<float>& h, const std::vector<float>& u) {
    std::vector<float> y(u.size());
    GatedConvForward arguments;
    arguments.v.x = {u.data(), strides};
    arguments.filter.h_DK = h.data();
    arguments.y = {y.data(), strides};
    gated_conv_forward(plan, arguments, 0, plan.num_forward_items(),
                       scratch.at_least(plan.forward_workspace_bytes()));
    return y;
  }

  /// du from dy.
  std::vector<float> backward(const std::vector<float>& h, const std::vector<float>& u,
                              const std::vector<float>& dy) {
    std::vector<float> du(u.size());
    std::vector<float> dh(h.size());
    GatedConvBackward arguments;
    arguments.v.x = {u.data(), strides};
    arguments.filter.h_DK = h.data();
    arguments.dy = {dy.data(), strides};
    arguments.dv.dx = {du.data(), strides};
    arguments.dh_DK = dh.data();
    gated_conv_backward(plan, arguments, 0, plan.num_backward_items(),
                        scratch.at_least(plan.backward_workspace_bytes()));
    return du;
  }

  GatedConvPlan plan;
  Strides strides{0, 1, 1};
  Workspace scratch;
};

std::vector<float> normal(std::int64_t n, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) {
    value = distribution(random);
  }
  return x;
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  }
  return sum;
}
double norm(const std::vector<float>& a) {
  return std::sqrt(dot(a, a));
}

class LongLengths : public testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(GatedConv, LongLengths,
                         testing::Values(4096, 5000, 65536, 100003, 1 << 20, (1 << 20) + 1));

// <v, h * u> = <h^T v, u>, each side within the convolution's bound of the exact value. The errors
// of L outputs are at most sqrt(L) times that of one, and independent of v: their product with v
// stays below the bound times ||v||.
TEST_P(LongLengths, TheBackwardIsTheAdjointOfTheForward) {
  const std::int64_t L = GetParam();
  LongConv conv(L);
  const auto h = normal(L, 1);
  const auto u = normal(L, 2);
  const auto v = normal(L, 3);
  const double forward = dot(v, conv.forward(h, u));
  const double backward = dot(conv.backward(h, u, v), u);
  const double log2_size = std::log2(2.0 * static_cast<double>(conv.plan.transform_length()));
  EXPECT_NEAR(forward, backward, 2.0 * kRoundoff * log2_size * norm(h) * norm(u) * norm(v));
}

TEST_P(LongLengths, AnImpulseAtTheLastLagReachesTheLastOutputOnly) {
  const std::int64_t L = GetParam();
  LongConv conv(L);
  std::vector<float> h(static_cast<std::size_t>(L));
  h.back() = 1.0F;
  const auto u = normal(L, 4);
  auto y = conv.forward(h, u);
  const double log2_size = std::log2(2.0 * static_cast<double>(conv.plan.transform_length()));
  const double bound = kRoundoff * log2_size * norm(u);
  EXPECT_NEAR(static_cast<double>(y.back()), static_cast<double>(u.front()), bound);
  y.pop_back();
  for (const float value : y) {
    ASSERT_LE(std::abs(static_cast<double>(value)), bound);
  }
}

TEST_P(LongLengths, AnImpulseReturnsTheFilter) {
  const std::int64_t L = GetParam();
  LongConv conv(L);
  std::vector<float> impulse(static_cast<std::size_t>(L));
  impulse.front() = 1.0F;
  const auto h = normal(L, 5);
  const auto y = conv.forward(h, impulse);
  const double log2_size = std::log2(2.0 * static_cast<double>(conv.plan.transform_length()));
  const double bound = kRoundoff * log2_size * norm(h);
  for (std::size_t t = 0; t < y.size(); ++t) {
    ASSERT_NEAR(static_cast<double>(y[t]), static_cast<double>(h[t]), bound);
  }
}

// Each within the bound of the exact value.
TEST_P(LongLengths, TheLaneAxisChangesNothingButRounding) {
  const std::int64_t L = GetParam();
  LongConv along_time(L, LaneAxis::kTime);
  LongConv across_channels(L, LaneAxis::kChannel);
  const auto h = normal(L, 6);
  const auto u = normal(L, 7);
  const auto y = along_time.forward(h, u);
  const auto expected = across_channels.forward(h, u);
  const double log2_size = std::log2(2.0 * static_cast<double>(along_time.plan.transform_length()));
  const double bound = 2.0 * kRoundoff * log2_size * norm(h) * norm(u);
  for (std::size_t t = 0; t < y.size(); ++t) {
    ASSERT_NEAR(static_cast<double>(y[t]), static_cast<double>(expected[t]), bound);
  }
}

// What the project promises of float32: 1e-6 for y, 3e-6 for every gradient.
TEST(GatedConvAccuracy, RelativeRootMeanSquareErrorOfTheMixer) {
  for (const std::int64_t L : {256, 1000, 4096}) {
    GatedProblem<float, float> problem({.B = 2, .D = 2, .L = L, .K = L});
    problem.run();
    problem.check();
    for (const auto& [name, error] : problem.relative_errors()) {
      RecordProperty(name + "_L" + std::to_string(L), std::to_string(error));
      std::printf("L %5lld  %-18s %.1e\n", static_cast<long long>(L), name.c_str(), error);
      EXPECT_LE(error, name == "y" ? 1e-6 : 3e-6) << name << " at L " << L;
    }
  }
}

}  // namespace
}  // namespace hyena::kernels
