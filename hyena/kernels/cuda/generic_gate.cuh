// Operands of the generic kernels: elements, short convolutions, gates; and launches by constant.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "hyena/kernels/cuda/generic.h"
#include "hyena/kernels/cuda/generic_fft.cuh"
#include "hyena/kernels/cuda/launch.h"

namespace hyena::kernels::cuda::generic {

__device__ __forceinline__ float widen(float x) {
  return x;
}
__device__ __forceinline__ float widen(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float widen(__half x) {
  return __half2float(x);
}
template <class T>
__device__ __forceinline__ T narrow(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(x);
  } else {
    return __float2half_rn(x);
  }
}

/// One row of p and the short convolution of its channel.
template <class T>
struct ShortRow {
  const T* p;
  const float* weight;
  float bias;
  int taps, length;

  /// q at the times first + j step, j < P; of no meaning from the row's end on.
  template <int P>
  __device__ __forceinline__ void convolve(float (&q)[P], int first, int step) const {
#pragma unroll
    for (int j = 0; j < P; ++j)
      q[j] = bias;
#pragma unroll 1
    for (int lag = 0; lag < taps; ++lag) {
      const float w = weight[taps - 1 - lag];
#pragma unroll
      for (int j = 0; j < P; ++j) {
        const int n = first + j * step - lag;
        if (static_cast<unsigned>(n) < static_cast<unsigned>(length))
          q[j] = fmaf(w, widen(p[n]), q[j]);
      }
    }
  }
};

template <class T>
struct Mixer {
  const T* dy;
  const T* p;
  const float* weight;
  const float* bias;
  int64_t row_stride;
  int batch, channels, length, taps;

  Mixer(const Problem& m, const Operands& in)
      : dy(static_cast<const T*>(in.dy)),
        p(static_cast<const T*>(in.p)),
        weight(in.weight),
        bias(in.bias),
        row_stride(m.shape.row_stride),
        batch(static_cast<int>(m.shape.batch)),
        channels(static_cast<int>(m.shape.channels)),
        length(static_cast<int>(m.shape.length)),
        taps(m.shape.taps) {}

  /// Where row (b, d) starts in y and dy, and row (b, part D + d) in p and dp.
  __device__ __forceinline__ int64_t output(int b, int d) const {
    return (static_cast<int64_t>(b) * channels + d) * row_stride;
  }
  __device__ __forceinline__ int64_t input(int b, int d, int part) const {
    return (static_cast<int64_t>(b) * 3 * channels + static_cast<int64_t>(part) * channels + d) *
           row_stride;
  }
  __device__ __forceinline__ ShortRow<T> row(int b, int d, int part) const {
    const int64_t channel = static_cast<int64_t>(part) * channels + d;
    return {p + input(b, d, part), weight + channel * taps, bias != nullptr ? bias[channel] : 0.F,
            taps, length};
  }

  /// z = x1 v at the times first + j step, zero from the row's end on.
  template <int P>
  __device__ __forceinline__ void gate(float (&z)[P], int b, int d, int first, int step) const {
    float v[P];
    row(b, d, 1).convolve(z, first, step);
    row(b, d, 2).convolve(v, first, step);
#pragma unroll
    for (int j = 0; j < P; ++j)
      z[j] = first + j * step < length ? z[j] * v[j] : 0.F;
  }
  /// g = dy x0, likewise.
  template <int P>
  __device__ __forceinline__ void output_gradient(float (&g)[P], int b, int d, int first,
                                                  int step) const {
    const T* from = dy + output(b, d);
    row(b, d, 0).convolve(g, first, step);
#pragma unroll
    for (int j = 0; j < P; ++j) {
      const int n = first + j * step;
      g[j] = n < length ? widen(from[n]) * g[j] : 0.F;
    }
  }
  /// y = x0 c of the row's times among them.
  template <int P>
  __device__ __forceinline__ void store_output(T* y, const float2 (&c)[P], int b, int d, int first,
                                               int step) const {
    float q[P];
    row(b, d, 0).convolve(q, first, step);
    T* to = y + output(b, d);
#pragma unroll
    for (int j = 0; j < P; ++j) {
      const int n = first + j * step;
      if (n < length) to[n] = narrow<T>(q[j] * c[j].x);
    }
  }
};

/// The same value, but what is made from it is made again: else compilers keep roots and addresses
/// of one pass for another, more registers than there are.
__device__ __forceinline__ float again(float turn) {
  asm volatile("" : "+f"(turn));
  return turn;
}
__device__ __forceinline__ int again(int unit) {
  asm volatile("" : "+r"(unit));
  return unit;
}

/// f(u) for the units of a pass that this thread owns. A loop even where it owns one: straight code
/// gets mixed with its surroundings, and then needs more registers.
template <class P, int kThreads, class F>
__device__ __forceinline__ void for_units(int tid, F&& f) {
#pragma unroll 1
  for (int u = again(tid); u < P::kUnits; u += kThreads)
    f(u);
}

/// Passes kPass .. kEnd - 1 of kArrays arrays in shared memory, with a barrier behind each.
template <int kLog, int kLevels, int kPass, int kEnd, int kThreads, int kArrays = 1>
__device__ __forceinline__ void split_passes(int tid, float turn, float2* x) {
  if constexpr (kPass < kEnd) {
    using P = Pass<kLog, kLevels, kPass>;
    for_units<P, kThreads>(tid, [&](int u) {
      const auto w = roots_of<P::kLogRadix>(P::turn(turn, u));
#pragma unroll
      for (int i = 0; i < kArrays; ++i)
        split_unit<P>(x + (i << kLog), u, w);
    });
    __syncthreads();
    split_passes<kLog, kLevels, kPass + 1, kEnd, kThreads, kArrays>(tid, turn, x);
  }
}
/// Passes kPass, kPass - 1 .. kEnd backwards.
template <int kLog, int kLevels, int kPass, int kEnd, int kThreads, int kArrays = 1>
__device__ __forceinline__ void merge_passes(int tid, float turn, float2* x) {
  if constexpr (kPass >= kEnd) {
    using P = Pass<kLog, kLevels, kPass>;
    for_units<P, kThreads>(tid, [&](int u) {
      const auto w = roots_of<P::kLogRadix>(P::turn(turn, u));
#pragma unroll
      for (int i = 0; i < kArrays; ++i)
        merge_unit<P>(x + (i << kLog), u, w);
    });
    __syncthreads();
    merge_passes<kLog, kLevels, kPass - 1, kEnd, kThreads, kArrays>(tid, turn, x);
  }
}

/// f.template operator()<T>() for the element type of a shape.
template <class F>
void with_element(CudaElement type, F&& f) {
  switch (type) {
    case CudaElement::kFloat32:
      return f.template operator()<float>();
    case CudaElement::kBFloat16:
      return f.template operator()<__nv_bfloat16>();
    case CudaElement::kFloat16:
      return f.template operator()<__half>();
  }
}
/// f.template operator()<value>(), kFirst <= value <= kLast.
template <int kFirst, int kLast, class F>
void with_constant(int value, F&& f) {
  if constexpr (kFirst < kLast) {
    if (value != kFirst) return with_constant<kFirst + 1, kLast>(value, std::forward<F>(f));
  }
  f.template operator()<kFirst>();
}

/// Threads of a block that transforms one row of 2^kLog points, and how many blocks of a
/// multiprocessor make 24 warps, which leaves 80 registers.
template <int kLog>
constexpr int kRowThreads = kLog <= 9 ? 32 : (kLog >= 12 ? 256 : 1 << (kLog - 4));
template <int kLog>
constexpr int kRowBlocks = 768 / kRowThreads<kLog>;

}  // namespace hyena::kernels::cuda::generic
