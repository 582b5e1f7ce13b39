#include "hyena/data/ngram.h"

#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "tests/io/temporary_folder.h"

namespace hyena::data {
namespace {

using testing_support::message_of;
using testing_support::TemporaryFolder;
using testing_support::write_text;

/// Files of these texts, under the byte tokenizer without end-of-text.
std::shared_ptr<const Corpus> corpus_of(const TemporaryFolder& folder,
                                        const std::vector<std::string>& texts) {
  static int number = 0;
  std::vector<std::string> files;
  for (const std::string& text : texts) {
    files.push_back((folder / std::to_string(number++)).string());
    write_text(files.back(), text);
  }
  CorpusOptions options;
  options.end_of_text = EndOfText::kNone;
  return open_corpus(files, ByteTokenizer(), options);
}

/// The header's formula on strings: slow, and shares nothing with the library.
double witten_bell(const std::vector<std::string>& train, const std::string& context, char next) {
  std::size_t total = 0;
  std::size_t seen = 0;
  std::set<char> types;
  for (const std::string& text : train) {
    for (std::size_t i = context.size(); i < text.size(); ++i) {
      if (text.compare(i - context.size(), context.size(), context) == 0) {
        ++total;
        types.insert(text[i]);
        seen += text[i] == next ? 1U : 0U;
      }
    }
  }
  const double shorter =
      context.empty() ? 1.0 / 257.0 : witten_bell(train, context.substr(1), next);
  if (total == 0) {
    return shorter;
  }
  const auto t = static_cast<double>(types.size());
  return (static_cast<double>(seen) + t * shorter) / (static_cast<double>(total) + t);
}

double slow_bits(const std::vector<std::string>& train, const std::vector<std::string>& held_out,
                 std::size_t context) {
  double bits = 0.0;
  std::size_t bytes = 0;
  for (const std::string& text : held_out) {
    bytes += text.size();
    for (std::size_t i = 1; i < text.size(); ++i) {
      const std::size_t known = std::min(context, i);
      bits -= std::log2(witten_bell(train, text.substr(i - known, known), text[i]));
    }
  }
  return bits / static_cast<double>(bytes);
}

TEST(Ngram, MatchesTheFormula) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 10; ++trial) {
    const auto text = [&](std::size_t size) {
      std::string letters;
      for (std::size_t i = 0; i < size; ++i) {
        letters += "\0abcd"[random() % 5];  // token 0 must not be taken for the start of a file
      }
      return letters;
    };
    const std::vector<std::string> train{text(60), text(1), text(40)};
    const std::vector<std::string> held_out{text(30), text(1), text(2), "zz\xFFz"};
    const TemporaryFolder folder;
    const NgramBits bits =
        ngram_bits_per_byte(*corpus_of(folder, train), *corpus_of(folder, held_out));
    // The sums have a few dozen terms of at most 8 bits: rounding stays below 1e-13 relative.
    EXPECT_NEAR(bits.unigram, slow_bits(train, held_out, 0), 1e-12);
    EXPECT_NEAR(bits.bigram, slow_bits(train, held_out, 1), 1e-12);
    EXPECT_NEAR(bits.trigram, slow_bits(train, held_out, 2), 1e-12);
  }
}

TEST(Ngram, LearnsACycle) {
  std::string cycle;
  for (int i = 0; i < 5000; ++i) {
    cycle += "abcdefgh"[i % 8];
  }
  const TemporaryFolder folder;
  const NgramBits bits =
      ngram_bits_per_byte(*corpus_of(folder, {cycle}), *corpus_of(folder, {cycle}));
  EXPECT_NEAR(bits.unigram, 3.0, 0.05);  // eight equally frequent letters
  EXPECT_LT(bits.bigram, 0.02);
  EXPECT_LT(bits.trigram, 0.02);
}

TEST(Ngram, Refuses) {
  const TemporaryFolder folder;
  EXPECT_EQ(
      message_of<UserError>([&] {
        (void)ngram_bits_per_byte(*corpus_of(folder, {"abc"}), *corpus_of(folder, {"a", "b"}));
      }),
      "n-grams: the held-out text has no token to score");
  const Corpus other(300);
  EXPECT_EQ(
      message_of<UserError>([&] { (void)ngram_bits_per_byte(*corpus_of(folder, {"abc"}), other); }),
      "n-grams: expected equal vocabularies of at most 2097152, got 257 and 300");
}

}  // namespace
}  // namespace hyena::data
