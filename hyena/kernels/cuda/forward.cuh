// Pieces shared by the kernels that end in y = x0 * c: the last phase.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

/// y of one tile: inverse radix N1 (real part), short convolution of x0, gate, store. `radix_t`:
/// load_inverse_matrix of step 0.
/// `fir` holds every scale but, where batch rows share a tile, the rows' own.
template <class T, bool kFull, bool kRagged>
__device__ __forceinline__ void gate_output(const StepOperands<kFull>& operands,
                                            uint4 (&radix_t)[2][2], const Tables* tables,
                                            const OutputAddress<kFull>& x0, const Fir& fir,
                                            const TileScale<kFull>& scale, const Tensor<T>& y,
                                            int b0, int channel, int log_n1, bool wide, int warp,
                                            int lane) {
  using Out = OutputAddress<kFull>;
  const int g = lane >> 2;
  const int t = lane & 3;
  const int n1_mask = (1 << log_n1) - 1;
  float down[2];  // of rows r
#pragma unroll
  for (int r = 0; !kFull && r < 2; ++r)
    down[r] = inverse_scale(scale.output(r, lane));
  auto step = [&](const InverseOperand<kFull>& operand, int i) {
    float acc[2][2][4];
    operand.multiply(acc, radix_t, i);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = Out::row(i, r, g);
      Fir f = fir;
      if (!kFull) f.scale(down[r]);
      const int b = b0 + (row >> log_n1);
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        const uint2 x = lds64(x0.times(i, r, q));
        uint32_t halo = lds32(x0.halo(i, r, q));
        if (q == 0 && Out::starts(i, r, log_n1, warp, lane)) halo = 0U;
        float v[6];
        widen<T>(v, halo, x);
        float o[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
          o[j] = f(v + j) * acc[q][j >> 1][2 * r + (j & 1)];
        const uint32_t w0 = Element<T>::pack(o[0], o[1]);
        const uint32_t w1 = Element<T>::pack(o[2], o[3]);
        const int n = (row & n1_mask) * 256 + 32 * Tile<kFull>::segment(warp, i) + 16 * q + 4 * t;
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
  };
  step(operands(0), 0);
  if (!kFull) load_inverse_matrix<false>(radix_t, tables, warp, 1, lane);
  step(operands(1), 1);
}

}  // namespace hyena::kernels::cuda
