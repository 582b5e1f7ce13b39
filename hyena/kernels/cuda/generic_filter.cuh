// Filters of the generic kernels as points of a transform, and their gradients from one. The host
// test runs the same code.
#pragma once

#include <cstdint>
#include <type_traits>

#include "hyena/kernels/cuda/generic.h"

namespace hyena::kernels::cuda::generic {

/// A channel's filters as the points of one transform of N = 2^kLog. A tap at lag -j is
/// x^-j = -i x^(N - j): the reverse filter fills the imaginary part, backwards, and lag 0 of both
/// meets in point 0.
template <int kLog, bool kReverse>
class FilterPoints {
 public:
  using Point = std::conditional_t<kReverse, float2, float>;

  __host__ __device__ __forceinline__ FilterPoints(const Filters& filters, int taps, int64_t d)
      : h_(filters.h + d * taps), taps_(taps) {
    if (filters.skip != nullptr) now_ = filters.skip[d];
    if constexpr (kReverse) {
      reverse_ = filters.reverse + d * taps;
      now_ += reverse_[0];
    }
  }
  /// Point n over N.
  __host__ __device__ __forceinline__ Point at(int n) const {
    constexpr float kScale = 1.F / (1 << kLog);
    const float real = ((n < taps_ ? h_[n] : 0.F) + (n == 0 ? now_ : 0.F)) * kScale;
    if constexpr (kReverse) {
      const int j = (1 << kLog) - n;  // N at n = 0, where no filter has a tap
      return make_float2(real, j < taps_ ? -reverse_[j] * kScale : 0.F);
    } else {
      return real;
    }
  }

 private:
  const float* h_;
  const float* reverse_ = nullptr;
  float now_ = 0.F;
  int taps_;
};

/// Point n of channel d's correlation, times N, to the gradients: FilterPoints backwards.
template <int kLog>
__host__ __device__ __forceinline__ void store_filter_gradients(const FilterGradients& to, int taps,
                                                                int64_t d, int n, float2 f) {
  constexpr float kScale = 1.F / (1 << kLog);
  const float v = f.x * kScale;
  if (n < taps) to.dh[d * taps + n] = v;
  if (n == 0) to.dskip[d] = v;
  if (to.dreverse == nullptr) return;
  const int j = (1 << kLog) - n;
  if (n == 0) to.dreverse[d * taps] = v;
  if (j < taps) to.dreverse[d * taps + j] = -f.y * kScale;
}

}  // namespace hyena::kernels::cuda::generic
