// Filters of at most kDirectTaps taps as the words that the Toeplitz products read.
//
//   word[i] = (h[i - 16], h[i - 17]) / unit,  h[0] with the skip, zeros outside of the taps
//
// Shapes    h (D, K) float32; spectrum buffer as in direct.h
// Mapping   one warp per channel
// Budget    4 bytes read per tap, 4 written per word
// Numerics  one power of two per channel and fp16: 2^-11 relative to the value, 2^-32 of the
//           largest
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp
#include "hyena/kernels/cuda/direct.h"
#include "hyena/kernels/cuda/half_complex.cuh"
#include "hyena/kernels/cuda/row_scale.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 128;

struct FilterArgs {
  const float* h;
  const float* skip;  // or null
  float* unit;
  uint32_t* words;
  int channels, taps, halo;
};

__global__ void __launch_bounds__(kThreads) filter_words(const FilterArgs a) {
  const int lane = threadIdx.x & 31;
  const int d = blockIdx.x * (kThreads / 32) + (threadIdx.x >> 5);
  if (d >= a.channels) return;
  const float skip = a.skip != nullptr ? a.skip[d] : 0.F;
  const float* h = a.h + static_cast<int64_t>(d) * a.taps;
  auto lag = [&](int k) {
    if (k < 0 || k >= a.taps) return 0.F;
    return k == 0 ? h[0] + skip : h[k];
  };
  float most = 0.F;
  for (int k = lane; k < a.taps; k += 32)
    most = fmaxf(most, fabsf(lag(k)));
  const float scale = row_scale(__reduce_max_sync(~0U, __float_as_uint(most)) >> 23);
  if (lane == 0) a.unit[d] = inverse_scale(scale);
  const int count = direct_words(a.halo);
  uint32_t* words = a.words + static_cast<int64_t>(d) * count;
  for (int i = lane; i < count; i += 32) {
    const int k = i + kFirstLag;
    words[i] = pack_half(lag(k) * scale, lag(k - 1) * scale);
  }
}

}  // namespace

std::size_t direct_spectrum_bytes(const DirectProblem& m) {
  return DirectFilter::bytes(m.channels(), m.halo);
}

void direct_spectrum(const DirectProblem& m, const float* h, const float* skip, void* spectrum,
                     cudaStream_t stream) {
  const DirectFilter view = m.filter(spectrum);
  const FilterArgs a{h,
                     skip,
                     const_cast<float*>(view.unit),
                     const_cast<uint32_t*>(view.words),
                     static_cast<int>(m.shape.channels),
                     static_cast<int>(m.shape.filter_length),
                     m.halo};
  constexpr int kChannels = kThreads / 32;
  filter_words<<<static_cast<unsigned>((a.channels + kChannels - 1) / kChannels), kThreads, 0,
                 stream>>>(a);
  check(cudaGetLastError(), "launch of the direct filter kernel");
}

}  // namespace hyena::kernels::cuda
