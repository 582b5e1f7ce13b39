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

/// exp(2 pi i power (a + turns P) / (P W)) for blocks modulo y - exp(2 pi i a / P).
struct LaneTwiddle {
  int power;
  std::int64_t turns;
};

/// W = 16: the three twiddles of a radix-4 level, then three for each of the four blocks it makes.
/// Fewer lanes: one level of radix W, its twiddles as in FftLevel.
std::vector<LaneTwiddle> lane_twiddles(std::int64_t lanes) {
  std::vector<LaneTwiddle> twiddles;
  if (lanes == 16) {
    twiddles = {{4, 0}, {8, 0}, {12, 0}};
    for (int k = 0; k < 4; ++k) {
      for (int power = 1; power < 4; ++power) {
        twiddles.push_back({power, output_root(4, k)});
      }
    }
    return twiddles;
  }
  for (int power = 1; power < lanes; ++power) {
    twiddles.push_back({power, 0});
  }
  if (lanes == 8) {
    twiddles.push_back({1, 1});
  }
  return twiddles;
}

/// `blocks`: the a of every row that the levels leave.
template <class T>
void add_lane_levels(const std::vector<std::int64_t>& blocks, FftTables<T>& tables) {
  const auto P = 4 * static_cast<std::int64_t>(blocks.size());
  const std::int64_t W = tables.lanes;
  const std::vector<LaneTwiddle> twiddles = lane_twiddles(W);
  for (std::int64_t first = 0; first < tables.size; first += W) {
    for (const LaneTwiddle& twiddle : twiddles) {
      push_root(tables.lane_scalars, twiddle.power * blocks[static_cast<std::size_t>(first)],
                P * W);
    }
  }
  // A group of W rows comes from whole butterflies, so blocks[W g + lane] - blocks[W g] is the same
  // for every g.
  for (const LaneTwiddle& twiddle : twiddles) {
    std::vector<T> roots;
    for (std::int64_t lane = 0; lane < W; ++lane) {
      const std::int64_t a = blocks[static_cast<std::size_t>(lane)] - blocks[0];
      push_root(roots, twiddle.power * (a + twiddle.turns * P), P * W);
    }
    for (const std::size_t part : {std::size_t{0}, std::size_t{1}}) {
      for (std::size_t lane = 0; lane < roots.size() / 2; ++lane) {
        tables.lane_vectors.push_back(roots[2 * lane + part]);
      }
    }
  }
}

template <class T>
FftTables<T> make_tables(std::int64_t N, std::int64_t lanes) {
  const std::int64_t size = N / lanes;
  FftTables<T> tables;
  tables.size = size;
  tables.lanes = lanes;
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
  if (lanes > 1) {
    add_lane_levels(blocks, tables);
  }
  return tables;
}

}  // namespace

std::int64_t supported_fft_size(std::int64_t length, std::int64_t least) {
  std::int64_t best = 0;
  for (const std::int64_t odd : kOdd) {
    std::int64_t size = odd * least;
    while (size < length) {
      size *= 2;
    }
    best = best == 0 ? size : std::min(best, size);
  }
  return best;
}

template <class T>
std::shared_ptr<const FftTables<T>> fft_tables(std::int64_t N, std::int64_t lanes) {
  static std::mutex mutex;
  static std::list<std::shared_ptr<const FftTables<T>>> recent;  // the latest first
  const std::lock_guard lock(mutex);
  const auto found = std::find_if(recent.begin(), recent.end(), [&](const auto& tables) {
    return tables->lanes == lanes && tables->size == N / lanes;
  });
  if (found != recent.end()) {
    recent.splice(recent.begin(), recent, found);
    return recent.front();
  }
  recent.push_front(std::make_shared<const FftTables<T>>(make_tables<T>(N, lanes)));
  if (recent.size() > kRememberedTables) {
    recent.pop_back();
  }
  return recent.front();
}

template std::shared_ptr<const FftTables<float>> fft_tables<float>(std::int64_t, std::int64_t);
template std::shared_ptr<const FftTables<double>> fft_tables<double>(std::int64_t, std::int64_t);

}  // namespace hyena::kernels::cpu
