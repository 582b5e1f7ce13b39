#include "tests/oracle/implicit_filter_oracle.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace hyena::oracle {
namespace {

constexpr Arithmetic kExact{.unit = 0.0, .store = 0.0};

TEST(PositionalFeatures, RowOfThePaper) {
  // PAPER 2.2 gives this row in six digits.
  const std::vector<double> row = positional_features(1, 8, 5);
  const std::vector<double> expected{0.142857, 1.0, 0.707107, -7.9e-5, -0.707107};
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(row[i], expected[i], 5e-7) << i;
  }
  EXPECT_EQ(positional_features(0, 1, 3)[0], 0.0);
}

TEST(ImplicitFilterOracle, OneUnitByHand) {
  const ImplicitFilter filter{.z = {{2.0, 3.0}},
                              .weights = {{{0.5, -1.0}}, {{4.0}, {-1.0}}},
                              .biases = {{0.25}},
                              .freq = {3.0},
                              .t = {0.5},
                              .deltas = {-2.0, 1.0},
                              .shift = 0.1};
  const double a = std::sin(3.0 * (2.0 * 0.5 - 3.0 + 0.25));
  const double first = 4.0 * a * (std::exp(-1.0) + 0.1);
  const double second = -a * (std::exp(-0.5) + 0.1);
  BoundedRow h = implicit_filter(filter, 0, kExact);
  EXPECT_DOUBLE_EQ(h[0].value, first);
  EXPECT_DOUBLE_EQ(h[1].value, second);
  ImplicitFilter normalized = filter;
  normalized.normalized = true;
  h = implicit_filter(normalized, 0, kExact);
  EXPECT_DOUBLE_EQ(h[0].value, first / (std::abs(first) + std::abs(second)));
  EXPECT_DOUBLE_EQ(h[1].value, second / (std::abs(first) + std::abs(second)));
}

}  // namespace
}  // namespace hyena::oracle
