// What the row kernels of long rows share (split_rows.cu, split_deep_rows.cu).
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/row.cuh"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/split.h"
#include "hyena/kernels/cuda/split_tile.cuh"

namespace hyena::kernels::cuda {

/// k1 of scratch row kappa c + j.
__device__ __forceinline__ int split_frequency(int row, const SplitShape& s) {
  return (row >> s.log_c) + 32 * (row & ((1 << s.log_c) - 1));
}

/// A lane's ldmatrix row within a row of 256 points.
__device__ __forceinline__ uint32_t point_offset(int lane) {
  const int r = lane & 7;
  const int h = (lane >> 3) & 1;
  const int block = 2 * (r >> 1) + h;
  return block_position(block) * 64 + ((((r & 1) * 2 + (lane >> 4)) ^ block_twist(block)) << 4);
}

/// exp(-2 pi i m (k - 1/4) / N) for the points of a lane, N = 2^log_n.
__device__ __forceinline__ void row_twist(RowData& w, int k, int log_n, int lane) {
  const int g = lane >> 2;
  const int t = lane & 3;
#pragma unroll
  for (int q = 0; q < 4; ++q) {
    float re[2];
    float im[2];
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int m = 16 * pi(8 * (q & 1) + 2 * t + e) + pi(8 * (q >> 1) + g);
      // below 2^24, so exact
      const float turns = static_cast<float>(m * (4 * k - 1)) / static_cast<float>(2 << log_n);
      sincospif(-turns, &im[e], &re[e]);
    }
    w.re[q] = pack_half(re[0], re[1]);
    w.im[q] = pack_half(im[0], im[1]);
  }
}

/// The power of two that makes channel d's spectrum so small that no component exceeds 1.
__device__ __forceinline__ uint32_t spectrum_factor(const SplitFilter& filter, int d) {
  const int exponent = static_cast<int>(__ldg(filter.exponent + d));
  return half_power(exponent > 126 ? exponent - 126 : 0);
}
template <class Row>
constexpr int kWords = sizeof(Row) / 8;  // of its real, or imaginary, parts
template <class Row>
__device__ __forceinline__ void shrink(Row& x, uint32_t factor) {
#pragma unroll
  for (int q = 0; q < kWords<Row>; ++q) {
    x.re[q] = half_product(x.re[q], factor);
    x.im[q] = half_product(x.im[q], factor);
  }
}

/// Row `row` of channel d's spectrum, to be shrunk where it is used, long after it was asked for.
__device__ __forceinline__ void load_spectrum(RowData& x, const SplitFilter& filter, int d, int row,
                                              const SplitShape& s, int lane) {
  const int64_t rows = static_cast<int64_t>(s.rows()) << s.log_rho;
  load_fragment(x, filter.spectrum + (d * rows + row) * 64 + lane);
}

/// Asks for the twist and the spectrum of a row, 1 KiB each: they come while others compute.
__device__ __forceinline__ void prefetch_row(const uint4* twists, const SplitFilter& filter, int d,
                                             int row, const SplitShape& s, int lane) {
  const int64_t rows = static_cast<int64_t>(s.rows()) << s.log_rho;
  const uint4* const line = lane < 8 ? twists + row * 64 : filter.spectrum + (d * rows + row) * 64;
  if (lane < 16) prefetch_line(line + 8 * (lane & 7));
}

/// Row `row` of channel d's spectrum from accumulators, as the transform of `scale` h.
__device__ __forceinline__ void store_spectrum(const SplitSpectrum& to, int d, int row,
                                               const SplitShape& s, float scale,
                                               const float (&re)[2][4], const float (&im)[2][4],
                                               int lane) {
  uint32_t w[2][4];
  float largest = 0.F;
#pragma unroll
  for (int q = 0; q < 2; ++q) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      w[0][2 * q + r] = pack_half(re[q][2 * r], re[q][2 * r + 1]);
      w[1][2 * q + r] = pack_half(im[q][2 * r], im[q][2 * r + 1]);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
      largest = fmaxf(largest, fmaxf(fabsf(re[q][j]), fabsf(im[q][j])));
  }
  const uint32_t bits = __reduce_max_sync(~0U, __float_as_uint(largest));
  const int64_t rows = static_cast<int64_t>(s.rows()) << s.log_rho;
  uint4* vectors = to.spectrum + (d * rows + row) * 64 + lane;
  vectors[0] = make_uint4(w[0][0], w[0][1], w[0][2], w[0][3]);
  vectors[32] = make_uint4(w[1][0], w[1][1], w[1][2], w[1][3]);
  if (lane == 0) {
    atomicMax(to.exponent + d, bits >> 23);  // a maximum: any order gives the same
    if (row == 0) to.scale[d] = scale;
  }
}

/// sum += conj(z) g weight, or = if `first`.
__device__ __forceinline__ void add_product(float (&sum_re)[8], float (&sum_im)[8],
                                            const float (&zr)[2][4], const float (&zi)[2][4],
                                            const float (&gr)[2][4], const float (&gi)[2][4],
                                            float weight, bool first) {
#pragma unroll
  for (int q = 0; q < 2; ++q)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int e = 4 * q + j;
      const float re = first ? 0.F : sum_re[e];
      const float im = first ? 0.F : sum_im[e];
      sum_re[e] = fmaf(fmaf(zr[q][j], gr[q][j], zi[q][j] * gi[q][j]), weight, re);
      sum_im[e] = fmaf(fmaf(zr[q][j], gi[q][j], -zi[q][j] * gr[q][j]), weight, im);
    }
}

/// A row of sums in half precision with a scale of its own; returns its exponent.
__device__ __forceinline__ uint32_t scaled_sum(RowData& x, const float (&re)[8],
                                               const float (&im)[8], const SplitShape& s) {
  float largest = 0.F;
#pragma unroll
  for (int e = 0; e < 8; ++e)
    largest = fmaxf(largest, fmaxf(fabsf(re[e]), fabsf(im[e])));
  const uint32_t bits = __reduce_max_sync(~0U, __float_as_uint(largest));
  const uint32_t exponent = min(max(bits >> 23, 8U), 253U);
  const float up = split_scale(exponent, s);
#pragma unroll
  for (int q = 0; q < 4; ++q) {
    x.re[q] = pack_half(re[2 * q] * up, re[2 * q + 1] * up);
    x.im[q] = pack_half(im[2 * q] * up, im[2 * q + 1] * up);
  }
  return exponent;
}

}  // namespace hyena::kernels::cuda
