// Rows of N = 8192 c points, c = 2, 4, 8, in the shared memory of a cluster of c blocks.
//
// A row is a matrix of C = 32 c rows n1 of 256 columns. Block tau holds the tile of rows n1 = c m +
// tau, m < 32, as tile.cuh places it. Between the column and the row phase
//
//   columns   E_tau[k][j] = sum_m z[256 (c m + tau) + j] exp(-2 pi i (c m + tau) (k - 1/4) / C)
//   exchange  block b collects the rows k = (32 / c) b .. of all tau
//   radix c   X[k + 32 s][j] = sum_tau E_tau[k][j] exp(-2 pi i tau s / c), in the registers of the
//             warp that goes on with rows k + 32 s
//
// `planes` holds a block's E by k, `rows` what it collected: slice tau of both is 32 / c rows k of
// tau. A slice leaves for the block from which its space will be filled again, so that nothing is
// overwritten before it was read. A block's own slice is written where it is needed.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/split.h"
#include "hyena/kernels/cuda/split_copy.cuh"
#include "hyena/kernels/cuda/tail.cuh"
#include "hyena/kernels/cuda/tensor.h"

namespace hyena::kernels::cuda {

constexpr int kClusterThreads = 256;

/// A block's place in its cluster, and the rows of 256 points of its warps: four for each, which a
/// warp keeps in registers.
template <int kLogC>
struct ClusterPlace {
  static constexpr int kC = 1 << kLogC;
  static constexpr int kSlice = kPlaneBytes >> kLogC;
  int rank;

  /// Time of column 0 of tile row m.
  __device__ __forceinline__ int time(int m) const { return 256 * ((m << kLogC) + rank); }
  /// k of position p < 4 of a warp: two rows k of c = 2, one of c = 4, one for two warps of c = 8.
  __device__ __forceinline__ int k(int p, int warp) const {
    return (rank << (5 - kLogC)) + (kLogC == 1   ? warp + 8 * (p >> 1)
                                    : kLogC == 2 ? warp
                                                 : warp >> 1);
  }
  /// Which s a radix c of c values leaves at position p.
  static __host__ __device__ constexpr int order(int p) {
    const int swapped = 2 * (p & 1) + ((p >> 1) & 1);
    return kLogC == 1 ? p : kLogC == 2 ? swapped : 2 * swapped + (p >> 2);
  }
  /// ... and at position p of a warp's four rows; of c = 8 the odd warp has the odd ones.
  static __device__ __forceinline__ int s(int p, int warp) {
    return kLogC == 1 ? p & 1 : order(p) + (kLogC == 3 ? warp & 1 : 0);
  }
  /// Row of the spectrum and of the twists.
  __device__ __forceinline__ int row(int p, int warp) const {
    return (k(p, warp) << kLogC) + s(p, warp);
  }
  /// From slice 0 of `rows`, whose rows begin with this block's first k, to that of tau.
  __device__ __forceinline__ int slice(int tau) const { return (tau - rank) * kSlice; }
  /// Where slice tau stands once it is ready to go back: this block's own in `planes`.
  __device__ __forceinline__ int back(int tau, int planes_to_rows) const {
    return slice(tau) - (tau == rank ? planes_to_rows : 0);
  }
};

/// Every slice but its own to the block whose it is, by one warp. `bar` counts kExchangeBytes less
/// a slice of both planes at each block.
template <int kLogC>
__device__ __forceinline__ void exchange_slices(uint32_t from, uint32_t to, uint32_t bar, int rank,
                                                int lane) {
  constexpr int kSlice = ClusterPlace<kLogC>::kSlice;
  const int other = lane >> 1;
  if (other >= (1 << kLogC) || other == rank) return;
  const int plane = (lane & 1) * kPlaneBytes;
  remote_copy(remote_address(to + plane + rank * kSlice, other), from + plane + other * kSlice,
              kSlice, remote_address(bar, other));
}
template <int kLogC>
constexpr int kExchangedBytes = kExchangeBytes - (kExchangeBytes >> kLogC);

/// One input of a tile to shared memory, by all threads, or by the copy engine (thread 0) unless
/// kRagged. The caller expects kInputBytes at `bar` and arrives there with async_copy_arrive.
template <int kLogC, bool kRagged, class T>
__device__ __forceinline__ void load_cluster_input(const Tensor<const T>& x, const CUtensorMap* map,
                                                   int batch, int channel,
                                                   const ClusterPlace<kLogC>& place, uint32_t to,
                                                   bool wide, uint32_t bar, int tid) {
  if (kRagged) {
    const T* const from = x.row(batch, channel);
#pragma unroll 1
    for (int i = tid; i < kTilePoints / 8; i += kClusterThreads) {
      const int m = i >> 5;
      const int n = place.time(m) + 8 * (i & 31);
      copy_eight(at_time(to, m, 8 * (i & 31)), from, n, x.length, wide);
    }
  } else if (tid == 0) {
    tensor_load(to, map, 0, place.rank, 0, batch * x.channels + channel, bar);
  }
}

/// The two times before each row of a tile, by 32 threads; zeros outside of the tensor's rows.
template <int kLogC, class T>
__device__ __forceinline__ void load_cluster_edge(const Tensor<const T>& x, int batch, int channel,
                                                  const ClusterPlace<kLogC>& place, uint32_t edges,
                                                  int tid) {
  if (tid >= kTileRows) return;
  const int n = place.time(tid) - 2;
  const int valid = n >= 0 ? 2 * min(max(x.length - n, 0), 2) : 0;
  async_copy<4>(edges + tid * 4, valid > 0 ? x.row(batch, channel) + n : x.data, valid);
}

/// What a lane reads of x1 or v: as GateAddress, the times before a row from `edges`, where lane m
/// of a warp left those of row m.
struct ClusterGateAddress : GateAddress<true> {
  uint32_t unit;
  __device__ __forceinline__ ClusterGateAddress(uint32_t buffer, uint32_t edges, int warp, int lane)
      : GateAddress<true>(buffer, warp, lane), unit(1024) {
    if (warp == 0 && lane < 4) {
      unit = 32;
      halo0 = edges + 4 * first_row(lane);
      halo1 = halo0 + 4;
    }
  }
  __device__ __forceinline__ uint32_t halo(int s, int e) const {
    return (s > 1 ? halo1 : halo0) + (2 * (s & 1) + e) * unit;
  }
  /// Row of the tile at step (s, e).
  static __device__ __forceinline__ int row(int s, int e, int lane) {
    return first_row(lane & 3) + (s >> 1) + 16 * (s & 1) + 8 * e;
  }
};

/// Eight elements of a row as a lane meets them behind the last radix (times n + 16 q ..), with the
/// two before them, straight from memory. Lanes 4 g .. 4 g + 3 have adjacent fours.
template <class T, bool kRagged>
struct LaneRow {
  uint2 x[2];
  uint32_t edge;  // before the first lane's

  __device__ __forceinline__ void load(const T* row, int n, int length, bool wide, int lane) {
#pragma unroll
    for (int q = 0; q < 2; ++q)
      x[q] = four(row + n + 16 * q, length - n - 16 * q, wide);
    const bool exists = n > 0 && (!kRagged || n < length);
    edge = (lane & 3) == 0 && exists ? ldg32(row + n - 2) : 0U;
  }
  __device__ __forceinline__ void before(uint32_t (&words)[2], int lane) const {
    const int t = lane & 3;
    const int source = (lane & 28) | ((t + 3) & 3);
    const uint32_t first = __shfl_sync(~0U, x[0].y, source);
    words[0] = t != 0 ? first : edge;
    words[1] = __shfl_sync(~0U, t == 3 ? x[0].y : x[1].y, source);
  }

 private:
  /// Four elements, of which `left` exist; rows end on whole words.
  static __device__ __forceinline__ uint2 four(const T* from, int left, bool wide) {
    if (!kRagged || (wide && left >= 4)) return ldg64(from);
    return make_uint2(left > 0 ? ldg32(from) : 0U, left > 2 ? ldg32(from + 2) : 0U);
  }
};

/// Radix 32 over the rows of a tile, real input, twist of tau inside. Rows of this block's own
/// slice go to `rows`, planes_to_rows behind. `matrix`: fragments [re, im][16 k][parity of m][lane]
/// in shared memory. `imaginary` as radix_forward.
template <int kLogC, class Imaginary = NoTail>
__device__ __forceinline__ void radix_columns(const uint32_t (&zb)[4][4], uint32_t matrix,
                                              uint32_t store, int planes_to_rows, int rank,
                                              int lane, Imaginary imaginary = {}) {
#pragma unroll
  for (int part = 0; part < 2; ++part)
#pragma unroll
    for (int block = 0; block < 2; ++block) {
      uint32_t even[4];
      uint32_t odd[4];
      lds128(even, matrix + (part * 4 + block * 2) * 512 + lane * 16);
      lds128(odd, matrix + (part * 4 + block * 2 + 1) * 512 + lane * 16);
      float x[4][4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        mma_first(x[j], even, zb[j][0], zb[j][1]);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        mma(x[j], odd, zb[j][2], zb[j][3]);
      if (part == 1) imaginary(x, 16 * block);
#pragma unroll
      for (int r = 0; r < 2; ++r) {  // k = 16 block + 8 r + g
        const int k = 16 * block + 8 * r + (kLogC == 3 ? lane >> 2 : 0);
        const uint32_t to = store + part * kPlaneBytes + (2 * block + r) * 4096 +
                            ((k >> (5 - kLogC)) == rank ? planes_to_rows : 0);
        sts64(to, pack_half(x[0][2 * r], x[1][2 * r]), pack_half(x[0][2 * r + 1], x[1][2 * r + 1]));
        sts64(to ^ 16, pack_half(x[2][2 * r], x[3][2 * r]),
              pack_half(x[2][2 * r + 1], x[3][2 * r + 1]));
      }
    }
}

/// The way back: rows of the exchange buffer as operands, [n2][chunk][k1 block], and their
/// products.
struct ColumnOperand {
  uint32_t re[2][2][4], im[2][2][4];
  __device__ __forceinline__ explicit ColumnOperand(uint32_t load) {
#pragma unroll
    for (int q = 0; q < 2; ++q)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        ldmatrix_trans(re[q][c], load ^ (32 * q + 16 * c));
        ldmatrix_trans(im[q][c], (load ^ (32 * q + 16 * c)) + kPlaneBytes);
      }
  }
  /// Imaginary part: acc[j >> 1][j & 1] is time 4 t + j of row m = g.
  __device__ __forceinline__ void imaginary(float (&acc)[2][4], uint32_t matrix, int lane) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t a[4];
      uint32_t b[4];
      lds128(a, matrix + half * 512 + lane * 16);
      lds128(b, matrix + (4 + half) * 512 + lane * 16);
#pragma unroll
      for (uint32_t& w : b)
        w ^= 0x80008000U;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (half == 0) {
          mma_first(acc[h], a, im[0][h][0], im[0][h][1]);
        } else {
          mma(acc[h], a, im[0][h][2], im[0][h][3]);
        }
        mma(acc[h], b, re[0][h][2 * half], re[0][h][2 * half + 1]);
      }
    }
  }
  /// acc[q][j >> 1][2 r + (j & 1)] is time 16 q + 4 t + j of row m = 16 i + 8 r + g.
  /// `matrix`: fragments [re, im][16 m][16 k][lane].
  __device__ __forceinline__ void multiply(float (&acc)[2][2][4], uint32_t matrix, int i,
                                           int lane) const {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const int half = step & 1;
      uint32_t a[4];
      lds128(a, matrix + ((step >> 1) * 4 + i * 2 + half) * 512 + lane * 16);
#pragma unroll
      for (int q = 0; q < 2; ++q)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const uint32_t(&x)[4] = step < 2 ? re[q][h] : im[q][h];
          if (step == 0) {
            mma_first(acc[q][h], a, x[0], x[1]);
          } else {
            mma(acc[q][h], a, x[2 * half], x[2 * half + 1]);
          }
        }
    }
  }
};

/// The imaginary part of c at a row's first times, by the warp that has them.
__device__ __forceinline__ void hand_out_tail(const ColumnOperand& operand, uint32_t matrix,
                                              const TailView& tail, int64_t row, float factor,
                                              int lane) {
  float acc[2][4];
  operand.imaginary(acc, matrix, lane);
  if (lane < 4) store_tail(tail, row, acc, 0, factor, lane);
}

}  // namespace hyena::kernels::cuda
