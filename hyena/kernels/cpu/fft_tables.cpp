#include "hyena/kernels/cpu/fft_tables.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <list>
#include <mutex>
#include <numbers>

namespace hyena::kernels::cpu {
namespace {

constexpr std::int64_t kFirstRadix = 8;
constexpr std::int64_t kSmallest = 32;  // 8 * 4
constexpr std::array<std::int64_t, 5> kOdd{1, 3, 5, 7, 9};
constexpr std::int64_t kPaddedGroup = 32;  // rows; a power of two apart is what hurts
constexpr std::size_t kRememberedTables = 8;

/// Radices from the outermost level to the innermost.
std::vector<int> factor(std::int64_t size) {
  std::vector<int> radices{kFirstRadix};
  std::int64_t rest = size / kFirstRadix;
  int twos = 0;
  while (rest % 2 == 0) {
    rest /= 2;
    ++twos;
  }
  if (rest > 1) {
    radices.push_back(static_cast<int>(rest));
  }
  while (twos % 3 != 0) {
    radices.push_back(4);
    twos -= 2;
  }
  radices.insert(radices.end(), static_cast<std::size_t>(twos / 3), 8);
  return radices;
}

/// Which root of unity a butterfly writes to its k-th output.
std::int64_t output_root(int radix, int k) {
  constexpr std::array<int, 4> kFour{0, 2, 1, 3};
  constexpr std::array<int, 8> kEight{0, 4, 2, 6, 1, 5, 3, 7};
  const auto i = static_cast<std::size_t>(k);
  return radix == 4 ? kFour[i] : radix == 8 ? kEight[i] : k;
}

template <class T>
void push_root(std::vector<T>& table, std::int64_t numerator, std::int64_t denominator) {
  const double turn =
      static_cast<double>(numerator % denominator) / static_cast<double>(denominator);
  table.push_back(static_cast<T>(std::cos(2 * std::numbers::pi * turn)));
  table.push_back(static_cast<T>(std::sin(2 * std::numbers::pi * turn)));
}

template <class T>
FftTables<T> make_tables(std::int64_t size) {
  FftTables<T> tables;
  tables.size = size;
  const std::vector<int> radices = factor(size);

  // A block modulo x^n - exp(2 pi i a / 4P): P blocks on its level, a an integer.
  std::vector<std::int64_t> blocks{1};
  for (const int radix : radices) {
    const auto P = static_cast<std::int64_t>(blocks.size());
    FftLevel<T> level;
    level.radix = radix;
    level.length = size / P;
    level.node_scalars = 2 * (radix == 8 ? radix : radix - 1);
    std::vector<std::int64_t> next;
    for (const std::int64_t a : blocks) {
      const std::int64_t whole = 4 * P * radix;  // w = exp(2 pi i a / whole)
      for (int power = 1; power < radix; ++power) {
        push_root(level.twiddles, a * power, whole);
      }
      if (radix == 8) {
        push_root(level.twiddles, a + whole / 8, whole);
      }
      for (int k = 0; k < radix; ++k) {
        next.push_back(a + 4 * P * output_root(radix, k));
      }
    }
    for (int k = 0; k < radix && radix % 2 != 0; ++k) {
      push_root(level.roots, k, radix);
    }
    tables.levels.push_back(std::move(level));
    blocks = std::move(next);
  }
  tables.rows.group = size;
  for (auto level = tables.levels.rbegin(); level != tables.levels.rend(); ++level) {
    if (level->length >= kPaddedGroup) {
      tables.rows.group = level->length;
      break;
    }
  }
  return tables;
}

}  // namespace

std::int64_t supported_fft_size(std::int64_t length) {
  std::int64_t best = 0;
  for (const std::int64_t odd : kOdd) {
    std::int64_t size = odd * kSmallest;
    while (size < length) {
      size *= 2;
    }
    best = best == 0 ? size : std::min(best, size);
  }
  return best;
}

template <class T>
std::shared_ptr<const FftTables<T>> fft_tables(std::int64_t size) {
  static std::mutex mutex;
  static std::list<std::shared_ptr<const FftTables<T>>> recent;  // the latest first
  const std::lock_guard lock(mutex);
  const auto found = std::find_if(recent.begin(), recent.end(),
                                  [size](const auto& tables) { return tables->size == size; });
  if (found != recent.end()) {
    recent.splice(recent.begin(), recent, found);
    return recent.front();
  }
  recent.push_front(std::make_shared<const FftTables<T>>(make_tables<T>(size)));
  if (recent.size() > kRememberedTables) {
    recent.pop_back();
  }
  return recent.front();
}

template std::shared_ptr<const FftTables<float>> fft_tables<float>(std::int64_t);
template std::shared_ptr<const FftTables<double>> fft_tables<double>(std::int64_t);

}  // namespace hyena::kernels::cpu
