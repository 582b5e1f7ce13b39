// Pieces shared by the kernels that end in y = x0 * c: the last phase.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

/// y of one tile: inverse radix N1 (real part), short convolution of x0, gate, store.
/// `fir` holds every scale but, where batch rows share a tile, the rows' own.
template <class T, bool kFull, bool kRagged>
__device__ __forceinline__ void gate_output(const InverseOperand<kFull>& operand,
                                            const uint4 (&radix_t)[2][2],
                                            const OutputAddress<kFull>& x0, const Fir& fir,
                                            const TileScale<kFull>& scale, const Tensor<T>& y,
                                            int b0, int channel, int log_n1, bool wide, int warp,
                                            int lane) {
  const int g = lane >> 2;
  const int t = lane & 3;
  const int n1_mask = (1 << log_n1) - 1;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float acc[2][2][4];
    operand.multiply(acc, radix_t, i);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = OutputAddress<kFull>::row(i, r, g);
      Fir f = fir;
      if (!kFull) f.scale(inverse_scale(scale.output(i, r, lane)));
      const int b = b0 + (row >> log_n1);
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        const uint2 x = lds64(x0.times(i, r, q));
        uint32_t halo = lds32(x0.halo(i, r, q));
        const bool starts = kFull ? (q == 0 && i == 0 && r == 0 && warp == 0 && lane == 0)
                                  : (q == 0 && warp == 0 && t == 0 && (row & n1_mask) == 0);
        if (starts) halo = 0U;
        float v[6];
        widen<T>(v, halo, x);
        float o[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
          o[j] = f(v + j) * acc[q][j >> 1][2 * r + (j & 1)];
        const uint32_t w0 = Element<T>::pack(o[0], o[1]);
        const uint32_t w1 = Element<T>::pack(o[2], o[3]);
        const int n = (row & n1_mask) * 256 + 32 * warp + 16 * q + 4 * t;
        if (kFull || b < y.batch) {
          T* to = y.row(b, channel) + n;
          if (kRagged) {
            store4(to, w0, w1, y.length - n, wide);
          } else {
            *reinterpret_cast<uint2*>(to) = make_uint2(w0, w1);
          }
        }
      }
    }
  }
}

}  // namespace hyena::kernels::cuda
