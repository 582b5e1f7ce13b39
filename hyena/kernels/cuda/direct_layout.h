// Where the direct Toeplitz product keeps its values: which time, lag or word a lane holds.
//
//   c[16 i + r] = sum_j sum_s h[16 j + r - s] z[16 (i - j) + s]
//
// A row of an operand is a block of 16 adjacent times, so a tile of 16 x 16 is 256 times: two
// pieces of 128. Inner positions and columns are permuted such that lane l of a warp holds the
// times 4 l .. 4 l + 3 of a piece, of operands and results alike.
#pragma once

#include <vector_types.h>

#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {

constexpr int kPiece = 128;                    // times of a piece
constexpr int kBlock = 16;                     // times of a block
constexpr int kPieceBlocks = kPiece / kBlock;  // blocks of a piece

/// Blocks j of lags that a filter of so many taps touches.
__host__ __device__ constexpr int direct_blocks(int taps) {
  return (taps + kBlock - 2) / kBlock + 1;
}
/// Pieces before an output that it reads.
__host__ __device__ constexpr int direct_halo(int taps) {
  return taps <= kPiece ? 1 : 2;
}
static_assert(kDirectTaps <= 2 * kPiece);

/// Words of a channel's filter: word i holds (h[i - 16], h[i - 17]), zeros outside of the taps.
constexpr int kFirstLag = -kBlock;
__host__ __device__ constexpr int direct_words(int halo) {
  return kBlock * (halo * kPieceBlocks + 2);
}

// Coordinates in a fragment, for g = lane / 4, t = lane % 4.

/// Time within a block of inner position k (0 .. 15).
__host__ __device__ constexpr int inner_time(int k) {
  return 4 * ((k & 7) >> 1) + 2 * (k >> 3) + (k & 1);
}
/// Time within a block of column n (0 .. 7) of half `half` of a result.
__host__ __device__ constexpr int column_time(int half, int n) {
  return 4 * (n >> 1) + 2 * half + (n & 1);
}
/// Lag whose word the causal operand of block 0 holds in register q of half `half`: its low half
/// is this lag, its high half the one before. Block j: 16 j more.
__host__ __device__ constexpr int causal_lag(int lane, int half, int q) {
  return column_time(half, lane >> 2) - inner_time(2 * (lane & 3) + 8 * q);
}
/// The anticausal operand: low half this lag minus 1, high half this lag; so the word is swapped.
__host__ __device__ constexpr int anticausal_lag(int lane, int half, int q) {
  return inner_time(2 * (lane & 3) + 8 * q) + 1 - column_time(half, lane >> 2);
}

// A buffer of halves has two planes: the first and the second word of each lane's four times.
// Sixteen bytes of a plane are half a block, so that ldmatrix finds fragments of any shift by
// blocks, eight of them in 128 adjacent bytes.

/// Bytes from one block to the next, and of a piece, in a plane.
constexpr int kBlockBytes = 16;
constexpr int kPieceBytes = kPieceBlocks * kBlockBytes;

/// Row of four 8x8 matrices whose address `lane` gives. As it is: the operand a of 16 blocks (two
/// pieces) as rows. Transposed, with the times of a block in the order of column_time: the operand
/// b of 16 blocks as the inner dimension, registers [half][blocks]; and the operand a of the same.
__host__ __device__ constexpr int row_operand(int lane, int plane_bytes) {
  return (lane >> 4) * plane_bytes + ((lane >> 3) & 1) * kPieceBytes + (lane & 7) * kBlockBytes;
}
__host__ __device__ constexpr int transposed_operand(int lane, int plane_bytes) {
  return ((lane >> 3) & 1) * plane_bytes + (lane >> 4) * kPieceBytes + (lane & 7) * kBlockBytes;
}

}  // namespace hyena::kernels::cuda
