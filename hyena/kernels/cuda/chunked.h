// The kernels for rows of several tiles (L > 8192), in the order in which they run.
//
// Rows are cut into chunks of one tile. With U_j the right-angle spectrum of chunk j of z and H_m
// that of chunk m of the filter (spectrum.cu: the wrap-around of chunk m - 1 is inside),
//
//   C_c = sum_{j <= c} U_j H_{c-j}      DU_c = sum_{j >= c} G_j conj(H_{j-c})
//   S'_m = sum_c conj(U_c) G_{c+m}      S_m = S'_m + i S'_{m+1} (docs/math/cuda_chunks.md)
//
// analysis -> products -> synthesis, for a group of channels at a time, so that the spectra in
// between stay in the L2. Tiles of a group are ordered [channel][batch][chunk].
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

#include "hyena/kernels/cuda/spectrum_buffer.h"
#include "hyena/kernels/cuda/tensor.h"

namespace hyena::kernels::cuda {

/// A group of channels and its tiles.
struct ChunkGroup {
  int first_channel, channel_count, batch, chunks;
  [[nodiscard]] __host__ __device__ int tiles() const { return channel_count * batch * chunks; }
};

template <class T>
struct AnalysisArgs {
  Tensor<const T> a;   // filtered by the short convolution of its channel
  Tensor<const T> b;   // too (z: x1 and v of p), or not (g: x0 of p and dy)
  int part_a, part_b;  // which third of p; part_b of dy is 0
  ShortConv conv;
  SpectrumView filter;
  ChunkGroup group;
  bool wide;
  uint4* spectra;  // [tile]
  float* scale;    // [tile]: by which the spectrum was multiplied
};
template <class T>
void launch_analysis(const AnalysisArgs<T>& a, bool both_filtered, bool ragged, int blocks,
                     const CUtensorMap& map_a, const CUtensorMap& map_b, cudaStream_t stream);

struct ProductArgs {
  SpectrumView filter;
  ChunkGroup group;
  uint4* u;  // spectra of z, replaced by those of c
  uint4* g;  // spectra of g, replaced by those of du
  const float* u_scale;
  const float* g_scale;
  float* c_scale;
  float* du_scale;
  float2* sums;  // [channel][chunk][8192]: S'
};
void launch_convolution(const ProductArgs& a, cudaStream_t stream);  // u -> c
void launch_products(const ProductArgs& a, cudaStream_t stream);     // u, g -> c, du, sums

template <class T>
struct SynthesisArgs {
  Tensor<const T> p;
  Tensor<T> y;
  ShortConv conv;
  SpectrumView filter;
  ChunkGroup group;
  bool wide;
  const uint4* spectra;
  const float* scale;
};
template <class T>
void launch_synthesis(const SynthesisArgs<T>& a, bool ragged, int blocks, const CUtensorMap& map,
                      cudaStream_t stream);

/// Forward of rows of 2 to kSequentialChunks chunks in one kernel; `history` holds the spectra of
/// earlier chunks.
template <class T>
void launch_chunks_forward(const SynthesisArgs<T>& a, bool ragged, int blocks, uint4* history,
                           const CUtensorMap& map, cudaStream_t stream);
std::size_t chunks_forward_history(int blocks, int chunks);

}  // namespace hyena::kernels::cuda
