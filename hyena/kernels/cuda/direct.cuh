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

/// A row of a tensor, from which a lane takes adjacent times, zeros outside of the row. Rows are
/// 4-byte aligned and their last word, if not their last time, can be read.
template <class T>
struct RowReader {
  const T* row;
  int length;

  /// Two times from an even one on; without zeros behind an odd end.
  __device__ __forceinline__ uint32_t word(int t) const {
    return ldg32_if(row + t, t >= 0 && t < length);
  }
  __device__ __forceinline__ uint32_t ended(uint32_t v, int t) const {
    return t + 1 == length ? v & 0xffffU : v;
  }
  __device__ __forceinline__ uint32_t pair(int t) const { return ended(word(t), t); }
  /// This lane's four times of kCount pieces. `plain`: all of them exist, 8-byte aligned.
  template <int kCount>
  __device__ __forceinline__ void pieces(uint2* to, int first, bool plain, int lane) const {
    first += 4 * lane;
    if (plain) {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        to[i] = ldg64(row + first + i * kPiece);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        to[i] = make_uint2(word(first + i * kPiece), word(first + i * kPiece + 2));
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        to[i].x = ended(to[i].x, first + i * kPiece);
        to[i].y = ended(to[i].y, first + i * kPiece + 2);
      }
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

/// threadIdx.x / 32, which the compiler then knows to be the same in all lanes.
__device__ __forceinline__ int warp_index() {
  return __shfl_sync(~0U, static_cast<int>(threadIdx.x) >> 5, 0);
}

/// The power of two for values whose largest magnitude over the warp is `most`.
__device__ __forceinline__ float warp_scale(float most) {
  return row_scale(__reduce_max_sync(~0U, __float_as_uint(most)) >> 23);
}

/// This lane's four times of a piece as halves, times `scale`, to a buffer's two planes.
__device__ __forceinline__ void store_halves(uint32_t at, int plane_bytes, const float (&x)[4],
                                             float scale) {
  sts32(at, pack_half(x[0] * scale, x[1] * scale));
  sts32(at + plane_bytes, pack_half(x[2] * scale, x[3] * scale));
}

/// Products of a tile with the filter.
///
///   causal      out[16 i + r] = sum_j sum_s h[16 j + r - s] in[16 (i - j) + s]
///   anticausal  out[16 i + r] = sum_j sum_s h[16 j + s - r] in[16 (i + j) + s]
///
/// `first`: the tile's first time in a buffer whose planes are kPlaneBytes apart and which holds
/// what the filter reaches before (behind) the tile. kNext: the two times behind the tile are
/// next[0], next[1] of lane 0; the rows that come with them read two pieces more of the buffer,
/// whatever they hold.
template <int kPieces, int kPlaneBytes, bool kCausal, bool kNext>
struct Product {
  static constexpr int kPairs = kPieces / 2;

  float acc[kPairs][2][4];
  float next[4];

  __device__ __forceinline__ Product(uint32_t first, const uint32_t* words, int blocks, int lane) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      next[e] = 0.F;
#pragma unroll
      for (int p = 0; p < kPairs; ++p)
        acc[p][0][e] = acc[p][1][e] = 0.F;
    }
    first += row_operand(lane, kPlaneBytes);
    words += (kCausal ? causal_lag(lane, 0, 0) : anticausal_lag(lane, 0, 0)) - kFirstLag;
#pragma unroll 2
    for (int j = 0; j < blocks; ++j) {
      // Registers of the filter's operand differ by steps of 2 lags, and two of the four agree.
      uint32_t low = __ldg(words - 2);
      uint32_t mid = __ldg(words);
      uint32_t high = __ldg(words + 2);
      if (!kCausal) {
        low = __byte_perm(low, 0, 0x1032);
        mid = __byte_perm(mid, 0, 0x1032);
        high = __byte_perm(high, 0, 0x1032);
      }
#pragma unroll
      for (int p = 0; p < kPairs; ++p) {
        uint32_t a[4];
        ldmatrix(a, first + p * 2 * kPieceBytes);
        mma(acc[p][0], a, mid, kCausal ? low : high);
        mma(acc[p][1], a, kCausal ? high : low, mid);
      }
      if (kNext) {
        uint32_t a[4];
        ldmatrix(a, first + kPieces * kPieceBytes);
        mma(next, a, mid, kCausal ? low : high);
      }
      words += kBlock;
      first = kCausal ? first - kBlockBytes : first + kBlockBytes;
    }
  }

  /// This lane's time j of its four in piece i.
  __device__ __forceinline__ float value(int i, int j) const {
    return acc[i >> 1][j >> 1][2 * (i & 1) + (j & 1)];
  }
};

}  // namespace hyena::kernels::cuda
