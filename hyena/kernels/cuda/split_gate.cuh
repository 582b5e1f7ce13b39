// Gates of long rows: how a lane reads its times of a tile, with the two before them (or behind),
// and what it makes of them.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/split.h"
#include "hyena/kernels/cuda/split_copy.cuh"
#include "hyena/kernels/cuda/split_tile.cuh"
#include "hyena/kernels/cuda/tail.cuh"

namespace hyena::kernels::cuda {

/// Times of a block as a lane reads them for the first radix: 4 adjacent columns (4 g ..) of 8 rows
/// (s < 4, e < 2: o = s >> 1).
struct SplitGateAddress {
  uint32_t at, odd;
  __device__ __forceinline__ SplitGateAddress(uint32_t buffer, int log_c, int warp, int lane) {
    const int g = lane >> 2;
    const int r = first_row(log_c, warp, lane);
    odd = 1024U << log_c;
    at = buffer + ((warp >> log_c) << (11 + log_c)) + r * 64 + (((g >> 1) ^ ((r >> 1) & 3)) << 4) +
         8 * (g & 1);
  }
  static __device__ __forceinline__ int first_row(int log_c, int warp, int lane) {
    return 16 * (warp & ((1 << log_c) - 1)) + swap_low_bits(2 * (lane & 3));
  }
  __device__ __forceinline__ uint32_t times(int s, int e) const {
    return (e != 0 ? (at ^ 16) + 128 : at) + (s & 1) * 512 + (s > 1 ? odd : 0);
  }
};

/// The two times before a block in the rows of lanes g = 0, [s][e]: from the block before, or, for
/// a tile's first, from `edges`, where thread 32 warp + 8 t + 2 s + e left them.
struct GateEdges {
  uint32_t word[4][2];
  __device__ __forceinline__ GateEdges(uint32_t buffer, uint32_t edges, int log_c, int warp,
                                       int lane) {
    if (warp >> log_c != 0) {
      SplitGateAddress end(buffer, log_c, warp, lane);
      const int r = SplitGateAddress::first_row(log_c, warp, lane);
      end.at = buffer + (((warp >> log_c) - 1) << (11 + log_c)) + r * 64 +
               ((3 ^ ((r >> 1) & 3)) << 4) + 12;
#pragma unroll
      for (int s = 0; s < 4; ++s)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          word[s][e] = lane < 4 ? lds32(end.times(s, e)) : 0U;
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const uint4 v =
            lane < 4 ? lds128(edges + (warp * 4 + lane) * 32 + 16 * half) : make_uint4(0, 0, 0, 0);
        word[2 * half][0] = v.x;
        word[2 * half][1] = v.y;
        word[2 * half + 1][0] = v.z;
        word[2 * half + 1][1] = v.w;
      }
    }
  }
  /// The times before this lane's four, whose own last word is `last`.
  __device__ __forceinline__ uint32_t before(int s, int e, uint32_t last, int lane) const {
    const uint32_t left = __shfl_up_sync(~0U, last, 4);
    return lane < 4 ? word[s][e] : left;
  }
  /// n1 of what thread `tid` fetches.
  static __device__ __forceinline__ int row(int tid, int log_c) {
    const int k = 2 * ((tid >> 3) & 3) + (tid & 1) + 8 * ((tid >> 1) & 1);
    const int a = 2 * swap_low_bits(k) + ((tid >> 2) & 1);
    return (a << log_c) + (tid >> 5);
  }
};

/// Times of a block as a lane meets them behind the last radix: 4 adjacent columns (16 q + 4 t ..)
/// of 4 rows (i = o, r < 2).
struct SplitOutputAddress {
  uint32_t at, odd;
  __device__ __forceinline__ SplitOutputAddress(uint32_t buffer, int log_c, int warp, int lane) {
    const int t = lane & 3;
    const int row = first_row(log_c, warp, lane);
    odd = 1024U << log_c;
    at = buffer + ((warp >> log_c) << (11 + log_c)) + row * 64 +
         (((t >> 1) ^ ((row >> 1) & 3)) << 4) + 8 * (t & 1);
  }
  static __device__ __forceinline__ int first_row(int log_c, int warp, int lane) {
    return 16 * (warp & ((1 << log_c) - 1)) + swap_middle_bits(lane >> 2);
  }
  /// n1 of output row (i, r) of lane group g.
  static __device__ __forceinline__ int row(int i, int r, int g, int log_c, int warp) {
    const int a = 2 * (swap_middle_bits(g) + 8 * r) + i;
    return (a << log_c) + (warp & ((1 << log_c) - 1));
  }
  __device__ __forceinline__ uint32_t times(int i, int r, int q) const {
    return (q != 0 ? at ^ 32 : at) + r * 512 + (i != 0 ? odd : 0);
  }
};

/// The two times before (kSide = -1) or behind (1) a block in a lane's four rows, [i][r]: from the
/// neighbouring block, or beyond the tile from `edges`, where thread 32 b + 4 g + 2 i + r left
/// them.
template <int kSide>
struct OutputEdges {
  uint32_t word[2][2];
  __device__ __forceinline__ OutputEdges(uint32_t buffer, uint32_t edges, int log_c, int warp,
                                         int lane) {
    const int block = (warp >> log_c) + kSide;
    if (block >= 0 && block < (8 >> log_c)) {
      const int row = SplitOutputAddress::first_row(log_c, warp, lane);
      const uint32_t at = buffer + (block << (11 + log_c)) + row * 64 +
                          (((kSide < 0 ? 3 : 0) ^ ((row >> 1) & 3)) << 4) + (kSide < 0 ? 12 : 0);
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int r = 0; r < 2; ++r)
          word[i][r] = lds32(at + r * 512 + (i != 0 ? 1024U << log_c : 0U));
    } else {
      const uint4 v = lds128(edges + ((warp & ((1 << log_c) - 1)) * 8 + (lane >> 2)) * 16);
      word[0][0] = v.x;
      word[0][1] = v.y;
      word[1][0] = v.z;
      word[1][1] = v.w;
    }
  }
  static __device__ __forceinline__ int row(int tid, int log_c) {
    return SplitOutputAddress::row((tid >> 1) & 1, tid & 1, (tid >> 2) & 7, log_c, tid >> 5);
  }
};

/// The times before a lane's eight values x[q] of one row, whose block begins behind `edge`.
__device__ __forceinline__ void times_before(uint32_t (&before)[2], const uint2 (&x)[2],
                                             uint32_t edge, int lane) {
  const int t = lane & 3;
  const int source = (lane & 28) | ((t + 3) & 3);
  const uint32_t first = __shfl_sync(~0U, x[0].y, source);
  before[0] = t != 0 ? first : edge;
  before[1] = __shfl_sync(~0U, t == 3 ? x[0].y : x[1].y, source);
}

/// z of a warp's block, z[s][e][j] as SplitGateAddress: both inputs filtered, or the first. The
/// second input lies kInputBytes behind the first, its edges 1024 bytes.
template <class T, bool kBothFiltered>
__device__ __forceinline__ void gate_values(float (&z)[4][2][4], uint32_t buffer, uint32_t edges,
                                            const Fir& fa, const Fir& fb, int log_c, int warp,
                                            int lane) {
  using E = Element<T>;
  const SplitGateAddress in(buffer, log_c, warp, lane);
  const GateEdges edge_a(buffer, edges, log_c, warp, lane);
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const uint2 xa = lds64(in.times(i, e));
      float u[6];
      widen<T>(u, edge_a.before(i, e, xa.y, lane), xa);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        z[i][e][j] = fa(u + j);
    }
  const GateEdges edge_b(buffer + kInputBytes, edges + 1024, log_c, warp, lane);
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const uint2 xb = lds64(in.times(i, e) + kInputBytes);
      if (kBothFiltered) {
        float w[6];
        widen<T>(w, edge_b.before(i, e, xb.y, lane), xb);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          z[i][e][j] *= fb(w + j);
      } else {
        z[i][e][0] *= E::lo(xb.x);
        z[i][e][1] *= E::hi(xb.x);
        z[i][e][2] *= E::lo(xb.y);
        z[i][e][3] *= E::hi(xb.y);
      }
    }
}

/// The filter h (D, K) in place of z. The skip is one more tap at lag 0.
__device__ __forceinline__ void filter_values(float (&z)[4][2][4], const float* h_DK,
                                              const float* skip, int64_t filter_length,
                                              int64_t filter_stride, const SplitPlace& at,
                                              const SplitShape& s, int warp, int lane) {
  const float* h = h_DK + at.channel * filter_stride;
  const int b = warp & ((1 << s.log_c) - 1);
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int alpha = swap_low_bits(2 * (lane & 3) + e + 8 * (i & 1));
      const int n1 = ((2 * alpha + (i >> 1)) << s.log_c) + b;
      const int n = n1 * s.columns() + at.first_column + 32 * (warp >> s.log_c) + 4 * (lane >> 2);
      load_floats(z[i][e], h, n, filter_length);
    }
  if (at.first_column == 0 && warp == 0 && lane == 0 && skip != nullptr)
    z[0][0][0] += skip[at.channel];
}

/// y of a warp's block: inverse radix 32, short convolution of x0 (whose `f0` holds all scales),
/// gate; stored, or unless kRagged left in place of x0. `block`: of the row.
template <class T, bool kRagged>
__device__ __forceinline__ void gate_output(const Tensor<T>& y, const SplitPlace& at,
                                            const InverseOperand<true>& operand,
                                            const uint4 (&radix_t)[2][2], uint32_t x0,
                                            uint32_t edges, const Fir& f0, int block,
                                            const SplitShape& s, bool wide, int warp, int lane) {
  T* const row = y.row(at.batch, at.channel);
  const SplitOutputAddress in(x0, s.log_c, warp, lane);
  const OutputEdges<-1> edge(x0, edges, s.log_c, warp, lane);
  if (!kRagged && s.log_c < 3) __syncthreads();  // y takes the place of other blocks' edges
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float acc[2][2][4];
    operand.multiply(acc, radix_t, i);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int n1 = SplitOutputAddress::row(i, r, lane >> 2, s.log_c, warp);
      const uint2 x[2] = {lds64(in.times(i, r, 0)), lds64(in.times(i, r, 1))};
      uint32_t before[2];
      times_before(before, x, edge.word[i][r], lane);
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        float v[6];
        widen<T>(v, before[q], x[q]);
        float o[4];
#pragma unroll
        for (int j = 0; j < 4; ++j)
          o[j] = f0(v + j) * acc[q][j >> 1][2 * r + (j & 1)];
        const uint32_t w0 = Element<T>::pack(o[0], o[1]);
        const uint32_t w1 = Element<T>::pack(o[2], o[3]);
        if (kRagged) {
          const int n = n1 * s.columns() + 32 * block + 16 * q + 4 * (lane & 3);
          store4(row + n, w0, w1, y.length - n, wide);
        } else {
          sts64(in.times(i, r, q), w0, w1);
        }
      }
    }
  }
}

}  // namespace hyena::kernels::cuda
