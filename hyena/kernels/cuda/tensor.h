// Operands of the kernels in device memory, passed by value.
#pragma once

#include <cstdint>

namespace hyena::kernels::cuda {

/// A (batch, channels, length) tensor, rows `row_stride` elements apart.
template <class T>
struct Tensor {
  T* data;
  std::int64_t row_stride;
  int batch, channels, length;
  __device__ __forceinline__ T* row(int b, int c) const {
    return data + (static_cast<std::int64_t>(b) * channels + c) * row_stride;
  }
};

/// Short convolutions of all 3 D channels: conv1d order (the last tap weighs "now"), up to 3 taps.
struct ShortConv {
  const float* weight;  // (3D, taps)
  const float* bias;    // (3D), or null
  int taps;
  /// k < 3: tap k counted from two steps back; k = 3: the bias.
  __device__ __forceinline__ float value(int channel, int k) const {
    if (k == 3) return bias != nullptr ? bias[channel] : 0.F;
    const int tap = k - (3 - taps);
    return tap >= 0 ? weight[channel * taps + tap] : 0.F;
  }
};

}  // namespace hyena::kernels::cuda
