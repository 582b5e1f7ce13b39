// Every row is re-read by the rules of PAPER section 8, written a second time here.
#include "hyena/data/synthetic.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <span>

#include <gtest/gtest.h>

#include "hyena/base/error.h"

namespace hyena::data {
namespace {

using Row = std::vector<std::int32_t>;

std::vector<Row> rows(const SyntheticSet& set) {
  std::vector<Row> out;
  for (std::int64_t i = 0; i < set.examples; ++i) {
    const auto begin = set.tokens_NT.begin() + i * set.row_tokens;
    out.emplace_back(begin, begin + set.row_tokens);
  }
  return out;
}

std::vector<Row> make(const char* task, std::int64_t length, std::int64_t V, std::int64_t examples,
                      std::int64_t seed = 0) {
  return rows(make_synthetic(
      {.task = task, .length = length, .vocab_size = V, .examples = examples, .seed = seed}));
}

TEST(Synthetic, RecallRowsFollowTheRules) {
  for (const std::int64_t V : {10, 13, 30}) {
    for (const std::int64_t length : {20, 21, 64}) {
      for (const Row& row : make("associative_recall", length, V, 200)) {
        ASSERT_EQ(static_cast<std::int64_t>(row.size()), 2 * (length / 2) + 3);
        const std::int64_t last_key = (V - 2) / 2;
        std::map<std::int32_t, std::int32_t> dictionary;
        for (std::size_t i = 0; i + 3 < row.size(); i += 2) {
          ASSERT_GE(row[i], 1);
          ASSERT_LE(row[i], last_key);
          ASSERT_GT(row[i + 1], last_key);
          ASSERT_LE(row[i + 1], V - 2);
          ASSERT_EQ(dictionary.emplace(row[i], row[i + 1]).first->second, row[i + 1])
              << "a key keeps its value";
        }
        ASSERT_EQ(row[row.size() - 3], V - 1);
        ASSERT_TRUE(dictionary.contains(row[row.size() - 2])) << "the query occurred";
        ASSERT_EQ(row.back(), dictionary[row[row.size() - 2]]);
      }
    }
  }
}

TEST(Synthetic, RecallUsesEveryKeyValueAndQueryEqually) {
  std::map<std::int32_t, int> keys;
  std::map<std::int32_t, int> values;
  std::map<std::int32_t, int> queries;
  constexpr int kRows = 4000;
  for (const Row& row : make("associative_recall", 40, 10, kRows)) {
    ++keys[row[0]];
    ++values[row[1]];
    ++queries[row[row.size() - 2]];
  }
  // Four outcomes each: mean 1000, standard deviation sqrt(4000 * 1/4 * 3/4) = 27.4; six of them.
  for (const auto* counts : {&keys, &values, &queries}) {
    ASSERT_EQ(counts->size(), 4U);
    for (const auto& [token, count] : *counts) {
      EXPECT_NEAR(count, kRows / 4.0, 165) << "token " << token;
    }
  }
}

TEST(Synthetic, NoisyRecallHidesPairsAmongDots) {
  int dots = 0;
  int slots = 0;
  for (const Row& row : make("noisy_recall", 64, 10, 300)) {
    std::map<std::int32_t, std::int32_t> dictionary;
    EXPECT_NE(row[0], 0);
    for (std::size_t i = 0; i + 3 < row.size(); i += 2) {
      ++slots;
      if (row[i] == 0) {
        ++dots;
        ASSERT_EQ(row[i + 1], 0);
      } else {
        ASSERT_EQ(dictionary.emplace(row[i], row[i + 1]).first->second, row[i + 1]);
      }
    }
    ASSERT_EQ(row.back(), dictionary.at(row[row.size() - 2]));
  }
  const double share = static_cast<double>(dots) / slots;  // of 9600 slots: sd 0.005
  EXPECT_NEAR(share, 0.5 * 31 / 32, 0.03);
}

TEST(Synthetic, InductionHeadRepeatsWhatFollowedTheTrigger) {
  std::set<std::ptrdiff_t> places;
  for (const Row& row : make("induction_head", 9, 20, 500)) {
    ASSERT_EQ(row.size(), 11U);
    const auto trigger = std::find(row.begin(), row.end(), 19);
    places.insert(trigger - row.begin());
    ASSERT_EQ(std::count(row.begin(), row.end(), 19), 2);
    ASSERT_EQ(row[9], 19);
    ASSERT_EQ(row.back(), *(trigger + 1));
    ASSERT_EQ(std::count(row.begin(), row.end(), 0), 0);
  }
  EXPECT_EQ(places, (std::set<std::ptrdiff_t>{0, 1, 2, 3, 4, 5, 6}));
}

TEST(Synthetic, CopyMajorityAndCounting) {
  for (const Row& row : make("copy", 12, 8, 100)) {
    ASSERT_EQ(row.size(), 11U);
    ASSERT_EQ(row[5], 7);
    ASSERT_TRUE(std::equal(row.begin(), row.begin() + 5, row.begin() + 6));
  }
  for (const Row& row : make("majority", 15, 4, 200)) {
    std::map<std::int32_t, int> count;
    for (std::size_t i = 0; i + 1 < row.size(); ++i) {
      ++count[row[i]];
    }
    for (const auto& [token, times] : count) {
      ASSERT_TRUE(token == row.back() || times < count[row.back()]);
    }
  }
  const SyntheticSet counting = make_synthetic(
      {.task = "counting", .length = 12, .vocab_size = 5, .examples = 200, .seed = 3});
  EXPECT_EQ(counting.vocab_size, 17);
  for (const Row& row : rows(counting)) {
    ASSERT_EQ(row.back() - 4, std::count(row.begin(), row.end() - 1, row[11]));
  }
}

TEST(Synthetic, ArithmeticAddsUp) {
  const auto number = [](std::span<const std::int32_t> digits) {
    std::int64_t value = 0;
    for (const std::int32_t digit : digits) {
      value = 10 * value + digit;
    }
    return value;
  };
  for (const std::size_t n : {1U, 2U, 8U, 16U}) {
    for (const Row& row : make("arithmetic", static_cast<std::int64_t>(n), 10, 50)) {
      const std::span<const std::int32_t> all(row);
      ASSERT_EQ(row.size(), 3 * n + 1);
      ASSERT_EQ(number(all.first(n)) + number(all.subspan(n, n)), number(all.subspan(2 * n)));
    }
  }
  const SyntheticSet shape =
      synthetic_shape({.task = "arithmetic", .length = 3, .vocab_size = 10, .examples = 1});
  // x = a1 a2 a3 b1 b2 b3 s1 s2 s3: the first 2*3 - 1 targets are not trained.
  EXPECT_EQ(shape.first_trained, 5);
  EXPECT_EQ(shape.first_scored, 5);
}

TEST(Synthetic, WhatIsScored) {
  const SyntheticSet recall =
      synthetic_shape({.task = "associative_recall", .length = 131072, .vocab_size = 30});
  EXPECT_EQ(recall.row_tokens - 1, 131074) << "the l_max of the published configs";
  EXPECT_EQ(recall.first_trained, 0);
  EXPECT_EQ(recall.first_scored, 131073);
  const SyntheticSet majority = synthetic_shape({.task = "majority", .length = 7});
  EXPECT_EQ(majority.first_trained, 6);
  EXPECT_EQ(majority.first_scored, 6);
}

TEST(Synthetic, DeterministicAndDistinct) {
  const auto a = make("associative_recall", 16, 10, 500, 7);
  EXPECT_EQ(a, make("associative_recall", 16, 10, 500, 7));
  EXPECT_EQ((std::set<Row>(a.begin(), a.end()).size()), 500U);
  const auto b = make("associative_recall", 16, 10, 500, 8);
  std::vector<Row> both;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  EXPECT_LT(both.size(), 5U) << "another seed gives another set";
  // The same rows on every machine and for ever: results name a seed.
  EXPECT_EQ(make("associative_recall", 6, 10, 1, 1)[0], (Row{1, 6, 4, 5, 4, 5, 9, 1, 6}));
}

TEST(Synthetic, LinearFunctions) {
  const LinearFunctionSet set =
      make_linear_functions({.length = 4, .vocab_size = 3, .examples = 2000, .seed = 5});
  ASSERT_EQ(set.points, 7);
  const auto at = [&](std::int64_t i, std::int64_t p, std::int64_t j) {
    return static_cast<double>(
        set.prompts_NPV[static_cast<std::size_t>((i * set.points + p) * 3 + j)]);
  };
  double squares = 0.0;
  for (std::int64_t i = 0; i < set.examples; ++i) {
    for (std::int64_t j = 0; j < 3; ++j) {
      const double w = at(i, 1, j) / at(i, 0, j);
      const auto answer = static_cast<double>(set.answers_NV[static_cast<std::size_t>(i * 3 + j)]);
      // Three roundings of float32 between the two sides.
      ASSERT_NEAR(answer, w * at(i, 6, j), 3 * 0x1p-23 * std::abs(answer));
      squares += w * w;
    }
  }
  EXPECT_NEAR(squares / 6000, 1.0, 6 * std::sqrt(2.0 / 6000)) << "w is standard normal";
}

TEST(Synthetic, TokensPrintAsPublished) {
  EXPECT_EQ(token_text(0, 30), ".");
  EXPECT_EQ(token_text(29, 30), "=>");
  EXPECT_EQ(token_text(1, 30), "0");
  EXPECT_EQ(token_text(3, 30), "10");
  EXPECT_EQ(token_text(14, 30), "20") << "the last key";
  EXPECT_EQ(token_text(15, 30), "21") << "the first value";
  EXPECT_EQ(token_text(28, 30), "9");
}

void expect_error(const SyntheticOptions& options, const std::string& message) {
  try {
    (void)make_synthetic(options);
    FAIL() << "expected: " << message;
  } catch (const UserError& error) {
    EXPECT_EQ(error.what(), message);
  }
}

TEST(Synthetic, ErrorsTeach) {
  expect_error({.task = "majorty"},
               "task: expected one of associative_recall, noisy_recall, induction_head, copy, "
               "majority, counting, arithmetic, got 'majorty', did you mean 'majority'?");
  expect_error({.task = "arithmetic", .length = 2, .vocab_size = 11},
               "vocab_size: arithmetic needs the 10 digits, got 11");
  expect_error({.length = 1}, "length: associative_recall needs at least 2, got 1");
  expect_error({.task = "copy", .length = 3, .vocab_size = 4, .examples = 3},
               "copy: 3 different rows were asked for, but 1300 draws at length 3, vocabulary 4 "
               "gave only 2");
}

}  // namespace
}  // namespace hyena::data
