// The generic mixer's gradients of the short convolutions, given dq of a row in shared memory.
//
//   dp[n] = sum_lag w[lag] dq[n + lag];  dweight[lag] = sum_n dq[n] p[n - lag];  dbias = sum_n
//   dq[n]
#pragma once

#include "hyena/kernels/cuda/generic_gate.cuh"

namespace hyena::kernels::cuda::generic {

/// Adds what this warp's lanes hold to a sum in shared memory that only this warp writes.
__device__ __forceinline__ void add_of_warp(float* sum, float v, int lane) {
#pragma unroll
  for (int o = 16; o != 0; o >>= 1)
    v += __shfl_xor_sync(~0U, v, o);
  if (lane == 0) *sum += v;
}

/// dp at the times first + i kThreads + tid, i < kCount, of row (b, d), and the warp's share of the
/// sums: sums[part][lag, then the bias]. dq(n) holds the three parts' values, zero from the row's
/// end on, at most kMaxTaps - 1 times behind these.
template <int kCount, int kThreads, class T, class Dq>
__device__ __forceinline__ void short_gradients(const Mixer<T>& m, int b, int d, int first, T* dp,
                                                float* sums, int tid, Dq&& dq) {
  const int lane = tid & 31;
  const int n0 = first + tid;
  float3 own[kCount];
  float3 out[kCount] = {};
  float3 sum = {};
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    own[i] = dq(n0 + i * kThreads);
    sum = make_float3(sum.x + own[i].x, sum.y + own[i].y, sum.z + own[i].z);
  }
  add_of_warp(sums + kMaxTaps, sum.x, lane);
  add_of_warp(sums + 2 * kMaxTaps + 1, sum.y, lane);
  add_of_warp(sums + 3 * kMaxTaps + 2, sum.z, lane);
  const ShortRow<T> x0 = m.row(b, d, 0);
  const ShortRow<T> x1 = m.row(b, d, 1);
  const ShortRow<T> v = m.row(b, d, 2);
#pragma unroll 1
  for (int lag = 0; lag < m.taps; ++lag) {
    const int tap = m.taps - 1 - lag;
    const float3 w = make_float3(x0.weight[tap], x1.weight[tap], v.weight[tap]);
    sum = make_float3(0.F, 0.F, 0.F);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int n = n0 + i * kThreads;
      const float3 later = dq(n + lag);
      out[i].x = fmaf(w.x, later.x, out[i].x);
      out[i].y = fmaf(w.y, later.y, out[i].y);
      out[i].z = fmaf(w.z, later.z, out[i].z);
      if (n >= lag && n < m.length) {
        sum.x = fmaf(own[i].x, widen(x0.p[n - lag]), sum.x);
        sum.y = fmaf(own[i].y, widen(x1.p[n - lag]), sum.y);
        sum.z = fmaf(own[i].z, widen(v.p[n - lag]), sum.z);
      }
    }
    add_of_warp(sums + lag, sum.x, lane);
    add_of_warp(sums + kMaxTaps + 1 + lag, sum.y, lane);
    add_of_warp(sums + 2 * kMaxTaps + 2 + lag, sum.z, lane);
  }
  T* const to_x0 = dp + m.input(b, d, 0);
  T* const to_x1 = dp + m.input(b, d, 1);
  T* const to_v = dp + m.input(b, d, 2);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int n = n0 + i * kThreads;
    if (n >= m.length) continue;
    to_x0[n] = narrow<T>(out[i].x);
    to_x1[n] = narrow<T>(out[i].y);
    to_v[n] = narrow<T>(out[i].z);
  }
}

/// The sums of a block's warps, each kParameters floats, to one line; a barrier must precede.
template <int kWarps>
__device__ __forceinline__ void store_sums(float* line, const float* sums, int tid) {
  if (tid >= kParameters) return;
  float total = 0.F;
#pragma unroll
  for (int w = 0; w < kWarps; ++w)
    total += sums[w * kParameters + tid];
  line[tid] = total;
}

}  // namespace hyena::kernels::cuda::generic
