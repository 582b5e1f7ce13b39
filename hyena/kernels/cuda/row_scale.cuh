// The power of two by which a row is scaled before it becomes fp16.
//
// Derived from the row alone: its largest |z| goes to [2^7, 2^8). Every stage of the transform is
// unitary or shrinks, and the spectrum is at most sqrt(2), so no intermediate exceeds
// sqrt(2) * 2^8 * sqrt(8192) < 2^15.1 < 65504: nothing overflows, whatever the data.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/ptx.cuh"

namespace hyena::kernels::cuda {

constexpr int kMaximaBytes = 16;  // [quad of rows][4 warps], or [8 warps]: biased exponents

/// The scale for a largest magnitude with this biased exponent. Rows of zeros, infinities or
/// not-a-numbers get an end of the range, so that scale and 1 / scale are normal numbers.
__device__ __forceinline__ float row_scale(uint32_t exponent) {
  return __uint_as_float((261U - min(max(exponent, 8U), 253U)) << 23);
}
/// 1 / scale, exact.
__device__ __forceinline__ float inverse_scale(float scale) {
  return __uint_as_float(0x7f000000U - __float_as_uint(scale));
}

/// Scales of a tile: one (kFull), or one for each quad of rows in lanes 0..3 (and copies).
template <bool kFull>
struct TileScale {
  float value;

  struct Nothing {
    __device__ __forceinline__ float operator()(int) const { return 0.F; }
  };
  /// Leaves the largest |z| of this warp's values in `maxima`, or also(s) of step s if that is
  /// larger; a barrier of the team must follow.
  template <class Also = Nothing>
  static __device__ __forceinline__ void publish(uint32_t maxima, const float (&z)[4][2][4],
                                                 int log_n1, int warp, int lane, Also also = {}) {
    float m[4];
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      m[s] = also(s);
#pragma unroll
      for (int e = 0; e < 2; ++e)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          m[s] = fmaxf(m[s], fabsf(z[s][e][j]));
    }
    if (kFull) {
      const float most = fmaxf(fmaxf(m[0], m[1]), fmaxf(m[2], m[3]));
      const uint32_t all = __reduce_max_sync(~0U, __float_as_uint(most));
      if (lane == 0) sts8(maxima + warp, all >> 23);
    } else {
      uint32_t mine = 0;  // lane q < 4 keeps quad q: rows 4 q .. 4 q + 3, held by t & 1 = q & 1
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const uint32_t v = __float_as_uint(fmaxf(m[s], m[s + 2]));
        if (log_n1 >= 3) {  // both quads belong to one batch row
          const uint32_t all = __reduce_max_sync(~0U, v);
          if ((lane >> 1) == s) mine = all;
        } else {
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const uint32_t all = __reduce_max_sync(~0U, (lane & 1) == h ? v : 0U);
            if (lane == 2 * s + h) mine = all;
          }
        }
      }
      if (lane < 4) sts8(maxima + 4 * lane + warp, mine >> 23);
    }
  }

  static __device__ __forceinline__ TileScale known(float value) {
    return TileScale(value);
  }

  /// Reads what all warps of the team published.
  __device__ __forceinline__ TileScale(uint32_t maxima, int log_n1, int lane) {
    uint32_t four;
    if (kFull) {
      const uint2 bytes = lds64(maxima);
      four = __vmaxu4(bytes.x, bytes.y);
    } else {
      four = lds32(maxima + 4 * (lane & 3));
    }
    const uint32_t two = __vmaxu4(four, four >> 16);
    uint32_t most = max(two & 0xffU, (two >> 8) & 0xffU);
    if (!kFull) {  // quads of one batch row
      if (log_n1 >= 3) most = max(most, __shfl_xor_sync(~0U, most, 1));
      if (log_n1 >= 4) most = max(most, __shfl_xor_sync(~0U, most, 2));
    }
    value = row_scale(most);
  }

  /// Of the rows that this lane gates at step s, and of output rows (i, r).
  __device__ __forceinline__ float gate(int s, int lane) const {
    return kFull ? value : __shfl_sync(~0U, value, 2 * (s & 1) + (lane & 1));
  }
  __device__ __forceinline__ float output(int r, int lane) const {
    return kFull ? value : __shfl_sync(~0U, value, 2 * r + ((lane >> 3) & 1));
  }

 private:
  __device__ __forceinline__ explicit TileScale(float v) : value(v) {}
};

}  // namespace hyena::kernels::cuda
