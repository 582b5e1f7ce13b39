// Filters with kept spectra: the mixer's values, what is made anew and what is not.
#include "hyena/ops/prepared_filters.h"

#include <cstdlib>
#include <limits>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/ops/mixer_case.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

bool generic() {
  const char* path = std::getenv("HYENA_CPU_PATH");  // NOLINT(concurrency-mt-unsafe): no setenv
  return path != nullptr && std::string_view(path) == "generic";
}

at::Tensor run(const MixerCase& c, const MixerInputs& in, const PreparedFilters& filters) {
  return hyena_mixer_prepared(in.p_BCL, in.short_weight_CT, in.short_bias_C, filters, c.mode);
}

/// `in` with the first `length` samples and taps.
MixerInputs shortened(MixerInputs in, std::int64_t length) {
  in.p_BCL = in.p_BCL.narrow(2, 0, length).contiguous();
  in.h_MDK = in.h_MDK.narrow(2, 0, std::min(length, in.h_MDK.size(2)));
  in.dy_BDL = in.dy_BDL.narrow(2, 0, length);
  return in;
}

// One set of filters serves every length: direct sums, transforms larger than L, filters longer and
// shorter than L.
TEST(PreparedFilters, EveryOrderModeLengthAndTypeAgreesWithTheOracle) {
  std::uint64_t seed = 1;
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    // Three long convolutions in bfloat16: the bound exceeds the values and says nothing.
    const std::int64_t highest = type == at::kBFloat16 ? 2 : 3;
    for (const MixerMode mode : {MixerMode::kSafari, MixerMode::kPaper}) {
      for (std::int64_t order = mode == MixerMode::kSafari ? 2 : 1; order <= highest; ++order) {
        MixerCase c{.L = 140,
                    .K = seed % 2 == 0 ? 140 : 90,
                    .order = order,
                    .mode = mode,
                    .has_bias = seed % 3 != 0,
                    .has_skip = seed % 5 != 0,
                    .type = type};
        const MixerInputs whole = mixer_inputs(c, seed++);
        const PreparedFilters filters(whole.h_MDK, whole.skip_MD);
        const std::int64_t taps = c.K;
        for (const std::int64_t L : {140, 139, 7, 100, 140, 32, 33}) {
          c.L = L;
          c.K = std::min(taps, L);
          SCOPED_TRACE(c.text());
          const MixerInputs in = shortened(whole, L);
          EXPECT_TRUE(within_running_error(mixer_expectation(c, in).y, run(c, in, filters)));
        }
      }
    }
  }
}

TEST(PreparedFilters, TimeStepsInTheLanes) {
  const MixerCase c{.B = 1, .D = 2, .L = 1500, .K = 1500};
  const MixerInputs in = mixer_inputs(c, 3);
  const PreparedFilters filters(in.h_MDK, in.skip_MD);
  const MixerInputs first = shortened(in, 1300);
  const MixerCase shorter{.B = 1, .D = 2, .L = 1300, .K = 1300};
  EXPECT_TRUE(within_running_error(mixer_expectation(c, in).y, run(c, in, filters)));
  EXPECT_TRUE(
      within_running_error(mixer_expectation(shorter, first).y, run(shorter, first, filters)));
}

// The filter changes behind the spectrum's back: the spectrum answers.
TEST(PreparedFilters, ASpectrumIsMadeOnce) {
  const MixerCase c{.L = 128, .K = 128};
  const MixerInputs in = mixer_inputs(c, 5);
  const PreparedFilters filters(in.h_MDK, in.skip_MD);
  const at::Tensor before = run(c, in, filters);
  in.h_MDK.zero_();
  EXPECT_EQ(at::equal(run(c, in, filters), before), !generic());
}

// Taps beyond L reach no output: neither their size nor that they are no numbers may show.
TEST(PreparedFilters, TapsBeyondTheSequenceDoNotMatter) {
  for (const double beyond : {1e8, std::numeric_limits<double>::infinity()}) {
    const MixerCase c{.L = 64, .K = 64};
    const MixerInputs in = mixer_inputs(c, 6);
    for (const std::int64_t L : {33, 50, 7}) {
      const at::Tensor h = in.h_MDK.clone();
      h.narrow(2, L, 64 - L).fill_(beyond);
      const MixerInputs first = shortened(in, L);
      const at::Tensor expected = hyena_mixer(first.p_BCL, first.short_weight_CT,
                                              first.short_bias_C, first.h_MDK, first.skip_MD);
      EXPECT_TRUE(at::equal(run(c, first, PreparedFilters(h, in.skip_MD)), expected)) << L;
    }
  }
}

TEST(PreparedFilters, ANegatedViewIsResolved) {
  const MixerCase c{.L = 40, .K = 40};
  MixerInputs in = mixer_inputs(c, 8);
  const at::Tensor p = in.p_BCL;
  const PreparedFilters filters(in.h_MDK, in.skip_MD);
  in.p_BCL = at::_neg_view(p);
  const at::Tensor y = run(c, in, filters);
  in.p_BCL = -p;
  EXPECT_TRUE(at::equal(y, run(c, in, filters)));
}

TEST(PreparedFilters, KeepsTheLatestKeyOfEveryFilter) {
  const PreparedFilters filters(at::ones({2, 3, 4}), std::nullopt);
  int made = 0;
  const auto make = [&] { return at::full({1}, ++made); };
  const auto value = [&](std::int64_t o, const SpectrumKey& key) {
    return filters.spectrum(o, key, make).item<int>();
  };
  EXPECT_EQ(value(0, {1, 2, 3, 4}), 1);
  EXPECT_EQ(value(1, {1, 2, 3, 4}), 2);
  EXPECT_EQ(value(0, {1, 2, 3, 4}), 1);
  EXPECT_EQ(value(0, {1, 2, 3, 5}), 3);
  EXPECT_EQ(value(0, {1, 2, 3, 4}), 4);
  EXPECT_EQ(value(1, {1, 2, 3, 4}), 2);
}

TEST(PreparedFilters, AFailureKeepsNothing) {
  const PreparedFilters filters(at::ones({1, 3, 4}), std::nullopt);
  const auto fail = []() -> at::Tensor { throw std::runtime_error("no memory"); };
  EXPECT_THROW((void)filters.spectrum(0, {0, 0, 0, 0}, fail), std::runtime_error);
  EXPECT_TRUE(filters.spectrum(0, {0, 0, 0, 0}, [] { return at::ones({1}); }).defined());
}

TEST(PreparedFilters, SeveralThreadsShareOneSet) {
  const MixerCase c{.L = 200, .K = 200};
  const MixerInputs in = mixer_inputs(c, 7);
  const MixerInputs other = shortened(in, 60);  // another transform: they take turns
  const PreparedFilters filters(in.h_MDK, in.skip_MD);
  const at::Tensor expected = run(c, in, filters);
  const at::Tensor expected_other = run(c, other, filters);
  std::vector<int> equal(4);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < equal.size(); ++i) {
    threads.emplace_back([&, i] {
      const bool first = i % 2 == 0;
      equal[i] = 1;
      for (int repeat = 0; repeat < 20; ++repeat) {
        const at::Tensor y = run(c, first ? in : other, filters);
        equal[i] &= static_cast<int>(at::equal(y, first ? expected : expected_other));
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(equal, std::vector<int>(4, 1));
}

TEST(PreparedFilters, GradientsStopHere) {
  const MixerCase c{.L = 40, .K = 40};
  const MixerInputs in = mixer_inputs(c, 9);
  in.p_BCL.requires_grad_(true);
  EXPECT_FALSE(run(c, in, PreparedFilters(in.h_MDK, in.skip_MD)).requires_grad());
}

TEST(PreparedFilters, ArgumentsAreCheckedAsInTheOp) {
  const MixerCase c{};
  const MixerInputs in = mixer_inputs(c, 1);
  const PreparedFilters filters(in.h_MDK, in.skip_MD);
  MixerInputs bad = in;
  bad.p_BCL = in.p_BCL.narrow(1, 0, 8);
  EXPECT_THROW((void)run(c, bad, filters), c10::ValueError);
  bad.p_BCL = in.p_BCL.select(0, 0);
  EXPECT_THROW((void)run(c, bad, filters), c10::ValueError);
}

}  // namespace
}  // namespace hyena::ops
