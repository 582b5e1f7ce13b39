// Device pieces of the backward of short filters: gradients of the inputs of one tile, and the
// filter's gradient as a product of blocks.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/direct.cuh"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

/// Where the gradients of one input go: its row of dp behind the tile's first time.
template <class T>
struct GradientRow {
  T* row;
  int left;  // times from there to the row's end
  bool wide, plain;

  __device__ __forceinline__ void store(int piece, uint2 v, int lane) const {
    const int at = piece * kPiece + 4 * lane;
    if (plain) {
      __stcs(reinterpret_cast<uint2*>(row + at), v);
    } else {
      store4(row + at, v.x, v.y, left - at, wide);
    }
  }
};

/// From dq of four adjacent times to dp = w2 dq[t] + w1 dq[t+1] + w0 dq[t+2], and to the sums
/// dq p (3 taps) and dq of the parameters' gradients. f: inputs from two times before.
/// `follow`: the first two dq of the piece behind, as lane 0 has them; becomes those of this one.
template <class T>
__device__ __forceinline__ void finish_input(const GradientRow<T>& out, int piece,
                                             const float (&dq)[4], const float (&f)[6],
                                             const Fir& w, float (&follow)[2], float (&par)[4],
                                             int lane) {
  float e[6];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    e[j] = dq[j];
    par[0] = fmaf(dq[j], f[j], par[0]);
    par[1] = fmaf(dq[j], f[j + 1], par[1]);
    par[2] = fmaf(dq[j], f[j + 2], par[2]);
    par[3] += dq[j];
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    e[4 + j] = __shfl_sync(~0U, lane == 0 ? follow[j] : dq[j], (lane + 1) & 31);
    follow[j] = dq[j];
  }
  float y[4];
#pragma unroll
  for (int j = 0; j < 4; ++j)
    y[j] = fmaf(w.w0, e[j + 2], fmaf(w.w1, e[j + 1], w.w2 * e[j]));
  out.store(piece, make_uint2(Element<T>::pack(y[0], y[1]), Element<T>::pack(y[2], y[3])), lane);
}

/// A short convolution at the two times behind a piece: `word` holds them, `last` is the piece's
/// second word. The same in all lanes.
template <class T>
__device__ __forceinline__ void short_conv_behind(float (&q)[2], uint32_t last, uint32_t word,
                                                  const Fir& fir) {
  using E = Element<T>;
  const uint32_t before = __shfl_sync(~0U, last, 31);
  const float f[4] = {E::lo(before), E::hi(before), E::lo(word), E::hi(word)};
  q[0] = fir(f);
  q[1] = fir(f + 1);
}

/// Sums over blocks i of g[16 i + r] z[16 (i - j) + s] for j = first, first + 8, ..: fragments
/// [j][half of s][r = g, g + 8][s = 2 t, 2 t + 1]. Eight warps share the j of a tile.
template <int kPieces, int kHalo>
struct FilterGradient {
  float sum[kHalo + 1][2][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int q = 0; q <= kHalo; ++q)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          sum[q][h][e] = 0.F;
  }
  /// Adds `weight` times the products of a tile; g and z: bytes of its first time.
  __device__ __forceinline__ void add(uint32_t g, uint32_t z, float weight, int first, int blocks,
                                      int lane) {
    g += half_row(matrix_block(lane), matrix_half(lane));
    z += half_row(matrix_block(lane) - first, matrix_half(lane));
    float part[kHalo + 1][2][4] = {};
#pragma unroll
    for (int step = 0; step < kPieces / 2; ++step) {
      uint32_t a[4];
      ldmatrix_trans(a, g + step * 2 * kPieceBytes);
#pragma unroll
      for (int q = 0; q <= kHalo; ++q) {
        if (first + kPieceBlocks * q >= blocks) break;
        uint32_t b[4];
        ldmatrix_trans(b, z + (2 * step - q) * kPieceBytes);
        mma(part[q][0], a, b[0], b[2]);
        mma(part[q][1], a, b[1], b[3]);
      }
    }
#pragma unroll
    for (int q = 0; q <= kHalo; ++q)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          sum[q][h][e] = fmaf(weight, part[q][h][e], sum[q][h][e]);
  }
  /// To `products` [j][r][s].
  __device__ __forceinline__ void store(float* products, int first, int blocks, int lane) const {
#pragma unroll
    for (int q = 0; q <= kHalo; ++q) {
      const int j = first + kPieceBlocks * q;
      if (j >= blocks) break;
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int r = (lane >> 2) + 8 * (e >> 1);
          const int s = 8 * h + 2 * (lane & 3) + (e & 1);
          products[(j * kBlock + r) * kBlock + s] = sum[q][h][e];
        }
    }
  }
};

/// dh[k]: the products with 16 j + r - s = k, in order of j and r.
__device__ __forceinline__ float diagonal_sum(const float* products, int k) {
  const int j = k / kBlock;
  const int lag = k % kBlock;
  float sum = 0.F;
  for (int r = lag; r < kBlock; ++r)
    sum += products[(j * kBlock + r) * kBlock + r - lag];
  for (int r = 0; r < lag; ++r)
    sum += products[((j + 1) * kBlock + r) * kBlock + r + kBlock - lag];
  return sum;
}

}  // namespace hyena::kernels::cuda
