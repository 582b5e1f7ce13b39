// gated_conv on every instruction set, against the float64 oracle: lengths, layouts, storage,
// combinations of factors, memory.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/gated_conv_case.h"
#include "tests/kernels/instruction_sets.h"

namespace hyena::kernels {
namespace {

using Param = std::tuple<std::int64_t, std::int64_t>;  // target, L

class GatedConv : public testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    if (!runs_here(std::get<0>(GetParam()))) {
      GTEST_SKIP() << "not on this CPU";
    }
  }
  template <class S, class T>
  void check(const GatedCase& c) {
    const OnlyTarget only(std::get<0>(GetParam()));
    GatedProblem<S, T> problem(c);
    problem.run();
    problem.check();
  }
  std::int64_t L_ = std::get<1>(GetParam());
};

std::string name(const testing::TestParamInfo<Param>& tested) {
  return std::string(hwy::TargetName(std::get<0>(tested.param))) + "_L" +
         std::to_string(std::get<1>(tested.param));
}

// Straddle the vector widths, the block of time steps, each factor of the transform and its sizes.
INSTANTIATE_TEST_SUITE_P(EveryTarget, GatedConv,
                         testing::Combine(testing::ValuesIn(compiled_targets()),
                                          testing::Values(1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31,
                                                          32, 33, 64, 65, 96, 97, 127, 160, 224,
                                                          255, 256, 257, 288, 512, 1000, 1009)),
                         name);

TEST_P(GatedConv, MixerOfOrderTwoInFloat32) {
  for (const std::int64_t D : {1, 5, 33}) {
    check<float, float>({.B = 2, .D = D, .L = L_, .K = L_});
  }
}

TEST_P(GatedConv, MixerOfOrderTwoInFloat64) {
  check<double, double>({.B = 2, .D = 9, .L = L_, .K = L_});
}

TEST_P(GatedConv, MixerOfOrderTwoInBFloat16) {
  check<Bf16, float>({.B = 2, .D = 17, .L = L_, .K = L_});
}

TEST_P(GatedConv, ShortFiltersAndOtherTaps) {
  for (const std::int64_t T : {1, 2, 4, 40}) {
    check<float, float>({.B = 1, .D = 4, .L = L_, .K = (L_ + 1) / 2, .T = T});
  }
}

TEST_P(GatedConv, EveryCombinationOfFactors) {
  for (const int bits : {0, 1, 2, 3, 4, 5, 6, 7}) {
    check<float, float>({.B = 2,
                         .D = 3,
                         .L = L_,
                         .K = L_,
                         .post = (bits & 1) != 0,
                         .pre = (bits & 2) != 0,
                         .short_filters = (bits & 4) != 0});
  }
}

TEST_P(GatedConv, BothDirections) {
  check<float, float>({.B = 2, .D = 3, .L = L_, .K = L_, .reverse = true});
  check<float, float>({.B = 1, .D = 3, .L = L_, .K = (L_ + 1) / 2, .skip = false, .reverse = true});
}

TEST_P(GatedConv, EveryLayout) {
  for (const Layout layout : {Layout::kChannelsLast, Layout::kContiguous, Layout::kGaps}) {
    check<float, float>({.B = 2, .D = 18, .L = L_, .K = L_, .layout = layout});
    check<Bf16, float>({.B = 1, .D = 18, .L = L_, .K = L_, .layout = layout});
  }
}

TEST_P(GatedConv, TimeStepsInTheLanes) {
  constexpr LaneAxis kTime = LaneAxis::kTime;
  for (const std::int64_t D : {1, 5, 33}) {
    check<float, float>({.B = 2, .D = D, .L = L_, .K = L_, .lane_axis = kTime});
  }
  check<double, double>({.B = 2, .D = 9, .L = L_, .K = L_, .lane_axis = kTime});
  check<Bf16, float>({.B = 1, .D = 17, .L = L_, .K = (L_ + 1) / 2, .lane_axis = kTime});
  check<float, float>({.B = 2, .D = 3, .L = L_, .K = L_, .reverse = true, .lane_axis = kTime});
  check<float, float>({.B = 1, .D = 3, .L = L_, .K = L_, .post = false, .lane_axis = kTime});
  check<float, float>(
      {.B = 2, .D = 18, .L = L_, .K = L_, .layout = Layout::kContiguous, .lane_axis = kTime});
}

TEST_P(GatedConv, NoBatch) {
  check<float, float>({.B = 0, .D = 3, .L = L_, .K = L_});
}

// Sizes of 1, 3, 5, 7 and 9 times a power of two, and every mix of radices 4 and 8 at the bottom,
// for each number of lanes.
class GatedConvTimeLanes : public GatedConv {};
INSTANTIATE_TEST_SUITE_P(EveryTarget, GatedConvTimeLanes,
                         testing::Combine(testing::ValuesIn(compiled_targets()),
                                          testing::Values(1100, 1280, 1700, 2048, 2304, 2500, 3500,
                                                          4097, 4600, 5000)),
                         name);
TEST_P(GatedConvTimeLanes, EverySize) {
  check<float, float>({.B = 1, .D = 2, .L = L_, .K = L_, .lane_axis = LaneAxis::kTime});
  check<double, double>({.B = 1, .D = 1, .L = L_, .K = L_, .lane_axis = LaneAxis::kTime});
}

// Filters much shorter than the sequence: windows that overlap, whole and cut at the end.
class GatedConvWindows : public GatedConv {
 protected:
  void SetUp() override {
    GatedConv::SetUp();
    const GatedConvPlan plan({.batch = 1, .channels = kD, .length = L_, .filter_length = 33});
    ASSERT_LT(plan.transform_length(), L_) << "the case tests nothing";
  }
  static constexpr std::int64_t kD = 10;  // more than half the lanes, no whole vector
};
INSTANTIATE_TEST_SUITE_P(EveryTarget, GatedConvWindows,
                         testing::Combine(testing::ValuesIn(compiled_targets()),
                                          testing::Values(8192, 9001)),
                         name);

TEST_P(GatedConvWindows, EveryStorageAndLayout) {
  check<float, float>({.B = 2, .D = kD, .L = L_, .K = 33});
  check<float, float>({.B = 1, .D = kD, .L = L_, .K = 150});
  check<double, double>({.B = 1, .D = kD, .L = L_, .K = 64});
  check<Bf16, float>({.B = 1, .D = kD, .L = L_, .K = 65, .layout = Layout::kContiguous});
}

TEST_P(GatedConvWindows, EveryCombinationOfFactors) {
  for (const int bits : {0, 1, 2, 3, 4, 5, 6}) {
    check<float, float>({.B = 1,
                         .D = kD,
                         .L = L_,
                         .K = 40,
                         .post = (bits & 1) != 0,
                         .pre = (bits & 2) != 0,
                         .short_filters = (bits & 4) != 0});
  }
}

TEST_P(GatedConvWindows, BothDirections) {
  check<float, float>({.B = 2, .D = kD, .L = L_, .K = 100, .reverse = true});
  check<float, float>(
      {.B = 1, .D = kD, .L = L_, .K = 150, .T = 40, .skip = false, .reverse = true});
}

TEST(GatedConvShapes, EmptyLengthOrChannels) {
  for (const GatedCase& c : {GatedCase{.L = 0, .K = 0}, GatedCase{.D = 0}}) {
    GatedProblem<float, float> problem(c);
    problem.run();
    problem.check();
  }
}

TEST(GatedConvShapes, TheCutIntoItemsChangesNoBit) {
  GatedCase c{.B = 3, .D = 300, .L = 130, .K = 130};
  GatedProblem<float, float> whole(c);
  GatedProblem<float, float> one_by_one(c);
  c.threads = 7;  // narrower tiles
  GatedProblem<float, float> for_threads(c);
  whole.run();
  one_by_one.run(1);
  for_threads.run(1);
  const auto same = [](auto& a, auto& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0;
  };
  for (auto* cut : {&one_by_one, &for_threads}) {
    EXPECT_TRUE(same(whole.y(), cut->y()));
    EXPECT_TRUE(same(whole.dp(), cut->dp()));
    EXPECT_TRUE(same(whole.dh(), cut->dh()));
    EXPECT_TRUE(same(whole.dweight(), cut->dweight()));
  }
}

TEST(GatedConvShapes, EveryThreadGetsAnItem) {
  for (const std::int64_t D : {1, 16, 100, 768}) {
    for (const std::int64_t L : {20, 1000, 20000}) {
      for (const DataType type : {DataType::kFloat32, DataType::kFloat64}) {
        GatedConvShape shape{.batch = 2, .channels = D, .length = L, .filter_length = L};
        shape.type = type;
        // What there is to share are vectors of channels, of 64 bytes at most.
        const std::int64_t vectors = (D * (type == DataType::kFloat64 ? 8 : 4) + 63) / 64;
        for (shape.threads = 1; shape.threads <= 64; ++shape.threads) {
          const GatedConvPlan plan(shape);
          EXPECT_GE(plan.num_backward_items(), std::min(shape.threads, vectors))
              << D << " channels, length " << L << ", " << shape.threads << " threads";
          EXPECT_EQ(plan.num_forward_items(), shape.batch * plan.num_backward_items());
        }
      }
    }
  }
}

}  // namespace
}  // namespace hyena::kernels
