#include "hyena/data/ngram.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "hyena/base/error.h"
#include "hyena/data/hash.h"

namespace hyena::data {
namespace {

constexpr std::size_t kMaxOrder = 3;
constexpr unsigned kTokenBits = 21;  // three tokens in one 64-bit key

struct MixedHash {
  std::size_t operator()(std::uint64_t key) const { return mix64(key); }
};
template <typename Value>
using Table = std::unordered_map<std::uint64_t, Value, MixedHash>;

/// Calls visit(history, token) for every token: history packs the up to two tokens before it in the
/// same file, the nearest in the lowest bits; `known` says how many there are.
void for_each_token(const Corpus& corpus,
                    const std::function<void(std::uint64_t history, std::size_t known,
                                             std::uint64_t token)>& visit) {
  constexpr std::int64_t kBlock = std::int64_t{64} * 1024;
  constexpr std::uint64_t kHistoryMask = (std::uint64_t{1} << (2 * kTokenBits)) - 1;
  std::vector<std::int64_t> block;
  for (const Corpus::File& file : corpus.files()) {
    std::uint64_t history = 0;
    std::size_t known = 0;
    for (std::int64_t begin = file.begin; begin < file.end; begin += kBlock) {
      block.resize(static_cast<std::size_t>(std::min(kBlock, file.end - begin)));
      corpus.copy(begin, block);
      for (const std::int64_t id : block) {
        const auto token = static_cast<std::uint64_t>(id);
        visit(history, known, token);
        history = (history << kTokenBits | token) & kHistoryMask;
        known = std::min(known + 1, kMaxOrder - 1);
      }
    }
  }
}

/// Counts of one order: after `context_tokens` tokens.
class Level {
 public:
  explicit Level(unsigned context_tokens)
      : mask_((std::uint64_t{1} << (context_tokens * kTokenBits)) - 1) {}

  void count(std::uint64_t history, std::uint64_t token) {
    Context& context = contexts_[history & mask_];
    ++context.total;
    if (++counts_[key(history, token)] == 1) {
      ++context.types;
    }
  }

  /// Witten-Bell: the header's formula.
  [[nodiscard]] double probability(std::uint64_t history, std::uint64_t token,
                                   double shorter) const {
    const auto context = contexts_.find(history & mask_);
    if (context == contexts_.end()) {
      return shorter;
    }
    const auto found = counts_.find(key(history, token));
    const double seen = found == counts_.end() ? 0.0 : static_cast<double>(found->second);
    const auto total = static_cast<double>(context->second.total);
    const auto types = static_cast<double>(context->second.types);
    return (seen + types * shorter) / (total + types);
  }

 private:
  struct Context {
    std::uint64_t total = 0;
    std::uint64_t types = 0;
  };

  [[nodiscard]] std::uint64_t key(std::uint64_t history, std::uint64_t token) const {
    return (history & mask_) << kTokenBits | token;
  }

  std::uint64_t mask_;
  Table<Context> contexts_;
  Table<std::uint64_t> counts_;
};

}  // namespace

NgramBits ngram_bits_per_byte(const Corpus& train, const Corpus& held_out) {
  const std::int64_t vocab_size = train.vocab_size();
  if (vocab_size != held_out.vocab_size() || vocab_size > std::int64_t{1} << kTokenBits) {
    throw user_error("n-grams: expected equal vocabularies of at most {}, got {} and {}",
                     std::int64_t{1} << kTokenBits, vocab_size, held_out.vocab_size());
  }
  std::array<Level, kMaxOrder> levels{Level(0), Level(1), Level(2)};
  for_each_token(train, [&](std::uint64_t history, std::size_t known, std::uint64_t token) {
    for (std::size_t n = 0; n <= known; ++n) {
      levels.at(n).count(history, token);
    }
  });
  std::array<double, kMaxOrder> bits{};
  std::int64_t scored = 0;
  for_each_token(held_out, [&](std::uint64_t history, std::size_t known, std::uint64_t token) {
    if (known == 0) {
      return;
    }
    double probability = 1.0 / static_cast<double>(vocab_size);
    for (std::size_t n = 0; n < kMaxOrder; ++n) {
      if (n <= known) {
        probability = levels.at(n).probability(history, token, probability);
      }
      bits.at(n) -= std::log2(probability);
    }
    ++scored;
  });
  if (scored == 0) {
    throw user_error("n-grams: the held-out text has no token to score");
  }
  const auto bytes = static_cast<double>(held_out.num_bytes());
  return {.unigram = bits[0] / bytes, .bigram = bits[1] / bytes, .trigram = bits[2] / bytes};
}

}  // namespace hyena::data
