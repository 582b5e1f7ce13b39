// How values get into the kernels and out again, in every layout: through a short convolution of
// one tap, whose arithmetic is a multiplication by the weight.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "hyena/kernels/short_conv.h"
#include "tests/kernels/gated_conv_case.h"
#include "tests/kernels/guarded_buffer.h"
#include "tests/kernels/instruction_sets.h"

namespace hyena::kernels {
namespace {

using Param = std::tuple<std::int64_t, Layout>;

class Storage : public testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    if (!runs_here(std::get<0>(GetParam()))) {
      GTEST_SKIP() << "not on this CPU";
    }
  }

  /// Calls check(in, weight, out) for every element of a (1, C, L) array of bfloat16 that
  /// value(c, t) fills and weight(c) multiplies.
  static void multiply(std::int64_t C, std::int64_t L,
                       const std::function<std::uint16_t(std::int64_t, std::int64_t)>& value,
                       const std::function<float(std::int64_t)>& weight,
                       const std::function<void(std::uint16_t, float, std::uint16_t)>& check) {
    const auto [target, layout] = GetParam();
    const OnlyTarget only(target);
    const Strides strides = strides_of(layout, C, L);
    const auto at = [&](std::int64_t c, std::int64_t t) {
      return static_cast<std::size_t>(c * strides.channel + t * strides.time);
    };
    UnreadableBehind<std::uint16_t> x(extent(strides, 1, C, L));
    GuardedBuffer<std::uint16_t> y(extent(strides, 1, C, L));
    GuardedBuffer<float> weights(static_cast<std::size_t>(C));
    for (std::int64_t c = 0; c < C; ++c) {
      weights[static_cast<std::size_t>(c)] = weight(c);
      for (std::int64_t t = 0; t < L; ++t) {
        x[at(c, t)] = value(c, t);
      }
    }
    const ShortConvShape shape{1, C, L, 1, DataType::kBFloat16};
    GuardedBuffer<double> scratch(short_conv_workspace_bytes(shape) / sizeof(double));
    short_conv_forward(shape, {{x.data(), strides}, weights.data(), nullptr}, {y.data(), strides},
                       0, short_conv_items(shape), scratch.data());
    EXPECT_TRUE(y.intact() && scratch.intact());
    for (std::int64_t c = 0; c < C; ++c) {
      for (std::int64_t t = 0; t < L; ++t) {
        check(x[at(c, t)], weights[static_cast<std::size_t>(c)], y[at(c, t)]);
      }
    }
  }
};

std::string name(const testing::TestParamInfo<Param>& tested) {
  constexpr std::array kNames{"channels_last", "contiguous", "gaps"};
  return std::string(hwy::TargetName(std::get<0>(tested.param))) + "_" +
         kNames.at(static_cast<std::size_t>(std::get<1>(tested.param)));
}

INSTANTIATE_TEST_SUITE_P(EveryTarget, Storage,
                         testing::Combine(testing::ValuesIn(compiled_targets()),
                                          testing::Values(Layout::kChannelsLast,
                                                          Layout::kContiguous, Layout::kGaps)),
                         name);

float wide(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

TEST_P(Storage, EveryBFloat16ComesBack) {
  constexpr std::int64_t kChannels = 33;  // neither channels nor steps are whole vectors
  constexpr std::int64_t kSteps = 1987;
  multiply(
      kChannels, kSteps,
      [](std::int64_t c, std::int64_t t) {
        return static_cast<std::uint16_t>(c * kSteps + t);  // all patterns
      },
      [](std::int64_t) { return 1.0F; },
      [](std::uint16_t in, float, std::uint16_t out) {
        if (std::isnan(wide(in))) {
          ASSERT_TRUE(std::isnan(wide(out))) << in << " became " << out;
        } else {
          ASSERT_EQ(wide(in), wide(out));  // the sum with a bias of 0 loses the sign of -0
        }
      });
}

/// The nearest bfloat16, by distance; of two the one with an even last bit.
std::uint16_t nearest(float x) {
  const auto below = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);
  if (std::isinf(x)) {
    return below;
  }
  const auto above = static_cast<std::uint16_t>(below + 1);  // away from zero
  const auto value = [](std::uint16_t bits) {
    // Beyond the largest number lies what its successor would be.
    const auto v = static_cast<double>(wide(bits));
    return std::isinf(v) ? std::copysign(0x1p128, v) : v;
  };
  const double down = std::abs(static_cast<double>(x) - value(below));
  const double up = std::abs(value(above) - static_cast<double>(x));
  return down < up || (down == up && below % 2 == 0) ? below : above;
}

TEST_P(Storage, ResultsAreRoundedToNearestEven) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> results{1.0F + 0x1p-8F,  // ties, down and up
                             1.0F + 0x3p-8F,
                             -1.0F - 0x1p-8F,
                             1.0F + 0x1p-8F + 0x1p-23F,
                             1.0F + 0x3p-8F - 0x1p-23F,
                             std::numeric_limits<float>::max(),
                             0x1.fep127F,  // the largest bfloat16
                             0x1.fefffep127F,
                             0x1.ffp127F,  // a tie with infinity
                             kInfinity,
                             -kInfinity,
                             std::numeric_limits<float>::denorm_min(),
                             0x1p-126F,
                             std::bit_cast<float>(0x7F800001U),  // becomes infinity if rounded
                             std::bit_cast<float>(0xFFFFFFFFU)};
  std::mt19937 random(1);
  while (results.size() < 301) {
    results.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  }
  const auto weight = [&](std::int64_t c) { return results[static_cast<std::size_t>(c)]; };
  constexpr std::uint16_t kOne = 0x3F80;
  multiply(
      static_cast<std::int64_t>(results.size()), 21,
      [](std::int64_t, std::int64_t) { return kOne; }, weight,
      [](std::uint16_t, float expected, std::uint16_t out) {
        if (std::isnan(expected)) {
          ASSERT_TRUE(std::isnan(wide(out))) << "not-a-number became " << out;
        } else {
          ASSERT_EQ(out, nearest(expected)) << expected;
        }
      });
}

}  // namespace
}  // namespace hyena::kernels
