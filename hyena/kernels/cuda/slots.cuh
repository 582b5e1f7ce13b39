// Sums that blocks leave behind: block b of `blocks` works on tiles [total b / blocks, total (b +
// 1) / blocks), `groups` tiles per channel in channel order, and leaves its share of channel d in
// slot d + b. Slots are unique because ranges are contiguous; every block must own a tile.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/backward.cuh"
#include "hyena/kernels/hyena_mixer_cuda.h"

namespace hyena::kernels::cuda {

/// Blocks that own tiles of channel d.
struct SlotRange {
  int first, last;
  __device__ __forceinline__ SlotRange(int d, int channels, int groups, int blocks) {
    const int64_t total = static_cast<int64_t>(channels) * groups;
    auto owner = [&](int64_t item) {
      int b = static_cast<int>(item * blocks / total);
      while (total * (b + 1) / blocks <= item)
        ++b;
      while (total * b / blocks > item)
        --b;
      return b;
    };
    first = owner(static_cast<int64_t>(d) * groups);
    last = owner(static_cast<int64_t>(d + 1) * groups - 1);
  }
};

/// Sum i < kParameterSums of channel d (of `channels`) to where it belongs.
__device__ __forceinline__ void store_parameter(const CudaMixerGradients& to, float sum, int i,
                                                int d, int channels, int taps) {
  const int channel = (i >> 2) * channels + d;
  const int tap = (i & 3) - (3 - taps);
  if ((i & 3) == 3) {
    to.dbias_C[channel] = sum;
  } else if (tap >= 0) {
    to.dweight_CT[channel * taps + tap] = sum;
  }
}

/// Gradients of the short convolutions of channel d (of `channels`) from slots slot0 + first to
/// slot0 + last, in this order.
__device__ __forceinline__ void finish_parameters(const float* sums, int64_t slot0, int first,
                                                  int last, const CudaMixerGradients& to, int d,
                                                  int channels, int taps, int tid) {
  if (tid >= kParameterSums) return;
  float sum = 0.F;
  for (int b = first; b <= last; ++b)
    sum += sums[(slot0 + b) * kParameterSums + tid];
  store_parameter(to, sum, tid, d, channels, taps);
}

}  // namespace hyena::kernels::cuda
