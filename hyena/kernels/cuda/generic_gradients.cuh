// The generic mixer's gradients of the short convolutions, given dq of a row in shared memory.
//
//   dp[n] = sum_lag w[lag] dq[n + lag]
//   dweight[lag] = sum_n dq[n] p[n - lag];  dbias = sum_n dq[n]
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

/// dp at the times first + i kThreads, i < kCount, of row (b, d). dq(n) is that of all three parts,
/// zero from the row's end on; n is at most kMaxTaps - 1 behind these times.
template <int kCount, int kThreads, class T, class Dq>
__device__ __forceinline__ void store_input_gradients(const Mixer<T>& m, int b, int d, int first,
                                                      T* dp, Dq&& dq) {
  float3 out[kCount] = {};
  const float* const w0 = m.row(b, d, 0).weight;
  const float* const w1 = m.row(b, d, 1).weight;
  const float* const wv = m.row(b, d, 2).weight;
#pragma unroll 1
  for (int lag = 0; lag < m.taps; ++lag) {
    const int tap = m.taps - 1 - lag;
    const float3 w = make_float3(w0[tap], w1[tap], wv[tap]);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const float3 later = dq(first + i * kThreads + lag);
      out[i].x = fmaf(w.x, later.x, out[i].x);
      out[i].y = fmaf(w.y, later.y, out[i].y);
      out[i].z = fmaf(w.z, later.z, out[i].z);
    }
  }
  T* const to_x0 = dp + m.input(b, d, 0);
  T* const to_x1 = dp + m.input(b, d, 1);
  T* const to_v = dp + m.input(b, d, 2);
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int n = first + i * kThreads;
    if (n >= m.length) continue;
    to_x0[n] = narrow<T>(out[i].x);
    to_x1[n] = narrow<T>(out[i].y);
    to_v[n] = narrow<T>(out[i].z);
  }
}

/// Adds the warp's shares of dweight and dbias over the same times to sums[part][lag, then bias].
template <int kCount, int kThreads, class T, class Dq>
__device__ __forceinline__ void add_parameter_gradients(const Mixer<T>& m, int b, int d, int first,
                                                        float* sums, Dq&& dq) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  float3 own[kCount];
  float3 sum = {};
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    own[i] = dq(first + i * kThreads);
    sum = make_float3(sum.x + own[i].x, sum.y + own[i].y, sum.z + own[i].z);
  }
  constexpr int kPart = kMaxTaps + 1;
  add_of_warp(sums + kMaxTaps, sum.x, lane);
  add_of_warp(sums + kPart + kMaxTaps, sum.y, lane);
  add_of_warp(sums + 2 * kPart + kMaxTaps, sum.z, lane);
  const T* const x0 = m.p + m.input(b, d, 0);
  const T* const x1 = m.p + m.input(b, d, 1);
  const T* const v = m.p + m.input(b, d, 2);
#pragma unroll 1
  for (int lag = 0; lag < m.taps; ++lag) {
    sum = make_float3(0.F, 0.F, 0.F);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int n = first + i * kThreads;
      if (n >= lag && n < m.length) {
        sum.x = fmaf(own[i].x, widen(x0[n - lag]), sum.x);
        sum.y = fmaf(own[i].y, widen(x1[n - lag]), sum.y);
        sum.z = fmaf(own[i].z, widen(v[n - lag]), sum.z);
      }
    }
    add_of_warp(sums + lag, sum.x, lane);
    add_of_warp(sums + kPart + lag, sum.y, lane);
    add_of_warp(sums + 2 * kPart + lag, sum.z, lane);
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
