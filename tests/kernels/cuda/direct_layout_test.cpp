// Where the Toeplitz products of short filters keep their values: a warp's loads, fragments and
// products emulated in float64 with the kernels' own index maps, against the sums. Needs no device.
#include "hyena/kernels/cuda/direct_layout.h"

#include <array>
#include <cstddef>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace {

using namespace hyena::kernels::cuda;

using Word = std::pair<double, double>;  // low and high half
template <std::size_t kRegisters>
using Fragment = std::array<std::array<Word, kRegisters>, 32>;  // [lane][register]
using Accumulators = std::array<std::array<double, 4>, 32>;

double half_of(const Word& w, int e) {
  return e == 0 ? w.first : w.second;
}
std::size_t at(int i) {
  return static_cast<std::size_t>(i);
}

/// mma.m16n8k16, fragments as the PTX manual lays them out.
void mma(Accumulators& c, const Fragment<4>& a, const Fragment<2>& b) {
  double A[16][16];
  double B[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4;
    const int t = lane % 4;
    for (int q = 0; q < 4; ++q)
      for (int e = 0; e < 2; ++e)
        A[g + 8 * (q % 2)][2 * t + 8 * (q / 2) + e] = half_of(a[at(lane)][at(q)], e);
    for (int q = 0; q < 2; ++q)
      for (int e = 0; e < 2; ++e)
        B[2 * t + 8 * q + e][g] = half_of(b[at(lane)][at(q)], e);
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int e = 0; e < 4; ++e)
      for (int k = 0; k < 16; ++k)
        c[at(lane)][at(e)] += A[lane / 4 + 8 * (e / 2)][k] * B[k][2 * (lane % 4) + e % 2];
}

/// ldmatrix.x4 of halves: lane l gives the byte of row l % 8 of matrix l / 8.
template <class Address>
Fragment<4> ldmatrix(const std::vector<double>& memory, Address byte, bool transposed) {
  Fragment<4> r;
  for (int lane = 0; lane < 32; ++lane)
    for (int m = 0; m < 4; ++m) {
      auto element = [&](int row, int column) {
        return memory.at(at(byte(8 * m + row) / 2 + column));
      };
      const int g = lane / 4;
      const int t = lane % 4;
      r[at(lane)][at(m)] = transposed ? Word{element(2 * t, g), element(2 * t + 1, g)}
                                      : Word{element(g, 2 * t), element(g, 2 * t + 1)};
    }
  return r;
}

struct Emulated {
  int taps, halo, blocks, pieces;
  std::vector<double> h, words_low, words_high;
  std::mt19937 random{7};
  std::normal_distribution<double> normal;

  Emulated(int K, int kPieces)
      : taps(K), halo(direct_halo(K)), blocks(direct_blocks(K)), pieces(kPieces) {
    h = noise(K);
    for (int i = 0; i < direct_words(halo); ++i) {
      words_low.push_back(lag(i + kFirstLag));
      words_high.push_back(lag(i + kFirstLag - 1));
    }
  }
  std::vector<double> noise(int n) {
    std::vector<double> x(at(n));
    for (auto& v : x)
      v = normal(random);
    return x;
  }
  [[nodiscard]] double lag(int k) const { return k < 0 || k >= taps ? 0.0 : h[at(k)]; }
  [[nodiscard]] Word word(int k) const {
    return {words_low.at(at(k - kFirstLag)), words_high.at(at(k - kFirstLag))};
  }
};

/// A warp's buffer: each lane's four times of a piece with one store per plane.
struct Buffer {
  int plane_bytes;
  std::vector<double> halves;

  explicit Buffer(const std::vector<double>& x)
      : plane_bytes(static_cast<int>(x.size()) / kPiece * kPieceBytes), halves(x.size()) {
    for (int n = 0; n < static_cast<int>(x.size()); ++n) {
      const int lane = n % kPiece / 4;
      const int byte = n % 4 / 2 * plane_bytes + n / kPiece * kPieceBytes + 4 * lane + 2 * (n % 2);
      halves.at(at(byte / 2)) = x[at(n)];
    }
  }
};

/// out[time of the tile] by the kernels' loop (Product in direct.cuh).
std::vector<double> product(const Emulated& m, const Buffer& buffer, int first_piece, bool causal) {
  std::vector<std::array<Accumulators, 2>> acc(at(m.pieces / 2));
  for (int j = 0; j < m.blocks; ++j)
    for (int p = 0; p < m.pieces / 2; ++p) {
      const int first = (first_piece + 2 * p) * kPieceBytes + (causal ? -j : j) * kBlockBytes;
      const auto a = ldmatrix(
          buffer.halves, [&](int lane) { return first + row_operand(lane, buffer.plane_bytes); },
          false);
      for (int half = 0; half < 2; ++half) {
        Fragment<2> b;
        for (int lane = 0; lane < 32; ++lane)
          for (int r = 0; r < 2; ++r) {
            const int k = causal ? causal_lag(lane, half, r) : anticausal_lag(lane, half, r);
            const Word w = m.word(k + kBlock * j);
            b[at(lane)][at(r)] = causal ? w : Word{w.second, w.first};
          }
        mma(acc[at(p)][at(half)], a, b);
      }
    }
  std::vector<double> out(at(m.pieces * kPiece));
  for (int i = 0; i < m.pieces; ++i)
    for (int lane = 0; lane < 32; ++lane)
      for (int j = 0; j < 4; ++j)  // Product::value
        out[at(i * kPiece + 4 * lane + j)] =
            acc[at(i / 2)][at(j / 2)][at(lane)][at(2 * (i % 2) + j % 2)];
  return out;
}

constexpr int kTaps[] = {1, 2, 16, 17, 18, 113, 114, 127, 128, 129, 130, 255, 256};

TEST(DirectLayout, CausalProductIsTheConvolution) {
  for (const int K : kTaps) {
    Emulated m(K, 4);
    const int before = m.halo * kPiece;
    const auto z = m.noise(before + 4 * kPiece);
    const auto c = product(m, Buffer(z), m.halo, true);
    for (int n = 0; n < 4 * kPiece; ++n) {
      double sum = 0.0;
      for (int k = 0; k < K; ++k)
        sum += m.h[at(k)] * z.at(at(before + n - k));
      ASSERT_NEAR(c[at(n)], sum, 1e-10) << K << " " << n;
    }
  }
}

TEST(DirectLayout, AnticausalProductIsTheTransposedConvolution) {
  for (const int K : kTaps) {
    Emulated m(K, 4);
    const auto g = m.noise((4 + m.halo) * kPiece);
    const auto du = product(m, Buffer(g), 0, false);
    for (int n = 0; n < 4 * kPiece; ++n) {
      double sum = 0.0;
      for (int k = 0; k < K; ++k)
        sum += m.h[at(k)] * g.at(at(n + k));
      ASSERT_NEAR(du[at(n)], sum, 1e-10) << K << " " << n;
    }
  }
}

// What Product takes for granted: two of four registers agree, and a lane's first two values of
// half 0 are the first two times of its block (kNext).
TEST(DirectLayout, RegistersOfTheFilterDifferByTwoLags) {
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(causal_lag(lane, 0, 1), causal_lag(lane, 0, 0) - 2);
    EXPECT_EQ(causal_lag(lane, 1, 0), causal_lag(lane, 0, 0) + 2);
    EXPECT_EQ(causal_lag(lane, 1, 1), causal_lag(lane, 0, 0));
    EXPECT_EQ(anticausal_lag(lane, 0, 1), anticausal_lag(lane, 0, 0) + 2);
    EXPECT_EQ(anticausal_lag(lane, 1, 0), anticausal_lag(lane, 0, 0) - 2);
    EXPECT_EQ(anticausal_lag(lane, 1, 1), anticausal_lag(lane, 0, 0));
  }
  EXPECT_EQ(column_time(0, 0), 0);
  EXPECT_EQ(column_time(0, 1), 1);
}

TEST(DirectLayout, BlockProductsGiveTheFiltersGradient) {
  for (const int K : kTaps) {
    Emulated m(K, 4);
    const int before = m.halo * kPiece;
    const auto z = m.noise(before + 4 * kPiece);
    const auto g = m.noise(4 * kPiece);
    const Buffer z_buffer(z);
    const Buffer g_buffer(g);
    std::vector<double> products(at(m.blocks * kBlock * kBlock));
    for (int j = 0; j < m.blocks; ++j) {
      const int first = j % kPieceBlocks;  // the warp
      const int q = j / kPieceBlocks;
      Accumulators half[2] = {};
      for (int step = 0; step < 2; ++step) {
        const auto a = ldmatrix(
            g_buffer.halves,
            [&](int lane) {
              return step * 2 * kPieceBytes + transposed_operand(lane, g_buffer.plane_bytes);
            },
            true);
        const auto b = ldmatrix(
            z_buffer.halves,
            [&](int lane) {
              return (m.halo + 2 * step - q) * kPieceBytes - first * kBlockBytes +
                     row_operand(lane, z_buffer.plane_bytes);
            },
            true);
        for (int h = 0; h < 2; ++h) {
          Fragment<2> operand;
          for (int lane = 0; lane < 32; ++lane)
            operand[at(lane)] = {b[at(lane)][at(2 * h)], b[at(lane)][at(2 * h + 1)]};
          mma(half[h], a, operand);
        }
      }
      for (int h = 0; h < 2; ++h)
        for (int lane = 0; lane < 32; ++lane)
          for (int e = 0; e < 4; ++e) {
            const int r = column_time(e / 2, lane / 4);
            const int s = column_time(h, 2 * (lane % 4) + e % 2);
            products[at((j * kBlock + r) * kBlock + s)] = half[h][at(lane)][at(e)];
          }
    }
    for (int k = 0; k < K; ++k) {
      double sum = 0.0;
      for (int n = 0; n < 4 * kPiece; ++n)
        sum += g[at(n)] * z.at(at(before + n - k));
      double got = 0.0;
      for (int j = 0; j < m.blocks; ++j)
        for (int r = 0; r < kBlock; ++r)
          for (int s = 0; s < kBlock; ++s)
            if (kBlock * j + r - s == k) got += products[at((j * kBlock + r) * kBlock + s)];
      ASSERT_NEAR(got, sum, 1e-9) << K << " " << k;
    }
  }
}

// ldmatrix takes eight rows of 16 bytes at a time: all banks once.
TEST(DirectLayout, NoBankConflicts) {
  for (int m = 0; m < 4; ++m) {
    std::set<int> rows;
    std::set<int> transposed;
    for (int i = 0; i < 8; ++i) {
      rows.insert(row_operand(8 * m + i, 7 * kPieceBytes) / 16 % 8);
      transposed.insert(transposed_operand(8 * m + i, 7 * kPieceBytes) / 16 % 8);
    }
    EXPECT_EQ(rows.size(), 8U);
    EXPECT_EQ(transposed.size(), 8U);
  }
}

// Every word that a product reads stands in the table.
TEST(DirectLayout, WordsAreInTheTable) {
  for (int K = 1; K <= kDirectTaps; ++K)
    for (int lane = 0; lane < 32; ++lane)
      for (int half = 0; half < 2; ++half)
        for (int q = 0; q < 2; ++q)
          for (const int k : {causal_lag(lane, half, q), anticausal_lag(lane, half, q)}) {
            EXPECT_GE(k - kFirstLag, 0);
            EXPECT_LT(k - kFirstLag + kBlock * (direct_blocks(K) - 1),
                      direct_words(direct_halo(K)));
          }
}

}  // namespace
