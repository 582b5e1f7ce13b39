#include "hyena/nn/filters/hyena_filter.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/oracle/implicit_filter_oracle.h"
#include "tests/support/tensors.h"

namespace hyena::nn {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

/// Angles reach 2 pi (K-1) in float32: rounded to 2^-24 of themselves, and the cosine by one more
/// unit in the last place.
TEST(HyenaFilter, PositionalFeaturesAgreeWithTheOracle) {
  for (const std::int64_t l_max : {1, 2, 8, 33, 1000}) {
    for (const std::int64_t E : {3, 5, 9, 33}) {
      const at::Tensor z = positional_features(l_max, E);
      ASSERT_EQ(z.sizes(), at::IntArrayRef({1, l_max, E}));
      std::vector<double> expected;
      for (std::int64_t n = 0; n < l_max; ++n) {
        const auto row = oracle::positional_features(static_cast<std::size_t>(n),
                                                     static_cast<std::size_t>(l_max),
                                                     static_cast<std::size_t>(E));
        expected.insert(expected.end(), row.begin(), row.end());
      }
      // f, w and their product round once each, and 2 pi n before the division.
      const std::int64_t bands = (E - 1) / 2;
      const double angle = 2.0 * 3.15 * static_cast<double>(bands);
      const std::vector<double> bound(expected.size(), 0x1p-24 * (4.0 * angle + 2.0));
      EXPECT_TRUE(within_bound(expected, values(z), bound)) << "l_max " << l_max << " E " << E;
    }
  }
}

TEST(HyenaFilter, DecayRampHasThePublishedEnds) {
  // PAPER 2.3: ln(0.01)/1.5 = -3.0701 to ln(0.01)/0.3 = -15.3506.
  const at::Tensor deltas = decay_ramp({.channels = 5, .num_filters = 2});
  ASSERT_EQ(deltas.sizes(), at::IntArrayRef({1, 1, 10}));
  EXPECT_NEAR(deltas[0][0][0].item<double>(), -3.0701, 5e-5);
  EXPECT_NEAR(deltas[0][0][9].item<double>(), -15.3506, 5e-5);
  EXPECT_NEAR(deltas[0][0][1].item<double>(), -3.0701 - 12.2805 / 9.0, 1e-4);
}

TEST(HyenaFilter, TheWindowReachesItsTargetWhereThePaperSays) {
  // The slowest channel is 0.0464 at t = 1, the fastest 2.2e-7.
  const HyenaFilterOptions options{.channels = 64, .l_max = 100};
  const at::Tensor window = at::exp(decay_ramp(options).view({-1}));
  EXPECT_NEAR(window[0].item<double>(), 0.0464, 5e-5);
  EXPECT_NEAR(window[63].item<double>() * 1e7, 2.2, 0.05);
}

TEST(HyenaFilter, SkipIsSplitLikeTheFilterAndAbsentWithoutBias) {
  torch::manual_seed(3);
  HyenaFilter filter(HyenaFilterOptions{.channels = 3, .num_filters = 2});
  const at::Tensor bias = filter->named_parameters()["bias"];
  EXPECT_EQ(filter->skip()[1][2].item<float>(), bias[2 * 2 + 1].item<float>());
  HyenaFilter standalone(HyenaFilterOptions{
      .channels = 3, .num_filters = 2, .layout = ops::ChannelLayout::kStandalone});
  const at::Tensor other = standalone->named_parameters()["bias"];
  EXPECT_EQ(standalone->skip()[1][2].item<float>(), other[1 * 3 + 2].item<float>());
  HyenaFilter without(HyenaFilterOptions{.bias = false});
  EXPECT_FALSE(without->skip().defined());
  EXPECT_TRUE(without->named_parameters().contains("bias"));
}

TEST(HyenaFilter, AllSinesShareOneTrainableFrequency) {
  HyenaFilter filter(HyenaFilterOptions{.w = 14.0});
  int frequencies = 0;
  for (const auto& item : filter->named_parameters()) {
    if (item.key().ends_with("freq")) {
      ++frequencies;
      EXPECT_EQ(item.key(), "implicit_filter.1.freq");
      EXPECT_TRUE((item.value() == 14.0).all().item<bool>());
    }
  }
  EXPECT_EQ(frequencies, 1);
}

}  // namespace
}  // namespace hyena::nn
