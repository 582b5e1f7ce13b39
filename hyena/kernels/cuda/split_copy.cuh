// Copies of a tile of long rows between device memory and shared memory.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/split.h"
#include "hyena/kernels/cuda/split_tile.cuh"

namespace hyena::kernels::cuda {

/// n1 of row r = 16 (c o + b) + alpha of the input layout.
__device__ __forceinline__ int split_n1(int r, int log_c) {
  return ((2 * (r & 15)) << log_c) + (r >> 4);
}

/// One input of a tile to shared memory, by 256 threads, or by the copy engine (thread 0) unless
/// kRagged. The caller expects 16 KiB at `bar` and arrives there with async_copy_arrive.
template <bool kRagged, class T>
__device__ __forceinline__ void load_split_input(const Tensor<const T>& x, const CUtensorMap* map,
                                                 const SplitPlace& at, int channel, uint32_t to,
                                                 const SplitShape& s, bool wide, uint32_t bar,
                                                 int tid) {
  const int log_rows = 5 + s.log_c;
  if (kRagged) {
    const T* const from = x.row(at.batch, channel);
#pragma unroll 1
    for (int i = tid; i < kTilePoints / 8; i += 256) {
      const int row = i >> 2;  // 64-byte rows of all blocks
      const int r = row & (s.rows() - 1);
      const int n = split_n1(r, s.log_c) * s.columns() + at.first_column + 32 * (row >> log_rows) +
                    8 * (i & 3);
      const int valid = 2 * min(max(x.length - n, 0), 8);
      const uint32_t dst = to + row * 64 + (((i & 3) ^ ((r >> 1) & 3)) << 4);
      if (wide) {
        async_copy<16>(dst, valid > 0 ? from + n : x.data, valid);
      } else {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const int part = min(max(valid - 4 * k, 0), 4);
          async_copy<4>(dst + 4 * k, part > 0 ? from + n + 2 * k : x.data, part);
        }
      }
    }
  } else if (tid == 0) {
    for (int i = 0; i < (8 >> s.log_c); ++i)
      tensor_load(to + (i << (6 + log_rows)), map, 0, 0, (at.first_column >> 5) + i,
                  at.batch * x.channels + channel, bar);
  }
}

/// The two times before a tile's first column, or behind its last, in every row: thread tid < C
/// fetches those of n1 = `row`, zeros outside of the tensor's rows.
template <class T>
__device__ __forceinline__ void load_split_edge(const Tensor<const T>& x, const SplitPlace& at,
                                                int channel, uint32_t edges, const SplitShape& s,
                                                int row, int column, int tid) {
  if (tid >= s.rows()) return;
  const int n = row * s.columns() + at.first_column + column;
  const int valid = n >= 0 ? 2 * min(max(x.length - n, 0), 2) : 0;
  async_copy<4>(edges + tid * 4, valid > 0 ? x.row(at.batch, channel) + n : x.data, valid);
}

/// Taps and bias of a channel's short convolution to shared memory, by four threads, k < 4: what
/// Fir(to) reads.
__device__ __forceinline__ void load_fir(uint32_t to, const ShortConv& conv, int channel, int k) {
  const int tap = k - (3 - conv.taps);
  const bool exists = k == 3 ? conv.bias != nullptr : tap >= 0;
  const float* from = k == 3 ? conv.bias + channel : conv.weight + channel * conv.taps + tap;
  async_copy<4>(to + 4 * k, exists ? from : conv.weight, exists ? 4 : 0);
}

/// The planes of a tile between scratch and shared memory, by one thread. `more`: bytes that the
/// caller will copy besides.
__device__ __forceinline__ void load_split_planes(uint32_t to, const CUtensorMap* map,
                                                  const SplitPlace& at, const SplitShape& s,
                                                  uint32_t bar, int more = 0) {
  mbarrier_expect(bar, kExchangeBytes + more);
  for (int i = 0; i < (8 >> s.log_c); ++i) {
    const int block = (at.first_column >> 5) + i;
    for (int plane = 0; plane < 2; ++plane)
      tensor_load(to + plane * kPlaneBytes + (i << (11 + s.log_c)), map,
                  block_position(block) + 8 * plane, block >> 3, 0, at.row, bar);
  }
}
__device__ __forceinline__ void store_split_planes(uint32_t from, const CUtensorMap* map,
                                                   const SplitPlace& at, const SplitShape& s) {
  for (int i = 0; i < (8 >> s.log_c); ++i) {
    const int block = (at.first_column >> 5) + i;
    for (int plane = 0; plane < 2; ++plane)
      tensor_store(map, from + plane * kPlaneBytes + (i << (11 + s.log_c)),
                   block_position(block) + 8 * plane, block >> 3, 0, at.row);
  }
  bulk_commit();
}

/// y of a tile from its place to memory, by one thread.
__device__ __forceinline__ void store_split_output(uint32_t from, const CUtensorMap* map,
                                                   const SplitPlace& at, int channels,
                                                   const SplitShape& s) {
  for (int i = 0; i < (8 >> s.log_c); ++i)
    tensor_store(map, from + (i << (11 + s.log_c)), 0, 0, (at.first_column >> 5) + i,
                 at.batch * channels + at.channel);
  bulk_commit();
}

/// Four floats of a row from its element n on, zeros behind the row's `length`.
__device__ __forceinline__ void load_floats(float (&z)[4], const float* row, int n,
                                            int64_t length) {
  if (reinterpret_cast<uintptr_t>(row) % 16 == 0 && n + 4 <= length) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(row + n));
    z[0] = v.x;
    z[1] = v.y;
    z[2] = v.z;
    z[3] = v.w;
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j)
      z[j] = n + j < length ? __ldg(row + n + j) : 0.F;
  }
}
/// Four floats, of which `left` exist.
__device__ __forceinline__ void store_floats(float* to, const float (&v)[4], int64_t left) {
  if (reinterpret_cast<uintptr_t>(to) % 16 == 0 && left >= 4) {
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j)
      if (j < left) to[j] = v[j];
  }
}

}  // namespace hyena::kernels::cuda
