// Last phase of the backward in a cluster: from c and du to the gradients of the short
// convolutions' inputs, which are read a second time, from the L2.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/backward.cuh"
#include "hyena/kernels/cuda/cluster.cuh"

namespace hyena::kernels::cuda {

/// Gradients of a tile of a cluster.
template <class T, int kLogC, bool kRagged>
struct ClusterGradients : GradientWriter<T, kRagged> {
  static constexpr int kRows = kTileRows;
  int batch;
  ClusterPlace<kLogC> place;
  __device__ __forceinline__ void store8(int channel, int row, int offset, uint4 v) const {
    this->put8(batch, channel, place.time(row) + offset, v);
  }
  __device__ __forceinline__ void store2(int channel, int row, int offset, uint32_t v) const {
    this->put2(batch, channel, place.time(row) + offset, v);
  }
};

/// Row r < 32 of the collected ones: which k1, which slice, where.
template <int kLogC>
struct WarpRow {
  int k1, offset, row;
  __device__ __forceinline__ WarpRow(int r, const ClusterPlace<kLogC>& place) {
    const int slice = r >> (5 - kLogC);
    k1 = (place.rank << (5 - kLogC)) + (r & ((kTileRows >> kLogC) - 1));
    offset = place.slice(slice);
    row = (k1 << kLogC) + slice;
  }
  __device__ __forceinline__ uint32_t points(uint32_t rows, int lane) const {
    return ExchangeAddress<>::row(rows, k1, lane) + offset;
  }
};

/// Two inputs of a lane in one row of its outputs, from memory; `n`: their first time.
template <class T, bool kRagged>
struct InputPair {
  LaneRow<T, kRagged> a, b;
  __device__ __forceinline__ void load(const T* row_a, const T* row_b, int n, int length, bool wide,
                                       int lane) {
    a.load(row_a, n, length, wide, lane);
    b.load(row_b, n, length, wide, lane);
  }
};

/// The last phase of one half: dq and dp of x0 from c, or of x1 and v from du (kDu).
template <class T, int kLogC, bool kRagged, bool kTail, bool kDu>
__device__ __forceinline__ void cluster_gradients(uint32_t operand, uint32_t matrix,
                                                  const TailView& tail, InputPair<T, kRagged>& next,
                                                  const T* row_a, const T* row_b, bool wide,
                                                  uint32_t fir_a, uint32_t fir_b, float factor,
                                                  const ClusterGradients<T, kLogC, kRagged>& out,
                                                  int channels, int channel, float (&par)[8],
                                                  uint32_t seams, int warp, int lane) {
  const int g = lane >> 2;
  const int t = lane & 3;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float acc[2][2][4];
    ColumnOperand(operand).multiply(acc, matrix, i, lane);  // loaded twice, not kept
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = 16 * i + 8 * r + g;
      const int n = out.place.time(row) + 32 * warp + 4 * t;
      const InputPair<T, kRagged> in = next;
      if (i + r < 2) next.load(row_a, row_b, n + (2048 << kLogC), out.dp.length, wide, lane);
      const Fir fa(fir_a);
      const Fir fb(kDu ? fir_b : fir_a);
      uint32_t before_a[2];
      uint32_t before_b[2] = {0, 0};
      in.a.before(before_a, lane);
      if (kDu) in.b.before(before_b, lane);
      float da[2][4];
      float db[2][4];
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        float a[6];
        float b[6];
        widen<T>(a, before_a[q], in.a.x[q]);
        widen<T>(b, before_b[q], in.b.x[q]);
        float d[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          d[j] = acc[q][j >> 1][2 * r + (j & 1)] * factor;
          if (kRagged && n + 16 * q + j >= out.dp.length) d[j] = 0.F;
        }
        if (kTail && kDu && n + 16 * q < kTailMax)
          add_tail_gradient(
              d, TailInMemory{tail, static_cast<int64_t>(out.batch) * channels + channel}, t);
        input_gradients<kDu>(da[q], db[q], d, a, b, fa, fb, par);
      }
      constexpr int kPart = kDu ? 1 : 0;
      transposed_fir<T>(out, da, fa, kPart, kPart * channels + channel, row, seams, warp, lane);
      if (kDu) transposed_fir<T>(out, db, fb, 2, 2 * channels + channel, row, seams, warp, lane);
    }
  }
}

}  // namespace hyena::kernels::cuda
