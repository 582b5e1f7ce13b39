// The tail of a row (tail.h) inside the kernels that transform its first N times.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/tail.h"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

/// Largest |g| of a row's tail: its scale must allow for it.
__device__ __forceinline__ float tail_most(const TailView& tail, int64_t row) {
  float most = 0.F;
#pragma unroll
  for (int i = 0; i < kTailMax; ++i)
    most = fmaxf(most, fabsf(__ldg(tail.g + row * kTailMax + i)));
  return most;
}

/// g[N + i] as imaginary part of g[i], behind the radix over n1, where all k of n1 = 0 have the
/// same factor: to row g (+ 8 r) of accumulators x[j][2 r + e], times 4 e + j, in lanes t = 0 of
/// the warp that has the first times.
__device__ __forceinline__ void add_tail(float (&x)[4][4], int r, const TailView& tail, int64_t row,
                                         float factor) {
  const float* g = tail.g + row * kTailMax;
#pragma unroll
  for (int e = 0; e < 2; ++e)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      x[j][2 * r + e] = fmaf(__ldg(g + 4 * e + j), factor, x[j][2 * r + e]);
}

/// Imaginary parts c[4 t + j], acc[j >> 1][2 r + (j & 1)], of a row's first times, by lanes t < 2.
__device__ __forceinline__ void store_tail(const TailView& tail, int64_t row,
                                           const float (&acc)[2][4], int r, float factor, int t) {
  if (t >= 2) return;
#pragma unroll
  for (int j = 0; j < 4; ++j)
    tail.c[row * kTailMax + 4 * t + j] = acc[j >> 1][2 * r + (j & 1)] * factor;
}

/// What the tail adds to du of times 4 t + j < 8.
__device__ __forceinline__ void add_tail_gradient(float (&d)[4], const TailView& tail, int64_t row,
                                                  int t) {
#pragma unroll
  for (int j = 0; j < 4; ++j)
    d[j] += __ldg(tail.du + row * kTailMax + 4 * t + j);
}

/// dq of times N, N + 1 of part 1 or 2; that of part 0 is not known yet: `partial` sums of its
/// neighbours are handed on.
__device__ __forceinline__ uint2 tail_seam(const TailView& tail, int64_t row, int part,
                                           uint2 partial) {
  if (part == 0) {
    *reinterpret_cast<uint2*>(tail.seam + row * 2) = partial;
    return make_uint2(0U, 0U);
  }
  const float* dq = tail.dq + row * 4 + 2 * (part - 1);
  return make_uint2(__float_as_uint(__ldg(dq)), __float_as_uint(__ldg(dq + 1)));
}

/// The imaginary part of c at the first times of every batch row of a tile, times factor(i, r), by
/// the warp that has them.
template <bool kFull, class Factor>
__device__ __forceinline__ void hand_out_tail(const InverseOperand<kFull>& operand,
                                              const uint4 (&radix_t)[2][2], const TailView& tail,
                                              int b0, int batch, int channels, int channel,
                                              int log_n1, Factor factor, int lane) {
#pragma unroll
  for (int i = 0; i < (kFull ? 1 : 2); ++i) {
    float acc[2][4];
    operand.imaginary(acc, radix_t, i);
#pragma unroll
    for (int r = 0; r < (kFull ? 1 : 2); ++r) {
      const int row = OutputAddress<kFull>::row(i, r, lane >> 2);
      const int b = b0 + (row >> log_n1);
      const float unit = factor(i, r);
      if ((row & ((1 << log_n1) - 1)) == 0 && b < batch)
        store_tail(tail, static_cast<int64_t>(b) * channels + channel, acc, r, unit, lane & 3);
    }
  }
}

/// The imaginary part of c at a row's first times, a row in many tiles, by the warp that has them.
__device__ __forceinline__ void hand_out_tail(const InverseOperand<true>& operand,
                                              const uint4 (&radix_t)[2][2], const TailView& tail,
                                              int64_t row, float factor, int lane) {
  float acc[2][4];
  operand.imaginary(acc, radix_t, 0);
  if (lane < 4) store_tail(tail, row, acc, 0, factor, lane);
}

}  // namespace hyena::kernels::cuda
