// The tail of a row (tail.h) inside the kernels that transform its first N times.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/tail.h"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

/// What a kernel reads of a row's tail: from device memory,
struct TailInMemory {
  const TailView& tail;
  int64_t row;
  __device__ __forceinline__ float4 g(int quad) const {
    return __ldg(reinterpret_cast<const float4*>(tail.g + row * kTailMax) + quad);
  }
  __device__ __forceinline__ float4 du(int quad) const {
    return __ldg(reinterpret_cast<const float4*>(tail.du + row * kTailMax) + quad);
  }
  __device__ __forceinline__ uint2 dq(int part) const {  // 1 or 2
    return __ldg(reinterpret_cast<const uint2*>(tail.dq + row * 4) + part - 1);
  }
};

/// or from shared memory, [g 8, du 8, dq 4], where a tile has several rows and cannot wait for
/// each.
struct TailInShared {
  static constexpr int kChunks = 5;  // of 16 bytes
  uint32_t at;
  /// Of row `i` of the tile whose rows stand at `tile`.
  __device__ __forceinline__ TailInShared(uint32_t tile, int i) : at(tile + 16 * kChunks * i) {}
  __device__ __forceinline__ float4 quad(int i) const {
    const uint4 v = lds128(at + 16 * i);
    return make_float4(__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z),
                       __uint_as_float(v.w));
  }
  __device__ __forceinline__ float4 g(int i) const { return quad(i); }
  __device__ __forceinline__ float4 du(int i) const { return quad(2 + i); }
  __device__ __forceinline__ uint2 dq(int part) const { return lds64(at + 64 + 8 * (part - 1)); }
};

/// Asks for `rows` rows of one channel from (b0, channel) on; zeros beyond the batch. One warp; it
/// must wait (async_copy_wait) before it reads, and others behind a barrier.
__device__ __forceinline__ void copy_tails(uint32_t tile, const TailView& tail, int rows, int b0,
                                           int batch, int channels, int channel, int lane) {
  for (int i = lane; i < TailInShared::kChunks * rows; i += 32) {
    const int b = i / TailInShared::kChunks;
    const int part = i - TailInShared::kChunks * b;
    const bool exists = b0 + b < batch;
    const int64_t row = static_cast<int64_t>(exists ? b0 + b : 0) * channels + channel;
    const float* from = part < 2   ? tail.g + row * kTailMax + 4 * part
                        : part < 4 ? tail.du + row * kTailMax + 4 * (part - 2)
                                   : tail.dq + row * 4;
    async_copy<16>(tile + 16 * i, from, exists ? 16 : 0);
  }
  async_copy_commit();
}

/// Largest |g| of a row's tail: its scale must allow for it.
template <class Row>
__device__ __forceinline__ float tail_most(const Row& row) {
  const float4 a = row.g(0);
  const float4 b = row.g(1);
  return fmaxf(fmaxf(fmaxf(fabsf(a.x), fabsf(a.y)), fmaxf(fabsf(a.z), fabsf(a.w))),
               fmaxf(fmaxf(fabsf(b.x), fabsf(b.y)), fmaxf(fabsf(b.z), fabsf(b.w))));
}

/// g[N + i] as imaginary part of g[i], behind the radix over n1, where all k of n1 = 0 have the
/// same factor: to row g (+ 8 r) of accumulators x[j][2 r + e], times 4 e + j, in lanes t = 0 of
/// the warp that has the first times.
template <class Row>
__device__ __forceinline__ void add_tail(float (&x)[4][4], int r, const Row& row, float factor) {
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const float4 g = row.g(e);
    x[0][2 * r + e] = fmaf(g.x, factor, x[0][2 * r + e]);
    x[1][2 * r + e] = fmaf(g.y, factor, x[1][2 * r + e]);
    x[2][2 * r + e] = fmaf(g.z, factor, x[2][2 * r + e]);
    x[3][2 * r + e] = fmaf(g.w, factor, x[3][2 * r + e]);
  }
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
template <class Row>
__device__ __forceinline__ void add_tail_gradient(float (&d)[4], const Row& row, int t) {
  const float4 du = row.du(t);
  d[0] += du.x;
  d[1] += du.y;
  d[2] += du.z;
  d[3] += du.w;
}

/// dq of times N, N + 1 of part 1 or 2; that of part 0 is not known yet: `partial` sums of its
/// neighbours are handed on.
template <class Row>
__device__ __forceinline__ uint2 tail_seam(const TailView& tail, int64_t index, const Row& row,
                                           int part, uint2 partial) {
  if (part != 0) return row.dq(part);
  *reinterpret_cast<uint2*>(tail.seam + index * 2) = partial;
  return make_uint2(0U, 0U);
}

/// The imaginary part of c at the first times of every batch row of a tile, times factor(r), by the
/// warp that has them.
template <bool kFull, class Factor>
__device__ __forceinline__ void hand_out_tail(const InverseOperand<kFull>& operand,
                                              const uint4 (&radix_t)[2][2], const TailView& tail,
                                              int b0, int batch, int channels, int channel,
                                              int log_n1, Factor factor, int lane) {
  float acc[2][4];
  operand.imaginary(acc, radix_t, 0);
#pragma unroll
  for (int r = 0; r < (kFull ? 1 : 2); ++r) {
    const int row = OutputAddress<kFull>::row(0, r, lane >> 2);
    const int b = b0 + (row >> log_n1);
    const float unit = factor(r);
    if ((row & ((1 << log_n1) - 1)) == 0 && b < batch)
      store_tail(tail, static_cast<int64_t>(b) * channels + channel, acc, r, unit, lane & 3);
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
