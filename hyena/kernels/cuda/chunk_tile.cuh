// What the chunked kernels share: places of tiles, edges of chunks, constants.
#pragma once

#include "hyena/kernels/cuda/chunked.h"
#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/row.cuh"
#include "hyena/kernels/cuda/tables.cuh"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

struct ChunkPlace {
  int channel, batch, chunk;
  __device__ __forceinline__ ChunkPlace(const ChunkGroup& g, int tile)
      : channel(g.first_channel + tile / (g.batch * g.chunks)),
        batch(tile / g.chunks % g.batch),
        chunk(tile % g.chunks) {}
  __device__ __forceinline__ int start() const { return chunk * kTilePoints; }
};

/// The two elements before a chunk: the end of the chunk before, zeros at the start of the row.
template <class T>
__device__ __forceinline__ uint32_t chunk_edge(const Tensor<const T>& x, int channel,
                                               const ChunkPlace& w) {
  if (w.chunk == 0) return 0U;
  return __ldg(reinterpret_cast<const unsigned*>(x.row(w.batch, channel) + w.start() - 2));
}

__device__ __forceinline__ Fir channel_fir(const ShortConv& conv, int channel) {
  return Fir(conv.value(channel, 0), conv.value(channel, 1), conv.value(channel, 2),
             conv.value(channel, 3));
}

__device__ __forceinline__ void load_row_constants(RowConstants& k, const Tables* tables,
                                                   int lane) {
  auto get = [&](uint32_t(&r)[4], int i) {
    const uint4 v = ldg128(tables->row + 32 * i + lane);
    r[0] = v.x;
    r[1] = v.y;
    r[2] = v.z;
    r[3] = v.w;
  };
  get(k.re, 0);
  get(k.im, 1);
  get(k.minus_im, 2);
  get(k.twiddle_re, 3);
  get(k.twiddle_im, 4);
}

}  // namespace hyena::kernels::cuda
