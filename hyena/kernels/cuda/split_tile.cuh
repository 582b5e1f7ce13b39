// Where the points of a tile of a long row lie, and the transform over its C = 32 c rows.
//
// A tile is C rows n1 of 256 / c columns, 8192 points, in column blocks of 32:
//
//   time     n = 256 rho n1 + m, n1 = c a + b, a = 2 alpha + o      (a < 32, b < c, o < 2)
//   row      k1 = kappa + 32 j                                      (kappa < 32, j < c)
//   input    [block][c o + b][alpha][64 bytes]
//   planes   [re, im][block][c kappa + x][64 bytes], x = b ^ (kappa mod c) before the radix c, and
//            x = j behind it; 16-byte chunks hold times in the order of digits pi (tile.cuh)
//   scratch  [channel][batch][c kappa + j][256 columns][re, im][block, bits 0 and 1 swapped][32]
//
// Chunks are XORed with bits 1 and 2 of the row (the 64-byte swizzle of the copy engine), in planes
// with bit 2 of the column block too, so that the row kernels meet no bank conflicts.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/split.h"
#include "hyena/kernels/cuda/tables.cuh"

namespace hyena::kernels::cuda {

/// A row: what all kernels derive from a tile's number. Tiles are [channel][batch][tile].
struct SplitPlace {
  int row, channel, batch, first_column;
  __device__ __forceinline__ SplitPlace(int item, const SplitShape& s, int batches)
      : row(item >> s.log_tiles()),
        channel(row / batches),
        batch(row - channel * batches),
        first_column((item & ((1 << s.log_tiles()) - 1)) * s.tile_columns()) {}
};

/// alpha of an operand's index k < 16, and back: bits 0 and 1 change places, so that four lanes
/// read four rows from different banks.
__host__ __device__ constexpr int swap_low_bits(int k) {
  return (k & ~3) | ((k & 1) << 1) | ((k >> 1) & 1);
}
/// ... and of row 8 r + g of an accumulator: bits 1 and 2.
__host__ __device__ constexpr int swap_middle_bits(int k) {
  return (k & ~6) | ((k & 2) << 1) | ((k & 4) >> 1);
}

/// Position of a column block among the eight of 256 columns.
__device__ __forceinline__ int block_position(int block) {
  return swap_low_bits(block & 7);
}
__device__ __forceinline__ int block_twist(int block) {
  return (block >> 2) & 1;
}

/// Where a warp of the first radix leaves its block: row c kappa + (b ^ kappa mod c).
__device__ __forceinline__ uint32_t split_store_address(uint32_t planes, int block_number,
                                                        int log_c, int warp, int lane) {
  const int g = lane >> 2;
  const int t = lane & 3;
  const int c = 1 << log_c;
  const int r = (g << log_c) + ((warp ^ g) & (c - 1));
  const int chunk = (2 * (t >> 1)) ^ ((r >> 1) & 3) ^ block_twist(block_number);
  return planes + ((warp >> log_c) << (11 + log_c)) + r * 64 + (chunk << 4) + 8 * (t & 1);
}
/// ... and where it reads it for the last radix: a lane's ldmatrix row, kappa = lane.
__device__ __forceinline__ uint32_t split_load_address(uint32_t planes, int block_number, int log_c,
                                                       int warp, int lane) {
  const int c = 1 << log_c;
  const int r = (lane << log_c) + ((warp ^ lane) & (c - 1));
  const int chunk = ((r >> 1) & 3) ^ block_twist(block_number);
  return planes + ((warp >> log_c) << (11 + log_c)) + r * 64 + (chunk << 4);
}

/// The matrix of the way back, for InverseOperand::multiply.
__device__ __forceinline__ void load_radix_t(uint4 (&matrix)[2][2], uint32_t radix_t, int lane) {
#pragma unroll
  for (int q = 0; q < 4; ++q)
    matrix[q >> 1][q & 1] = lds128(radix_t + (q * 32 + lane) * 16);
}

/// [re | im] = matrix times 16 rows of kTiles x 8 columns.
template <int kTiles>
__device__ __forceinline__ void outer_product(float (&out)[2][kTiles][4], const uint32_t (&mr)[4],
                                              const uint32_t (&mi)[4],
                                              const uint32_t (&x)[2][2 * kTiles]) {
  const uint32_t minus[4] = {mi[0] ^ 0x80008000U, mi[1] ^ 0x80008000U, mi[2] ^ 0x80008000U,
                             mi[3] ^ 0x80008000U};
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    mma_first(out[0][n], mr, x[0][2 * n], x[0][2 * n + 1]);
    mma_first(out[1][n], mi, x[0][2 * n], x[0][2 * n + 1]);
  }
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    mma(out[0][n], minus, x[1][2 * n], x[1][2 * n + 1]);
    mma(out[1][n], mr, x[1][2 * n], x[1][2 * n + 1]);
  }
}

/// The matrix of a group of 16 rows, or its conjugate transpose, as A operand.
template <bool kInverse>
__device__ __forceinline__ void outer_matrix(uint32_t (&mr)[4], uint32_t (&mi)[4],
                                             uint32_t matrices, int group, int lane) {
  if (kInverse) {
    const uint32_t at =
        matrices + group * 1024 + ((lane & 7) + 8 * (lane >> 4)) * 32 + ((lane >> 3) & 1) * 16;
    ldmatrix_trans(mr, at);
    ldmatrix_trans(mi, at + 512);
#pragma unroll
    for (uint32_t& w : mi)
      w ^= 0x80008000U;
  } else {
    const uint32_t at = matrices + group * 1024 + (lane & 15) * 32 + (lane >> 4) * 16;
    ldmatrix(mr, at);
    ldmatrix(mi, at + 512);
  }
}

/// Radix c (or its inverse) in place: 16 units of 16 rows x 32 columns, two for each of 8 warps.
/// `matrices`: SplitTables::outer in shared memory. `adjust(x, group)` may change the operands.
template <bool kInverse, class Adjust>
__device__ __forceinline__ void outer_radix(uint32_t planes, uint32_t matrices, int log_c, int warp,
                                            int lane, Adjust adjust) {
  const int row = lane & 15;
  const uint32_t in_unit = row * 64 + (((lane >> 4) ^ ((row >> 1) & 3)) << 4);
#pragma unroll
  for (int u = 0; u < 2; ++u) {
    const int unit = warp + 8 * u;
    const int group = unit & ((2 << log_c) - 1);
    const uint32_t at = planes + ((unit >> (1 + log_c)) << (11 + log_c)) + group * 1024 + in_unit;
    uint32_t mr[4];
    uint32_t mi[4];
    outer_matrix<kInverse>(mr, mi, matrices, group, lane);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t from = at ^ (32 * half);
      uint32_t x[2][4];
      ldmatrix_trans(x[0], from);
      ldmatrix_trans(x[1], from + kPlaneBytes);
      adjust(x, group);
      float out[2][2][4];
      outer_product<2>(out, mr, mi, x);
#pragma unroll
      for (int part = 0; part < 2; ++part)
        stmatrix(from + part * kPlaneBytes, pack_half(out[part][0][0], out[part][0][1]),
                 pack_half(out[part][0][2], out[part][0][3]),
                 pack_half(out[part][1][0], out[part][1][1]),
                 pack_half(out[part][1][2], out[part][1][3]));
    }
  }
}

template <bool kInverse>
__device__ __forceinline__ void outer_radix(uint32_t planes, uint32_t matrices, int log_c, int warp,
                                            int lane) {
  outer_radix<kInverse>(planes, matrices, log_c, warp, lane, [](uint32_t(&)[2][4], int) {});
}

/// Largest of a row's biased exponents, in all lanes. `tiles` is a power of two.
__device__ __forceinline__ uint32_t row_exponent(const uint32_t* exponents, int tiles, int lane) {
  uint32_t most = 0;
  for (int i = lane; i < tiles; i += 32)
    most = max(most, exponents[i]);
  return __reduce_max_sync(~0U, most);
}
/// 2^-shift as a pair of halves; zero beyond what they resolve.
__device__ __forceinline__ uint32_t half_power(uint32_t shift) {
  const uint32_t h = shift < 15 ? (15 - shift) << 10 : shift < 25 ? 1U << (24 - shift) : 0U;
  return h | (h << 16);
}
__device__ __forceinline__ uint32_t half_product(uint32_t x, uint32_t y) {
  return as_word(__hmul2(as_half2(x), as_half2(y)));
}
/// The scale of values whose largest has this biased exponent, 8 to 253.
__device__ __forceinline__ float split_scale(uint32_t exponent, const SplitShape& s) {
  return __uint_as_float((261U - s.headroom() - exponent) << 23);
}

/// Copies a table of the spectrum buffer to shared memory.
__device__ __forceinline__ void copy_table(void* to, const uint4* from, int vectors, int tid,
                                           int threads) {
  for (int i = tid; i < vectors; i += threads)
    static_cast<uint4*>(to)[i] = from[i];
}

/// Biased exponent of the largest value that TileScale::publish left, 8 to 253.
__device__ __forceinline__ uint32_t tile_exponent(uint32_t maxima) {
  const uint2 bytes = lds64(maxima);
  const uint32_t four = __vmaxu4(bytes.x, bytes.y);
  const uint32_t two = __vmaxu4(four, four >> 16);
  return min(max(max(two & 0xffU, (two >> 8) & 0xffU), 8U), 253U);
}

/// What the stored product of spectra, transformed back, must be multiplied by, times the row's
/// inverse scale.
__device__ __forceinline__ float split_unit(const SplitFilter& f, int channel,
                                            const SplitShape& s) {
  const int exponent = static_cast<int>(f.exponent[channel]);
  const int shift = s.gain_exponent() + (exponent > 126 ? exponent - 126 : 0);
  return __uint_as_float(static_cast<uint32_t>(127 + shift) << 23) *
         inverse_scale(f.scale[channel]);
}

}  // namespace hyena::kernels::cuda
