// Complex float32 transforms of 2^10 to 2^13 points by one block, in shared memory.
//
// Decimation in time: the input stands in bit-reversed order, 2^R points at a time pass through
// registers. Relative error about 2e-7.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {

/// Where point i stands in shared memory: permuted within 16 so that neither the passes nor
/// bit-reversed nor fragment order collide in the banks; at 8192 points two wavefronts per warp and
/// access, which is the least, four in fragment order (computed over all addresses, 2026-11-24).
/// Linear over exclusive or: place(a | b) = place(a) ^ place(b) where a and b share no bit, so the
/// places of a thread's points differ by constants.
__host__ __device__ constexpr int place(int i) {
  return i ^ (((i >> 4) ^ (i >> 8) ^ (i >> 12)) & 15);
}

/// i with its kLog bits reversed; linear too.
template <int kLog>
__host__ __device__ constexpr int bit_reversed(int i) {
  int r = 0;
  for (int b = 0; b < kLog; ++b)
    r |= ((i >> b) & 1) << (kLog - 1 - b);
  return r;
}
template <int kLog>
__device__ __forceinline__ int bit_reversed_index(int i) {
  return static_cast<int>(__brev(static_cast<unsigned>(i)) >> (32 - kLog));
}

__device__ __forceinline__ float2 complex_product(float2 p, float2 q) {
  return make_float2(p.x * q.x - p.y * q.y, p.x * q.y + p.y * q.x);
}
/// exp(i pi x)
__device__ __forceinline__ float2 unit_root(float x) {
  float2 w;
  sincospif(x, &w.y, &w.x);
  return w;
}

/// Stages kStage .. kStage + R - 1 of the transform with exp(+2 pi i n k / 2^kLog).
template <int kLog, int kStage, int R, int kThreads>
__device__ __forceinline__ void fft_pass(float2* x, int tid) {
  constexpr int kHalf = 1 << kStage;
  constexpr int kPoints = 1 << R;
  constexpr float kCos[8] = {1.F, 0.923879533F,  0.707106781F,  0.382683432F,
                             0.F, -0.382683432F, -0.707106781F, -0.923879533F};
  constexpr float kSin[8] = {0.F, 0.382683432F, 0.707106781F, 0.923879533F,
                             1.F, 0.923879533F, 0.707106781F, 0.382683432F};
#pragma unroll
  for (int u = tid; u < (1 << (kLog - R)); u += kThreads) {
    const int j = u & (kHalf - 1);
    const int first = place(((u >> kStage) << (kStage + R)) + j);
    float2 y[kPoints];
#pragma unroll
    for (int l = 0; l < kPoints; ++l)
      y[l] = x[first ^ place(l * kHalf)];
    if (kStage != 0) {
      const float2 w = unit_root(static_cast<float>(j) * (2.F / (1 << (kStage + R))));
      float2 p = w;
#pragma unroll
      for (int e = 1; e < kPoints; ++e) {  // input l takes w to the power bitreverse(l)
        int l = 0;
#pragma unroll
        for (int b = 0; b < R; ++b)
          l |= ((e >> b) & 1) << (R - 1 - b);
        y[l] = complex_product(y[l], p);
        if (e + 1 < kPoints) p = complex_product(p, w);
      }
    }
#pragma unroll
    for (int s = 0; s < R; ++s)
#pragma unroll
      for (int l = 0; l < kPoints; ++l)
        if (((l >> s) & 1) == 0) {
          const int c = (l & ((1 << s) - 1)) << (3 - s);
          const float2 p = y[l];
          float2 q = y[l + (1 << s)];
          if (c == 4) {  // times i; c = 0: times 1
            q = make_float2(-q.y, q.x);
          } else if (c != 0) {
            q = complex_product(q, make_float2(kCos[c], kSin[c]));
          }
          y[l] = make_float2(p.x + q.x, p.y + q.y);
          y[l + (1 << s)] = make_float2(p.x - q.x, p.y - q.y);
        }
#pragma unroll
    for (int l = 0; l < kPoints; ++l)
      x[first ^ place(l * kHalf)] = y[l];
  }
  __syncthreads();
}

/// Unnormalised transform in place, points at place(i), input bit-reversed; every thread of the
/// block; a barrier must precede.
template <int kLog, int kThreads>
__device__ __forceinline__ void fft(float2* x, int tid) {
  constexpr int kFirst = kLog == 13 ? 4 : 3;  // 4 3 3 3, 3 3 3 3, 3 3 3 2, 3 3 2 2
  constexpr int kThird = kLog - kFirst - 3 > 5 ? 3 : 2;
  constexpr int kFourth = kLog - kFirst - 3 - kThird;
  fft_pass<kLog, 0, kFirst, kThreads>(x, tid);
  fft_pass<kLog, kFirst, 3, kThreads>(x, tid);
  fft_pass<kLog, kFirst + 3, kThird, kThreads>(x, tid);
  fft_pass<kLog, kFirst + 3 + kThird, kFourth, kThreads>(x, tid);
}

}  // namespace hyena::kernels::cuda
