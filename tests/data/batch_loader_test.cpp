#include "hyena/data/batch_loader.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "tests/io/temporary_folder.h"

namespace hyena::data {
namespace {

using testing_support::message_of;

/// Tokens first, first + 1, ...: a token says where it stands.
class CountingSource final : public TokenSource {
 public:
  CountingSource(std::int64_t first, std::int64_t size) : first_(first), size_(size) {}
  [[nodiscard]] std::int64_t size() const override { return size_; }
  void copy(std::int64_t begin, std::span<std::int64_t> out) const override {
    std::iota(out.begin(), out.end(), first_ + begin);
  }

 private:
  std::int64_t first_;
  std::int64_t size_;
};

/// Files of these sizes; token i of the corpus is i.
std::shared_ptr<const Corpus> counting_corpus(const std::vector<std::int64_t>& sizes) {
  auto corpus = std::make_shared<Corpus>(1'000'000'000);
  for (const std::int64_t size : sizes) {
    const DocumentSpan document{.begin = 0, .end = size, .bytes = size};
    corpus->add("file", std::make_unique<CountingSource>(corpus->num_tokens(), size),
                std::span(&document, 1));
  }
  return corpus;
}

using Rows = std::vector<std::vector<std::int64_t>>;

struct Batch {
  Rows inputs;
  Rows targets;
};

Rows rows_of(const std::vector<std::int64_t>& flat, std::int64_t length) {
  Rows rows;
  for (auto row = flat.begin(); row != flat.end(); row += length) {
    rows.emplace_back(row, row + length);
  }
  return rows;
}

Batch next_batch(BatchLoader& loader, std::int64_t batch_size, std::int64_t length) {
  std::vector<std::int64_t> inputs(static_cast<std::size_t>(batch_size * length), -1);
  std::vector<std::int64_t> targets = inputs;
  loader.next(inputs.data(), targets.data());
  return {rows_of(inputs, length), rows_of(targets, length)};
}

TEST(Permuted, IsABijectionForEverySize) {
  for (const std::int64_t size : {1, 2, 3, 4, 5, 15, 16, 17, 63, 64, 65, 255, 1000, 4099}) {
    for (const std::uint64_t key : {0ULL, 1ULL, 0xdeadbeefULL}) {
      std::set<std::int64_t> seen;
      for (std::int64_t i = 0; i < size; ++i) {
        const std::int64_t image = permuted(i, size, key);
        ASSERT_GE(image, 0);
        ASSERT_LT(image, size);
        seen.insert(image);
      }
      ASSERT_EQ(std::ssize(seen), size) << key;
    }
  }
  // Far beyond what could be listed.
  const std::int64_t huge = std::int64_t{1} << 40;
  std::set<std::int64_t> seen;
  for (std::int64_t i = 0; i < 1000; ++i) {
    seen.insert(permuted(i * 1'000'000'007 % huge, huge, 3));
  }
  EXPECT_EQ(seen.size(), 1000U);
}

/// Over keys, every image of an index is about equally frequent: chi-square with 9 degrees of
/// freedom exceeds 33.7 once in 10,000.
TEST(Permuted, ImagesAreUniformOverKeys) {
  constexpr std::int64_t kSize = 10;
  constexpr std::uint64_t kKeys = 20'000;
  for (const std::int64_t index : {0, 1, 9}) {
    std::map<std::int64_t, double> counts;
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      counts[permuted(index, kSize, key)] += 1.0;
    }
    double chi_square = 0.0;
    for (std::int64_t image = 0; image < kSize; ++image) {
      const double expected = static_cast<double>(kKeys) / kSize;
      chi_square += (counts[image] - expected) * (counts[image] - expected) / expected;
    }
    EXPECT_LT(chi_square, 33.7) << index;
  }
}

TEST(BatchLoader, TargetsAreTheInputsShiftedByOne) {
  BatchLoader loader(counting_corpus({100}), {.sequence_length = 7, .batch_size = 3});
  for (int step = 0; step < 20; ++step) {
    const Batch batch = next_batch(loader, 3, 7);
    for (std::size_t b = 0; b < 3; ++b) {
      EXPECT_EQ(batch.inputs[b][0] % 7, 0);
      for (std::size_t t = 0; t < 7; ++t) {
        EXPECT_EQ(batch.inputs[b][t], batch.inputs[b][0] + static_cast<std::int64_t>(t));
        EXPECT_EQ(batch.targets[b][t], batch.inputs[b][t] + 1);
      }
    }
  }
}

TEST(BatchLoader, EveryEpochVisitsEveryWindowOnceInAnotherOrder) {
  // 71 tokens, L 7: windows at 0, 7, ..., 63 use tokens 0..70; with 70 tokens the last is dropped.
  for (const auto& [tokens, windows] : std::map<std::int64_t, std::int64_t>{{71, 10}, {70, 9}}) {
    BatchLoader loader(counting_corpus({tokens}), {.sequence_length = 7, .batch_size = 1});
    ASSERT_EQ(loader.num_windows(), windows);
    std::set<std::vector<std::int64_t>> orders;
    for (int epoch = 0; epoch < 5; ++epoch) {
      EXPECT_EQ(loader.epoch(), epoch);
      std::vector<std::int64_t> order;
      order.reserve(static_cast<std::size_t>(windows));
      for (std::int64_t i = 0; i < windows; ++i) {
        order.push_back(next_batch(loader, 1, 7).inputs[0][0] / 7);
      }
      orders.insert(order);
      std::sort(order.begin(), order.end());
      for (std::int64_t i = 0; i < windows; ++i) {
        EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
      }
    }
    EXPECT_EQ(orders.size(), 5U);
  }
}

TEST(BatchLoader, BatchesCrossFilesAndEpochs) {
  BatchLoader loader(counting_corpus({5, 1, 30, 5}), {.sequence_length = 8, .batch_size = 3});
  ASSERT_EQ(loader.num_windows(), 5);
  std::map<std::int64_t, int> seen;
  for (int step = 0; step < 5; ++step) {  // 15 samples: three epochs of 5
    for (const std::vector<std::int64_t>& row : next_batch(loader, 3, 8).inputs) {
      EXPECT_EQ(row[7], row[0] + 7);
      ++seen[row[0]];
    }
  }
  EXPECT_EQ(seen, (std::map<std::int64_t, int>{{0, 3}, {8, 3}, {16, 3}, {24, 3}, {32, 3}}));
}

TEST(BatchLoader, SeedsDecideTheOrder) {
  const auto corpus = counting_corpus({10'001});
  const auto order = [&](std::int64_t seed) {
    BatchLoader loader(corpus, {.sequence_length = 10, .batch_size = 50, .seed = seed});
    return next_batch(loader, 50, 10).inputs;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
}

TEST(BatchLoader, RandomOffsetsStayInsideAndReachEverything) {
  const std::int64_t tokens = 103;
  BatchLoader loader(
      counting_corpus({tokens}),
      {.sequence_length = 10, .batch_size = 1, .offset = BatchLoaderOptions::Offset::kRandom});
  ASSERT_EQ(loader.num_windows(), 9);  // (102 - 9) / 10
  std::set<std::int64_t> offsets;
  for (int epoch = 0; epoch < 200; ++epoch) {
    std::set<std::int64_t> begins;
    for (int i = 0; i < 9; ++i) {
      const Batch batch = next_batch(loader, 1, 10);
      EXPECT_LT(batch.targets[0].back(), tokens);
      begins.insert(batch.inputs[0][0]);
    }
    ASSERT_EQ(begins.size(), 9U);
    EXPECT_LT(*begins.begin(), 10);
    EXPECT_EQ(*begins.rbegin() - *begins.begin(), 80);
    offsets.insert(*begins.begin());
  }
  EXPECT_EQ(offsets.size(), 10U);
  // A text that holds one window only still moves as far as there is room.
  BatchLoader tight(
      counting_corpus({13}),
      {.sequence_length = 10, .batch_size = 1, .offset = BatchLoaderOptions::Offset::kRandom});
  for (int i = 0; i < 50; ++i) {
    EXPECT_LT(next_batch(tight, 1, 10).targets[0].back(), 13);
  }
}

TEST(BatchLoader, ResumesExactly) {
  const auto corpus = counting_corpus({1000});
  const BatchLoaderOptions options{.sequence_length = 9, .batch_size = 4, .seed = 5};
  for (const int steps : {0, 1, 27, 28, 300}) {
    BatchLoader original(corpus, options);
    for (int step = 0; step < steps; ++step) {
      next_batch(original, 4, 9);
    }
    const io::Json state = io::parse_json(original.state().dump(), "state");
    BatchLoader resumed(corpus, options);
    resumed.restore(state);
    EXPECT_EQ(resumed.samples(), 4 * steps);
    for (int step = 0; step < 60; ++step) {
      ASSERT_EQ(next_batch(resumed, 4, 9).inputs, next_batch(original, 4, 9).inputs) << step;
    }
  }
}

TEST(BatchLoader, RefusesToResumeOtherData) {
  const auto corpus = counting_corpus({1000});
  const BatchLoaderOptions options{.sequence_length = 9, .batch_size = 4, .seed = 5};
  BatchLoader loader(corpus, options);
  const io::Json state = loader.state();
  const auto error = [&](const std::shared_ptr<const Corpus>& text, BatchLoaderOptions changed) {
    BatchLoader other(text, changed);
    return message_of<UserError>([&] { other.restore(state); });
  };
  BatchLoaderOptions changed = options;
  changed.seed = 6;
  EXPECT_EQ(error(corpus, changed), "cannot resume: data.seed was 5, is now 6");
  changed = options;
  changed.sequence_length = 8;
  EXPECT_EQ(error(corpus, changed), "cannot resume: data.sequence_length was 9, is now 8");
  EXPECT_EQ(error(counting_corpus({999}), options),
            "cannot resume: data.num_tokens was 1000, is now 999");
  EXPECT_EQ(message_of<UserError>([&] { loader.restore(io::Json::object()); }),
            "data.samples: missing in the saved state");
  io::Json bad = state;
  bad["samples"] = -1;
  EXPECT_EQ(message_of<UserError>([&] { loader.restore(bad); }),
            "data.samples: expected an integer of at least 0, got -1");
}

TEST(BatchLoader, SaysWhenTheTextIsTooShort) {
  EXPECT_EQ(message_of<UserError>([] {
              BatchLoader loader(counting_corpus({10}), {.sequence_length = 10, .batch_size = 1});
            }),
            "the text is shorter than one sequence: it has 10 tokens, a sequence of 10 needs 11");
  BatchLoader just(counting_corpus({11}), {.sequence_length = 10, .batch_size = 1});
  EXPECT_EQ(just.num_windows(), 1);
  EXPECT_EQ(message_of<UserError>([] {
              BatchLoader loader(counting_corpus({10}), {.sequence_length = 0, .batch_size = 1});
            }),
            "sequence length: expected at least 1, got 0");
  EXPECT_EQ(message_of<UserError>([] {
              BatchLoader loader(counting_corpus({10}), {.sequence_length = 1, .batch_size = 0});
            }),
            "batch size: expected at least 1, got 0");
}

/// Every rule of the header, for one shape of corpus, length and stride.
void check_eval_windows(const std::vector<std::int64_t>& sizes, std::int64_t length,
                        std::int64_t stride) {
  SCOPED_TRACE(testing::Message() << "length " << length << " stride " << stride);
  const auto corpus = counting_corpus(sizes);
  const EvalWindows windows(corpus, length, stride);
  std::vector<std::int64_t> inputs(static_cast<std::size_t>(windows.size() * length), -1);
  std::vector<std::int64_t> targets = inputs;
  windows.fill(0, windows.size(), inputs.data(), targets.data());
  std::map<std::int64_t, int> scored;
  for (std::size_t at = 0; at < targets.size(); ++at) {
    if (targets[at] == EvalWindows::kIgnored) {
      continue;
    }
    ++scored[targets[at]];
    ASSERT_EQ(inputs[at], targets[at] - 1);
    const std::size_t row = at / static_cast<std::size_t>(length);
    const std::int64_t context = targets[at] - inputs[row * static_cast<std::size_t>(length)];
    const auto file = std::find_if(corpus->files().begin(), corpus->files().end(),
                                   [&](const auto& f) { return targets[at] < f.end; });
    const std::int64_t available = targets[at] - file->begin;
    ASSERT_LE(context, available);  // never from another file
    ASSERT_GE(context, std::min(available, length - stride + 1));
  }
  std::map<std::int64_t, int> expected;
  for (const Corpus::File& file : corpus->files()) {
    for (std::int64_t token = file.begin + 1; token < file.end; ++token) {
      expected[token] = 1;
    }
  }
  EXPECT_EQ(scored, expected);
  EXPECT_EQ(windows.num_targets(), std::ssize(expected));
  // Row by row is the same.
  std::vector<std::int64_t> row_inputs(static_cast<std::size_t>(length));
  std::vector<std::int64_t> row_targets(static_cast<std::size_t>(length));
  for (std::int64_t row = 0; row < windows.size(); ++row) {
    windows.fill(row, 1, row_inputs.data(), row_targets.data());
    EXPECT_TRUE(std::equal(row_inputs.begin(), row_inputs.end(), inputs.begin() + row * length));
    EXPECT_TRUE(std::equal(row_targets.begin(), row_targets.end(), targets.begin() + row * length));
  }
}

TEST(EvalWindows, ScoreEveryTokenOnceWithTheirContext) {
  for (const std::int64_t length : {1, 2, 5, 8, 64}) {
    for (std::int64_t stride = 1; stride <= std::min<std::int64_t>(length, 8); ++stride) {
      check_eval_windows({1, 2, 3, 9, 17, 40, 1, 8}, length, stride);
    }
  }
  check_eval_windows({200}, 64, 64);
  check_eval_windows({129}, 64, 64);
  check_eval_windows({128}, 64, 64);
}

TEST(EvalWindows, ByHand) {
  const EvalWindows windows(counting_corpus({8}), 4, 2);
  ASSERT_EQ(windows.size(), 3);
  std::vector<std::int64_t> inputs(12);
  std::vector<std::int64_t> targets(12);
  windows.fill(0, 3, inputs.data(), targets.data());
  constexpr std::int64_t kNo = EvalWindows::kIgnored;
  EXPECT_EQ(inputs, (std::vector<std::int64_t>{0, 1, 2, 3, 2, 3, 4, 5, 3, 4, 5, 6}));
  EXPECT_EQ(targets, (std::vector<std::int64_t>{1, 2, 3, 4, kNo, kNo, 5, 6, kNo, kNo, kNo, 7}));
}

TEST(EvalWindows, Refuses) {
  const auto error = [](const std::vector<std::int64_t>& sizes, std::int64_t length,
                        std::int64_t stride) {
    return message_of<UserError>(
        [&] { EvalWindows windows(counting_corpus(sizes), length, stride); });
  };
  EXPECT_EQ(error({8}, 4, 0), "stride: expected 1 to the sequence length 4, got 0");
  EXPECT_EQ(error({8}, 4, 5), "stride: expected 1 to the sequence length 4, got 5");
  EXPECT_EQ(error({8}, 0, 1), "sequence length: expected at least 1, got 0");
  EXPECT_EQ(error({1, 1}, 4, 4),
            "nothing to score: no file has two tokens (the first is context only)");
}

}  // namespace
}  // namespace hyena::data
