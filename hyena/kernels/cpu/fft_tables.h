// How a right-angle transform is factored, and its twiddles.
//
// Signals are polynomials modulo x^N - i. A level splits every block, taken modulo x^{Rm} - w^R,
// into R blocks modulo x^m - w z, z over the R-th roots of unity; after the last level a block is
// one value, the polynomial at one root of x^N = i. The inverse undoes the levels backwards. All
// twiddles of a block are powers of its one w: they stay in registers while a pass runs over it.
//
// With W > 1 lanes a row holds W neighbouring coefficients of one signal: a polynomial in y = x^W
// with polynomials of x as coefficients. N / W rows are transformed as above, by the same tables,
// and leave blocks of W points modulo x^W - w, one a row; the lane levels transform those, W rows
// at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace hyena::kernels::cpu {

template <class T>
struct FftLevel {
  int radix = 0;
  std::int64_t length = 0;        // points of the blocks it splits
  std::int64_t node_scalars = 0;  // scalars of one block in `twiddles`
  std::vector<T> twiddles;        // per block: w, w^2 .. w^{R-1}, and exp(i pi / 4) w for radix 8
  std::vector<T> roots;           // cos and sin of 2 pi k / R, for odd radices
};

/// Rows are stored in groups of `group` with one row left free after each: rows a power of two
/// apart would share a few cache sets. `group` divides the block length of every level above it.
struct RowGeometry {
  std::int64_t group = 0;
  [[nodiscard]] constexpr std::int64_t at(std::int64_t n) const { return n + n / group; }
};

template <class T>
struct FftTables {
  std::int64_t size = 0;   // rows: N / lanes
  std::int64_t lanes = 1;  // W
  RowGeometry rows;
  std::vector<FftLevel<T>> levels;  // the first has radix 8; the last one's blocks are single rows

  // Twiddles of the lane levels, in the order of lane_twiddles(W). That of row W g + lane is
  // lane_scalars[g] lane_vectors[lane]: products keep the table small.
  std::vector<T> lane_scalars;  // (N / W^2, twiddles, 2)
  std::vector<T> lane_vectors;  // (twiddles, 2, W)
};

constexpr std::int64_t kLeastFftSize = 32;  // 8 * 4

/// The smallest size >= length that the transform supports: 1, 3, 5, 7 or 9 times a power of two,
/// the power being at least `least`. At most 1.25 times the length from 4 least on, 1.2 times from
/// 8 least on.
[[nodiscard]] std::int64_t supported_fft_size(std::int64_t length,
                                              std::int64_t least = kLeastFftSize);

/// The least power of two in a size whose rows hold `lanes` coefficients: the two innermost levels
/// must hand over whole groups of W rows.
[[nodiscard]] constexpr std::int64_t least_fft_size(std::int64_t lanes) {
  return lanes == 1 ? kLeastFftSize : 128 * lanes;
}

/// Tables of a supported size N; the most recent ones are shared.
template <class T>
[[nodiscard]] std::shared_ptr<const FftTables<T>> fft_tables(std::int64_t N, std::int64_t lanes);

extern template std::shared_ptr<const FftTables<float>> fft_tables<float>(std::int64_t,
                                                                          std::int64_t);
extern template std::shared_ptr<const FftTables<double>> fft_tables<double>(std::int64_t,
                                                                            std::int64_t);

}  // namespace hyena::kernels::cpu
