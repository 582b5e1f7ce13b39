// The index maps and butterflies of the generic CUDA kernels, run on the host as the kernels run
// them: transforms against their definition, long rows as columns and rows, convolutions, banks.
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "hyena/kernels/cuda/generic_fft.cuh"
#include "hyena/kernels/cuda/generic_filter.cuh"

namespace {

using namespace hyena::kernels::cuda::generic;  // NOLINT(google-build-using-namespace)
using Complex = std::complex<double>;

template <int kLog, int kLevels, int kPass, int kEnd>
void split_passes(std::vector<float2>& x, float turn) {
  if constexpr (kPass < kEnd) {
    using P = Pass<kLog, kLevels, kPass>;
    for (int u = 0; u < P::kUnits; ++u)
      split_unit<P>(x.data(), u, roots_of<P::kLogRadix>(P::turn(turn, u)));
    split_passes<kLog, kLevels, kPass + 1, kEnd>(x, turn);
  }
}
template <int kLog, int kLevels, int kPass>
void merge_passes(std::vector<float2>& x, float turn) {
  if constexpr (kPass >= 0) {
    using P = Pass<kLog, kLevels, kPass>;
    for (int u = 0; u < P::kUnits; ++u)
      merge_unit<P>(x.data(), u, roots_of<P::kLogRadix>(P::turn(turn, u)));
    merge_passes<kLog, kLevels, kPass - 1>(x, turn);
  }
}

/// Real or complex points after all halvings, as spectrum_index orders it: rows of one block.
template <int kLog, class Point>
std::vector<float2> transform(const std::vector<Point>& v) {
  using First = Pass<kLog, kLog, 0>;
  constexpr int kLast = Passes{kLog}.count() - 1;
  using Last = Pass<kLog, kLog, kLast>;
  std::vector<float2> x(v.size());
  for (int u = 0; u < First::kUnits; ++u) {
    Point in[First::kPoints];
    for (int l = 0; l < First::kPoints; ++l)
      in[l] = v[static_cast<std::size_t>(u + (l << First::kLogStep))];
    float2 f[First::kPoints];
    first_split<First::kLogRadix>(f, in);
    store_unit<First>(x.data(), f, u);
  }
  split_passes<kLog, kLog, 1, kLast>(x, 0.25F);
  std::vector<float2> spectrum(v.size());
  for (int u = 0; u < Last::kUnits; ++u) {
    float2 f[Last::kPoints];
    load_unit<Last>(f, x.data(), u);
    split(f, roots_of<Last::kLogRadix>(Last::turn(0.25F, u)));
    for (int l = 0; l < Last::kPoints; ++l)
      spectrum[static_cast<std::size_t>(spectrum_index<kLog>(u, l))] = f[l];
  }
  return spectrum;
}

/// Its inverse, times N.
template <int kLog>
std::vector<float2> inverse(const std::vector<float2>& spectrum) {
  constexpr int kLast = Passes{kLog}.count() - 1;
  using Last = Pass<kLog, kLog, kLast>;
  std::vector<float2> x(spectrum.size());
  for (int u = 0; u < Last::kUnits; ++u) {
    float2 f[Last::kPoints];
    for (int l = 0; l < Last::kPoints; ++l)
      f[l] = spectrum[static_cast<std::size_t>(spectrum_index<kLog>(u, l))];
    merge(f, roots_of<Last::kLogRadix>(Last::turn(0.25F, u)));
    store_unit<Last>(x.data(), f, u);
  }
  merge_passes<kLog, kLog, kLast - 1>(x, 0.25F);
  std::vector<float2> v;
  for (int i = 0; i < 1 << kLog; ++i)
    v.push_back(x[static_cast<std::size_t>(place(i))]);
  return v;
}

/// The same by columns and rows: kLog = kLevels + kLogRow.
template <int kLevels, class Point>
std::vector<float2> long_transform(const std::vector<Point>& v) {
  using Tile = ColumnTile<kLevels>;
  constexpr int kLast = Tile::kPasses - 1;
  using First = typename Tile::template At<0>;
  using Last = typename Tile::template At<kLast>;
  std::vector<float2> scratch(v.size());
  for (int tile = 0; tile < Tile::kTiles; ++tile) {
    std::vector<float2> x(std::size_t{1} << Tile::kLog);
    for (int u = 0; u < First::kUnits; ++u) {
      const int n = Tile::time(tile, First::first(u));
      Point in[First::kPoints];
      for (int l = 0; l < First::kPoints; ++l)
        in[l] = v[static_cast<std::size_t>(n + l * Tile::template step<First>())];
      float2 f[First::kPoints];
      first_split<First::kLogRadix>(f, in);
      store_unit<First>(x.data(), f, u);
    }
    split_passes<Tile::kLog, kLevels, 1, kLast + 1>(x, 0.25F);
    for (int u = 0; u < Last::kUnits; ++u)
      for (int l = 0; l < Last::kPoints; ++l) {
        const int n = Tile::time(tile, Last::first(u)) + l * Tile::template step<Last>();
        scratch[static_cast<std::size_t>(n)] =
            x[static_cast<std::size_t>(place(Last::first(u) + (l << Last::kLogStep)))];
      }
  }
  using RowLast = Pass<kLogRow, kLogRow, 2>;
  std::vector<float2> spectrum(v.size());
  for (int r = 0; r < 1 << kLevels; ++r) {
    const std::size_t row = static_cast<std::size_t>(r) << kLogRow;
    std::vector<float2> x(kRowPoints);
    for (int i = 0; i < kRowPoints; ++i)
      x[static_cast<std::size_t>(place(i))] = scratch[row + static_cast<std::size_t>(i)];
    split_passes<kLogRow, kLogRow, 0, 3>(x, turn_of(r, kLevels));
    for (int u = 0; u < RowLast::kUnits; ++u)
      for (int l = 0; l < RowLast::kPoints; ++l)
        spectrum[row + static_cast<std::size_t>(spectrum_index<kLogRow>(u, l))] =
            x[static_cast<std::size_t>(place(RowLast::first(u) + l))];
  }
  return spectrum;
}

std::vector<float> noise(std::size_t n, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (auto& x : v)
    x = normal(random);
  return v;
}

std::vector<float2> complex_noise(std::size_t n, std::uint32_t seed) {
  const auto re = noise(n, seed);
  const auto im = noise(n, seed + 100);
  std::vector<float2> v(n);
  for (std::size_t i = 0; i < n; ++i)
    v[i] = make_float2(re[i], im[i]);
  return v;
}

Complex wide(float x) {
  return static_cast<double>(x);
}
Complex wide(float2 x) {
  return {static_cast<double>(x.x), static_cast<double>(x.y)};
}

/// Values at sampled roots against sums in float64.
template <class Point>
void expect_roots(const std::vector<Point>& v, const std::vector<float2>& spectrum, int log) {
  const std::size_t points = v.size();
  double norm = 0.0;
  for (const Point x : v)
    norm += std::norm(wide(x));
  const std::size_t every = points <= 1024 ? 1 : points / 64 + 7;
  const int log_units = (log < kLogRow ? log : kLogRow) - 4;
  for (std::size_t p = 0; p < points; p += every) {
    // Position p in the order of splitting is unit p / 16, point p % 16.
    const auto unit = static_cast<int>(p >> 4);
    const auto stored = static_cast<std::size_t>(((unit >> log_units) << kLogRow) |
                                                 (static_cast<int>(p & 15) << log_units) |
                                                 (unit & ((1 << log_units) - 1)));
    const double turn = (static_cast<double>(reversed(static_cast<int>(p), log)) + 0.25) /
                        static_cast<double>(points);
    const Complex root = std::polar(1.0, 2.0 * std::numbers::pi * turn);
    Complex sum = 0.0;
    for (std::size_t n = points; n-- > 0;)
      sum = sum * root + wide(v[n]);
    EXPECT_LE(std::abs(wide(spectrum[stored]) - sum), 1e-6 * std::sqrt(norm))
        << "N = 2^" << log << ", " << p;
  }
}

template <int kLog>
void check_short() {
  const auto v = noise(std::size_t{1} << kLog, kLog);
  expect_roots(v, transform<kLog>(v), kLog);
  const auto w = complex_noise(std::size_t{1} << kLog, kLog);
  expect_roots(w, transform<kLog>(w), kLog);
}
TEST(GenericTransform, ShortRowsAreTheirDefinition) {
  check_short<8>();
  check_short<9>();
  check_short<10>();
  check_short<11>();
  check_short<12>();
  check_short<13>();
}

template <int kLevels>
void check_long() {
  const auto v = noise(std::size_t{1} << (kLevels + kLogRow), kLevels);
  expect_roots(v, long_transform<kLevels>(v), kLevels + kLogRow);
  if constexpr (kLevels <= 6) {  // up to three passes, as the rest
    const auto w = complex_noise(std::size_t{1} << (kLevels + kLogRow), kLevels);
    expect_roots(w, long_transform<kLevels>(w), kLevels + kLogRow);
  }
}
TEST(GenericTransform, LongRowsAreTheirDefinition) {
  check_long<1>();
  check_long<2>();
  check_long<3>();
  check_long<4>();
  check_long<5>();
  check_long<6>();
  check_long<7>();
  check_long<8>();
  check_long<9>();
  check_long<10>();
}

// The backward cuts rows of 8192 points, whose spectrum the forward's block wrote.
TEST(GenericTransform, BothWaysOf8192PointsAgree) {
  const auto v = noise(8192, 1);
  const auto whole = transform<13>(v);
  const auto cut = long_transform<1>(v);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_NEAR(whole[i].x, cut[i].x, 2e-4) << i;
    EXPECT_NEAR(whole[i].y, cut[i].y, 2e-4) << i;
  }
}

template <int kLog>
void check_convolution() {
  constexpr std::size_t kPoints = std::size_t{1} << kLog;
  const auto z = noise(kPoints, 2);
  const auto h = noise(kPoints, 3);
  auto spectrum = transform<kLog>(z);
  const auto filter = transform<kLog>(h);
  for (std::size_t i = 0; i < kPoints; ++i)
    spectrum[i] = product(spectrum[i], filter[i]);
  const auto c = inverse<kLog>(spectrum);
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t t = 0; t < kPoints; t += kPoints / 256) {
    double expected = 0.0;
    for (std::size_t s = 0; s <= t; ++s)
      expected += static_cast<double>(h[s]) * static_cast<double>(z[t - s]);
    const double got = static_cast<double>(c[t].x) / static_cast<double>(kPoints);
    difference += (got - expected) * (got - expected);
    norm += expected * expected;
  }
  EXPECT_LE(std::sqrt(difference / norm), kLog * 0x1p-24) << "half of what the header promises";
}
TEST(GenericTransform, ProductsAreCausalConvolutions) {
  check_convolution<8>();
  check_convolution<9>();
  check_convolution<11>();
  check_convolution<13>();
}

/// Relative rms of `got` over what sum(t) is, at some t < count.
template <class Got, class Sum>
double relative_error(std::size_t count, Got&& got, Sum&& sum) {
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t t = 0; t < count; t += 1 + count / 200) {
    const double expected = sum(t);
    difference += std::pow(got(t) - expected, 2);
    norm += expected * expected;
  }
  return std::sqrt(difference / norm);
}

/// h, skip and reverse of the second of two channels as one complex sequence: rows of `length` in N
/// points, products behind both ends of the row included where 2 length - 1 > N.
template <int kLog>
void check_both_ways(std::size_t length, std::size_t taps) {
  constexpr std::size_t kPoints = std::size_t{1} << kLog;
  const auto h = noise(2 * taps, 5);
  const auto reverse = noise(2 * taps, 6);
  const auto skip = noise(2, 9);
  auto z = noise(length, 7);
  auto g = noise(length, 8);
  const auto value = [](const std::vector<float>& x, std::size_t i) {
    return static_cast<double>(x[i]);
  };
  const auto count = static_cast<int>(taps);
  const FilterPoints<kLog, true> points({h.data(), skip.data(), reverse.data()}, count, 1);
  std::vector<float2> both(kPoints);
  for (std::size_t n = 0; n < kPoints; ++n)
    both[n] = points.at(static_cast<int>(n));
  z.resize(kPoints);
  g.resize(kPoints);
  const auto filter = transform<kLog>(both);
  auto c = transform<kLog>(z);
  auto dz = transform<kLog>(g);
  auto correlation = dz;
  for (std::size_t i = 0; i < kPoints; ++i) {
    correlation[i] = conjugate_product(c[i], dz[i]);
    c[i] = product(c[i], filter[i]);
    dz[i] = conjugate_product(filter[i], dz[i]);
  }
  c = inverse<kLog>(c);
  dz = inverse<kLog>(dz);
  correlation = inverse<kLog>(correlation);

  /// sum of a[n] b[n + lag] over the row, n + lag and n inside of it
  const auto lagged = [&](const std::vector<float>& a, const std::vector<float>& b,
                          std::size_t lag) {
    double sum = 0.0;
    for (std::size_t n = 0; n + lag < length; ++n)
      sum += value(a, n) * value(b, n + lag);
    return sum;
  };
  const auto convolved = [&](const std::vector<float>& past, const std::vector<float>& future,
                             const std::vector<float>& x, std::size_t t) {
    double sum = value(skip, 1) * value(x, t);
    for (std::size_t j = 0; j < taps && j <= t; ++j)
      sum += value(past, taps + j) * value(x, t - j);
    for (std::size_t j = 0; j < taps && t + j < length; ++j)
      sum += value(future, taps + j) * value(x, t + j);
    return sum;
  };
  const auto real = [&](const std::vector<float2>& x) {
    return [&x](std::size_t t) { return static_cast<double>(x[t].x); };
  };
  constexpr double kBound = 2.0 * kLog * 0x1p-24;
  EXPECT_LE(
      relative_error(length, real(c), [&](std::size_t t) { return convolved(h, reverse, z, t); }),
      kBound);
  EXPECT_LE(
      relative_error(length, real(dz), [&](std::size_t t) { return convolved(reverse, h, g, t); }),
      kBound);

  const float unset = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> dh(2 * taps + 1, unset);
  std::vector<float> dreverse(2 * taps + 1, unset);
  std::vector<float> dskip(3, unset);
  for (std::size_t n = 0; n < kPoints; ++n)
    store_filter_gradients<kLog>({dh.data(), dskip.data(), dreverse.data()}, count, 1,
                                 static_cast<int>(n), correlation[n]);
  const auto of_channel = [&](const std::vector<float>& x) {
    return [&x, &value, taps](std::size_t j) { return value(x, taps + j); };
  };
  EXPECT_LE(relative_error(taps, of_channel(dh), [&](std::size_t j) { return lagged(z, g, j); }),
            kBound);
  EXPECT_LE(
      relative_error(taps, of_channel(dreverse), [&](std::size_t j) { return lagged(g, z, j); }),
      kBound);
  EXPECT_EQ(dskip[1], dh[taps]);
  EXPECT_EQ(dreverse[taps], dh[taps]);
  for (const auto& x : {dh, dreverse, dskip}) {
    EXPECT_TRUE(std::isnan(x.front()));
    EXPECT_TRUE(std::isnan(x[x.size() / 2 - 1])) << "a tap of the channel before";
    EXPECT_TRUE(std::isnan(x.back())) << "behind the last channel";
  }
}
TEST(GenericTransform, ComplexFiltersConvolveBothWays) {
  check_both_ways<8>(256, 256);
  check_both_ways<8>(255, 255);
  check_both_ways<8>(256, 40);
  check_both_ways<8>(100, 100);
  check_both_ways<8>(129, 129);
  check_both_ways<9>(300, 170);
  check_both_ways<12>(4096, 4096);
  check_both_ways<12>(3000, 2999);
  check_both_ways<13>(8192, 8192);
}

// Merging undoes splitting, by columns alone too (real parts times the number of rows).
template <int kLevels>
void check_columns_back() {
  using Tile = ColumnTile<kLevels>;
  std::vector<float2> x(std::size_t{1} << Tile::kLog);
  const auto v = noise(2 * x.size(), 4);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = make_float2(v[2 * i], v[2 * i + 1]);
  split_passes<Tile::kLog, kLevels, 0, Tile::kPasses>(x, 0.25F);
  merge_passes<Tile::kLog, kLevels, Tile::kPasses - 1>(x, 0.25F);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_NEAR(x[i].x / (1 << kLevels), v[2 * i], 4e-6) << i;
    ASSERT_NEAR(x[i].y / (1 << kLevels), v[2 * i + 1], 4e-6) << i;
  }
}
TEST(GenericTransform, MergingUndoesSplitting) {
  check_columns_back<1>();
  check_columns_back<4>();
  check_columns_back<5>();
  check_columns_back<9>();
  check_columns_back<10>();
}

/// Half a warp (16 units in a row) reads 16 different pairs of banks, all units every point once.
template <int kLog, int kLevels, int kPass = 0>
void check_banks() {
  if constexpr (kPass < Passes{kLevels}.count()) {
    using P = Pass<kLog, kLevels, kPass>;
    std::set<int> all;
    for (int u = 0; u < P::kUnits; u += 16)
      for (int l = 0; l < P::kPoints; ++l) {
        std::set<int> banks;
        for (int i = u; i < u + 16; ++i) {
          const int at = moved(place(P::first(i)), l << P::kLogStep);
          EXPECT_EQ(at, place(P::first(i) + (l << P::kLogStep)));
          banks.insert(at % 16);
          all.insert(at);
        }
        EXPECT_EQ(banks.size(), 16U) << kLog << " " << kLevels << " pass " << kPass << " " << u;
      }
    EXPECT_EQ(all.size(), std::size_t{1} << kLog);
    EXPECT_EQ(*all.rbegin(), (1 << kLog) - 1);
    check_banks<kLog, kLevels, kPass + 1>();
  }
}
template <int kLevels>
void check_tile_banks() {
  check_banks<ColumnTile<kLevels>::kLog, kLevels>();
}
TEST(GenericTransform, SharedMemoryHasNoBankConflicts) {
  check_banks<8, 8>();
  check_banks<9, 9>();
  check_banks<10, 10>();
  check_banks<11, 11>();
  check_banks<12, 12>();
  check_banks<13, 13>();
  check_tile_banks<5>();
  check_tile_banks<6>();
  check_tile_banks<7>();
  check_tile_banks<8>();
  check_tile_banks<9>();
  check_tile_banks<10>();
}

TEST(GenericTransform, TilesCoverARowOnce) {
  using Tile = ColumnTile<6>;
  std::vector<int> seen(std::size_t{1} << (6 + kLogRow));
  for (int tile = 0; tile < Tile::kTiles; ++tile)
    for (int i = 0; i < 1 << Tile::kLog; ++i)
      ++seen[static_cast<std::size_t>(Tile::time(tile, i))];
  for (const int n : seen)
    ASSERT_EQ(n, 1);
}

}  // namespace
