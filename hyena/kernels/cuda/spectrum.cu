// The spectrum of filters for rows of at most 8192 points, in the order and precision in which the
// mixer multiplies it.
//
//   H[d][k] = sum_n h[d][n] exp(-2 pi i n (k - 1/4) / N) + skip[d]
//
// Shapes    h (D, K) float32, zeros beyond K; spectrum buffer as in spectrum_buffer.h
// Method    twist, one complex float32 FFT (docs/math/right_angle_convolution.md)
// Mapping   one block per channel, and some that write the tables
// Budget    4 bytes read, 4 written per (d, l)
// Numerics  float32 transform, then one power of two per channel and fp16: 2^-11 relative to the
//           value, 2^-25 of the largest
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp
#include "hyena/kernels/cuda/fft.cuh"
#include "hyena/kernels/cuda/half_complex.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/tables.cuh"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr unsigned kTableBlocks = 24;

struct SpectrumArgs {
  const float* h;
  const float* skip;  // or null
  uint32_t* tables;
  float* scale;
  uint4* spectrum;
  int64_t filter_length, filter_stride;
};

template <int kLogN1>
__global__ void __launch_bounds__(kFilterThreads<kLogN1>) spectrum_kernel(const SpectrumArgs a) {
  constexpr int kLog = kLogN1 + 8;
  constexpr int kPoints = 1 << kLog;
  constexpr int kN1 = 1 << kLogN1;
  constexpr int kThreads = kFilterThreads<kLogN1>;
  extern __shared__ float2 x[];
  __shared__ uint32_t maxima[kThreads / 32];
  const int tid = threadIdx.x;
  if (blockIdx.x < kTableBlocks) {  // first, so that none runs behind the filters
    for (int w = blockIdx.x * kThreads + tid; w < 4 * table_vectors(kLogN1);
         w += kTableBlocks * kThreads)
      a.tables[w] = table_word(w, kLogN1);
    return;
  }
  const int d = blockIdx.x - kTableBlocks;
  const float* h = a.h + d * a.filter_stride;
  // fft() has exp(+...): transform the conjugate, conjugate the result. The twist of point tid +
  // kThreads i is the one before times a constant.
  float2 w = unit_root(static_cast<float>(tid) * (-0.5F / kPoints));
  const float2 step = unit_root(-0.5F * kThreads / kPoints);
  const int to_place = place(bit_reversed_index<kLog>(tid));
#pragma unroll
  for (int i = 0; i < kPoints / kThreads; ++i) {
    const int n = tid + i * kThreads;
    const float v = n < a.filter_length ? h[n] : 0.F;
    x[to_place ^ place(bit_reversed<kLog>(i * kThreads))] = make_float2(v * w.x, v * w.y);
    w = complex_product(w, step);
  }
  __syncthreads();
  fft<kLog, kThreads>(x, tid);
  const float skip = a.skip != nullptr ? a.skip[d] : 0.F;
  float most = 0.F;
#pragma unroll
  for (int k = tid; k < kPoints; k += kThreads)  // in any order
    most = fmaxf(most, fmaxf(fabsf(x[k].x + skip), fabsf(x[k].y)));
  const uint32_t warp_most = __reduce_max_sync(~0U, __float_as_uint(most));
  if ((tid & 31) == 0) maxima[tid >> 5] = warp_most;
  __syncthreads();
  uint32_t all = 0;
#pragma unroll
  for (const uint32_t v : maxima)
    all = max(all, v);
  // Twice the largest power of two not above the largest component.
  const uint32_t exponent = min(max((all >> 23) + 1, 64U), 190U);
  const float down = __uint_as_float((254U - exponent) << 23);
  if (tid == 0) a.scale[d] = __uint_as_float(exponent << 23);
  uint4* to = a.spectrum + static_cast<int64_t>(d) * (kN1 * kRowVectors);
  for (int u = tid; u < kN1 * 32; u += kThreads) {
    const int from = place(frequency(u >> 5, u & 31, 0, kN1));
    uint32_t re[4];
    uint32_t im[4];
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const float2 v = x[from ^ place(frequency(0, 0, 2 * q, kN1))];
      const float2 w = x[from ^ place(frequency(0, 0, 2 * q + 1, kN1))];
      re[q] = pack_half((v.x + skip) * down, (w.x + skip) * down);
      im[q] = pack_half(-v.y * down, -w.y * down);
    }
    to[(u >> 5) * 64 + (u & 31)] = make_uint4(re[0], re[1], re[2], re[3]);
    to[(u >> 5) * 64 + 32 + (u & 31)] = make_uint4(im[0], im[1], im[2], im[3]);
  }
}

template <int kLogN1>
void launch(const SpectrumArgs& a, unsigned channels, cudaStream_t stream) {
  constexpr int kBytes = 8 * (256 << kLogN1);
  allow_shared_memory<spectrum_kernel<kLogN1>>(kBytes);
  spectrum_kernel<kLogN1><<<channels + kTableBlocks, kFilterThreads<kLogN1>, kBytes, stream>>>(a);
  check(cudaGetLastError(), "launch of the filter spectrum kernel");
}

}  // namespace

void filter_spectrum(const MixerProblem& m, const float* h, const float* skip, void* spectrum,
                     cudaStream_t stream) {
  const SpectrumView view = SpectrumView::of(spectrum, m.channels());
  const SpectrumArgs a{h,
                       skip,
                       static_cast<uint32_t*>(spectrum),
                       const_cast<float*>(view.scale),
                       const_cast<uint4*>(view.spectrum),
                       m.shape.filter_length,
                       m.filter_stride};
  const auto channels = static_cast<unsigned>(m.shape.channels);
  switch (m.log_n1) {
    case 2:
      return launch<2>(a, channels, stream);
    case 3:
      return launch<3>(a, channels, stream);
    case 4:
      return launch<4>(a, channels, stream);
    default:
      return launch<5>(a, channels, stream);
  }
}

}  // namespace hyena::kernels::cuda
