// Device pieces of the direct Toeplitz product: rows to registers, gates, products.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/direct_layout.h"
#include "hyena/kernels/cuda/half_complex.cuh"
#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/tensor.h"

namespace hyena::kernels::cuda {

/// A row of a tensor, from which a lane takes four adjacent times, zeros outside of the row.
template <class T>
struct RowReader {
  const T* row;
  int length;

  /// Any t that is a multiple of 4, any alignment.
  __device__ __forceinline__ uint2 careful(int t) const {
    uint2 v = make_uint2(pair(t), pair(t + 2));
    return v;
  }
  /// Two adjacent times, t even.
  __device__ __forceinline__ uint32_t pair(int t) const {
    if (t < 0 || t >= length) return 0U;
    const uint32_t v = ldg32(row + t);
    return t + 1 < length ? v : v & 0xffffU;
  }
  /// kCount pieces from `first` on, into `to`. `plain`: all of them are inside, 8-byte aligned.
  template <int kCount>
  __device__ __forceinline__ void pieces(uint2* to, int first, bool plain, int lane) const {
    if (plain) {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        to[i] = ldg64(row + first + i * kPiece + 4 * lane);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        to[i] = careful(first + i * kPiece + 4 * lane);
    }
  }
};

/// The two times before this lane's four. `previous`: second word of the piece before, lane 31's.
__device__ __forceinline__ uint32_t two_before(uint32_t now, uint32_t previous, int lane) {
  return __shfl_sync(~0U, lane == 31 ? previous : now, (lane + 31) & 31);
}

/// Short convolution of four adjacent times.
template <class T>
__device__ __forceinline__ void short_conv(float (&q)[4], uint32_t before, uint2 x,
                                           const Fir& fir) {
  float f[6];
  widen<T>(f, before, x);
#pragma unroll
  for (int j = 0; j < 4; ++j)
    q[j] = fir(f + j);
}

/// The 12 coefficients of a channel's short convolutions, one per lane: [x0, x1, v][3 taps, bias].
struct Coefficients {
  float mine;
  __device__ __forceinline__ Coefficients(const ShortConv& conv, int d, int channels, int lane)
      : mine(lane < 12 ? conv.value((lane >> 2) * channels + d, lane & 3) : 0.F) {}
  __device__ __forceinline__ Fir fir(int part) const {
    return {__shfl_sync(~0U, mine, 4 * part), __shfl_sync(~0U, mine, 4 * part + 1),
            __shfl_sync(~0U, mine, 4 * part + 2), __shfl_sync(~0U, mine, 4 * part + 3)};
  }
};

/// The power of two for values whose largest magnitude over the warp is `most`.
__device__ __forceinline__ float warp_scale(float most) {
  return row_scale(__reduce_max_sync(~0U, __float_as_uint(most)) >> 23);
}

/// acc[pair][half] += product with the filter. Row i of a piece comes i blocks behind its start;
/// `values`: the buffer of halves (swizzled as half_row says), piece 0 at byte `piece0` of it.
///
///   causal      out[16 i + r] = sum_j sum_s h[16 j + r - s] in[16 (i - j) + s]
///   anticausal  out[16 i + r] = sum_j sum_s h[16 j + s - r] in[16 (i + j) + s]
///
/// kNext: `next` gets the first columns of piece kPieces in its row 0 (the two times behind the
/// tile are next[0], next[1] of lane 0). Buffers hold kHalo pieces before (behind) the tile, and
/// with kNext one block more behind it.
template <int kPieces, int kHalo, bool kCausal, bool kNext>
struct Product {
  static constexpr int kPairs = kPieces / 2;

  float acc[kPairs][2][4];
  float next[4];

  __device__ __forceinline__ Product(uint32_t values, const uint32_t* words, int blocks, int lane) {
#pragma unroll
    for (int p = 0; p < kPairs; ++p)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          acc[p][h][e] = 0.F;
#pragma unroll
    for (int e = 0; e < 4; ++e)
      next[e] = 0.F;
    words += (kCausal ? causal_lag(lane, 0, 0) : anticausal_lag(lane, 0, 0)) - kFirstLag;
    step<kHalo + 1>(values, words, 0, blocks, lane);
    const int shifts = min(blocks, kPieceBlocks);
#pragma unroll 1
    for (int shift = 1; shift < shifts; ++shift)
      step<kHalo>(values, words, shift, blocks, lane);
  }

  /// Blocks j = shift + 8 q for q < kBlocks.
  template <int kBlocks>
  __device__ __forceinline__ void step(uint32_t values, const uint32_t* words, int shift,
                                       int blocks, int lane) {
    constexpr int kFragments = kPieces + kBlocks - 1 + (kNext ? 1 : 0);
    const int g = lane >> 2;
    const uint32_t at = values + quad(kCausal ? g - shift : g + shift, lane & 3);
    uint2 f[kFragments];  // causal: piece i - (kBlocks - 1); anticausal: piece i
#pragma unroll
    for (int i = 0; i < kFragments; ++i)
      f[i] = lds64(at + (kCausal ? i - (kBlocks - 1) : i) * kPieceBytes);
#pragma unroll
    for (int q = 0; q < kBlocks; ++q) {
      const int j = shift + kPieceBlocks * q;
      if (j >= blocks) break;
      const uint32_t* w = words + kBlock * j;
      // Registers differ by steps of 2 lags, and two of the four agree.
      uint32_t low = __ldg(w - 2);
      uint32_t mid = __ldg(w);
      uint32_t high = __ldg(w + 2);
      if (!kCausal) {
        low = __byte_perm(low, 0, 0x1032);
        mid = __byte_perm(mid, 0, 0x1032);
        high = __byte_perm(high, 0, 0x1032);
      }
      constexpr int kOrigin = kCausal ? kBlocks - 1 : 0;
#pragma unroll
      for (int p = 0; p < kPairs; ++p) {
        const uint2 x = f[kOrigin + 2 * p + (kCausal ? -q : q)];
        const uint2 y = f[kOrigin + 2 * p + 1 + (kCausal ? -q : q)];
        const uint32_t a[4] = {x.x, y.x, x.y, y.y};
        mma(acc[p][0], a, mid, kCausal ? low : high);
        mma(acc[p][1], a, kCausal ? high : low, mid);
      }
      if (kNext) {
        const uint2 x = f[kOrigin + kPieces + (kCausal ? -q : q)];
        const uint32_t a[4] = {x.x, 0U, x.y, 0U};
        mma(next, a, mid, kCausal ? low : high);
      }
    }
  }

  /// This lane's time j of its four in piece i.
  __device__ __forceinline__ float value(int i, int j) const {
    return acc[i >> 1][j >> 1][2 * (i & 1) + (j & 1)];
  }
};

}  // namespace hyena::kernels::cuda
