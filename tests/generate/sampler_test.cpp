#include "hyena/generate/sampler.h"

#include <cmath>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "hyena/base/error.h"

namespace hyena::generate {
namespace {

constexpr int kDraws = 20000;

std::vector<double> shares(const SamplerOptions& options, const std::vector<float>& logits) {
  Sampler sampler(options);
  std::vector<double> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) {
    counts.at(static_cast<std::size_t>(sampler.next(logits))) += 1.0 / kDraws;
  }
  return counts;
}

/// Six standard deviations of a share p of kDraws draws.
double six_sigma(double p) {
  return 6.0 * std::sqrt(p * (1.0 - p) / kDraws) + 1e-12;
}

void expect_shares(const SamplerOptions& options, const std::vector<float>& logits,
                   const std::vector<double>& expected) {
  const std::vector<double> actual = shares(options, logits);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], six_sigma(expected[i])) << "token " << i;
  }
}

const std::vector<float> kLogits{std::log(0.1F), std::log(0.4F), std::log(0.2F), std::log(0.3F)};

TEST(Sampler, DrawsFromTheSoftmax) {
  expect_shares({}, kLogits, {0.1, 0.4, 0.2, 0.3});
}

TEST(Sampler, TemperatureSharpens) {
  // p^(1/0.5) = p^2 : 0.01, 0.16, 0.04, 0.09 of 0.3
  expect_shares({.temperature = 0.5}, kLogits, {1.0 / 30, 16.0 / 30, 4.0 / 30, 9.0 / 30});
}

TEST(Sampler, TopKCutsAndRescales) {
  expect_shares({.top_k = 2}, kLogits, {0.0, 4.0 / 7, 0.0, 3.0 / 7});
  expect_shares({.top_k = 9}, kLogits, {0.1, 0.4, 0.2, 0.3});
}

TEST(Sampler, TopPTakesTheSmallestSufficientSet) {
  expect_shares({.top_p = 0.65}, kLogits, {0.0, 4.0 / 7, 0.0, 3.0 / 7});
  expect_shares({.top_p = 0.75}, kLogits, {0.0, 4.0 / 9, 2.0 / 9, 3.0 / 9});
  expect_shares({.top_p = 1e-9}, kLogits, {0.0, 1.0, 0.0, 0.0});
}

TEST(Sampler, TopKComesBeforeTopP) {
  // Of the top two (4/7, 3/7) the first alone reaches 0.5.
  expect_shares({.top_k = 2, .top_p = 0.5}, kLogits, {0.0, 1.0, 0.0, 0.0});
}

TEST(Sampler, ZeroTemperatureTakesTheLikeliestAndTheSmallerIdOfATie) {
  Sampler sampler({.temperature = 0.0});
  EXPECT_EQ(sampler.next(std::vector<float>{1.0F, 3.0F, 3.0F}), 1);
}

TEST(Sampler, SeedDecides) {
  const auto draws = [](std::uint64_t seed) {
    Sampler sampler({.seed = seed});
    std::vector<std::int64_t> ids(50);
    for (std::int64_t& id : ids) {
      id = sampler.next(kLogits);
    }
    return ids;
  };
  EXPECT_EQ(draws(3), draws(3));
  EXPECT_NE(draws(3), draws(4));
}

TEST(Sampler, ExtremeLogitsAreFine) {
  const float inf = std::numeric_limits<float>::infinity();
  Sampler sampler({});
  EXPECT_EQ(sampler.next(std::vector<float>{-inf, 3e38F, -3e38F}), 1);
  EXPECT_THROW((void)sampler.next(std::vector<float>{-inf, -inf}), RunError);
  EXPECT_THROW((void)sampler.next(std::vector<float>{0.0F, std::nanf("")}), RunError);
}

TEST(Sampler, OptionsAreChecked) {
  EXPECT_THROW(Sampler({.temperature = -0.1}), UserError);
  EXPECT_THROW(Sampler({.temperature = std::nan("")}), UserError);
  EXPECT_THROW(Sampler({.top_k = -1}), UserError);
  EXPECT_THROW(Sampler({.top_p = 0.0}), UserError);
  EXPECT_THROW(Sampler({.top_p = 1.1}), UserError);
}

}  // namespace
}  // namespace hyena::generate
