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
/// [j][half of s][r = g, g + 8][s = 2 t, 2 t + 1] in the order of column_time, in units of
/// 2^exponent, those of the loudest tile so far. Eight warps share the j of their tiles.
template <int kPieces, int kHalo, int kPlaneBytes>
struct FilterGradient {
  float sum[kHalo + 1][2][4];
  int exponent;

  __device__ __forceinline__ void clear() {
    exponent = kNone;
#pragma unroll
    for (int q = 0; q <= kHalo; ++q)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          sum[q][h][e] = 0.F;
  }
  /// Adds the products of `tiles` tiles. g and z: bytes of the first tile's first time, the next
  /// kTileBytes behind; `mine`: log2 of the unit of tile `lane`.
  template <int kTileBytes>
  __device__ __forceinline__ void add(uint32_t g, uint32_t z, int mine, int tiles, int first,
                                      int blocks, int lane) {
    g += transposed_operand(lane, kPlaneBytes);
    z += row_operand(lane, kPlaneBytes) - first * kBlockBytes;
    if (lane >= tiles) mine = kNone;
    const int loudest = __reduce_max_sync(~0U, mine);
    if (loudest > exponent) {
      scale(power(exponent - loudest));
      exponent = loudest;
    }
    // A quieter tile's g goes to the common unit; what fp16 then drops is far below the loudest.
    const uint32_t my_factor = as_word(__float2half2_rn(power(mine - exponent)));
#pragma unroll
    for (int q = 0; q <= kHalo; ++q) {
      if (first + kPieceBlocks * q >= blocks) break;
#pragma unroll 2
      for (int w = 0; w < tiles; ++w) {
        const __half2 factor = as_half2(__shfl_sync(~0U, my_factor, w));
#pragma unroll
        for (int i = 0; i < kPieces / 2; ++i) {
          uint32_t a[4];
          uint32_t b[4];
          ldmatrix_trans(a, g + w * kTileBytes + i * 2 * kPieceBytes);
          ldmatrix_trans(b, z + w * kTileBytes + (2 * i - q) * kPieceBytes);
#pragma unroll
          for (int r = 0; r < 4; ++r)
            a[r] = as_word(__hmul2(as_half2(a[r]), factor));
          mma(sum[q][0], a, b[0], b[1]);
          mma(sum[q][1], a, b[2], b[3]);
        }
      }
    }
  }
  /// To `products` [j][r][s], in true units.
  __device__ __forceinline__ void store(float* products, int first, int blocks, int lane) const {
    const float high = power(exponent / 2);
    const float low = power(exponent - exponent / 2);
#pragma unroll
    for (int q = 0; q <= kHalo; ++q) {
      const int j = first + kPieceBlocks * q;
      if (j >= blocks) break;
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int r = column_time(e >> 1, lane >> 2);
          const int s = column_time(h, 2 * (lane & 3) + (e & 1));
          products[(j * kBlock + r) * kBlock + s] = sum[q][h][e] * high * low;
        }
    }
  }

 private:
  static constexpr int kNone = -1000;  // below every exponent

  /// 2^n, 0 where that is not a normal number; n < 128.
  static __device__ __forceinline__ float power(int n) {
    return n < -126 ? 0.F : __int_as_float((n + 127) << 23);
  }
  __device__ __forceinline__ void scale(float factor) {
#pragma unroll
    for (int q = 0; q <= kHalo; ++q)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          sum[q][h][e] *= factor;
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
