// The kernels for rows of more than 8192 points.
//
// A row of N = C x 256 rho points is a matrix of C rows n1 of 256 rho columns m:
//
//   columns   A[k1][m] = sum_n1 z[256 rho n1 + m] exp(-2 pi i n1 (k1 - 1/4) / C)
//   rows      twist exp(-2 pi i m (k1 - 1/4) / N), transform over m, product with the filter's
//             spectrum, and back
//   columns   inverse over k1, gates, short convolutions           (docs/math/cuda_split.md)
//
// N <= 65536 (rho = 1)  everything in one pass, a row in a cluster of c blocks: cluster_forward.cu,
//                       cluster_backward.cu
// beyond (c = 8)        forward: split_analysis, split_deep_rows, split_synthesis
//                       backward: split_analysis of z and of g, split_deep_rows, split_gradients
//                       from c, from du, split_filter_gradient; what passes between these kernels
//                       is fp16, one complex number per point, in device memory
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "hyena/kernels/cuda/tail.h"
#include "hyena/kernels/cuda/tensor.h"
#include "hyena/kernels/hyena_mixer_cuda.h"

namespace hyena::kernels::cuda {

/// Constants of the column and row transforms, written by launch_split_tables.
struct SplitTables {
  uint4 radix[2 * 2 * 32];         // radix 32 of real input, A operand: [re, im][parity][lane]
  uint4 radix_t[2 * 2 * 32];       // its transpose
  uint4 radix_t_next[2 * 2 * 32];  // the same for the next n1 / c: shifted by one
  uint4 wgmma_b[160];              // as Tables
  uint4 row[5 * 32];
  uint4 outer[16 * 2 * 32];  // radix c with its twiddle: [group][re, im][16 rows][16 columns]
};
constexpr int kSplitTableVectors = sizeof(SplitTables) / 16;

/// How a row is cut. C = 32 c.
struct SplitShape {
  int log_c;    // 1 to 3
  int log_rho;  // columns: 256 rho
  __host__ __device__ int rows() const { return 32 << log_c; }
  __host__ __device__ int columns() const { return 256 << log_rho; }
  __host__ __device__ int tile_columns() const { return 256 >> log_c; }
  __host__ __device__ int log_tiles() const { return log_c + log_rho; }  // of a row
  __host__ __device__ int log_points() const { return 13 + log_c + log_rho; }
  /// Bits by which the scale of a row stays below row_scale(), so that no intermediate overflows.
  __host__ __device__ int headroom() const { return (log_c + log_rho + 1) / 2; }
  /// Each transform multiplies by F = 2^-7 (radix 32, 16 x 16) and about 1 / sqrt(c rho); a
  /// filter's, a row's and the inverse together leave 2^-gain_exponent() = F^3 N to be undone.
  __host__ __device__ int gain_exponent() const {
    return 3 * (7 + (log_c + 1) / 2 + (log_rho + 1) / 2) - log_points();
  }
};

/// A filter's spectrum. The rows multiply it so that no component exceeds 1.
struct SplitFilter {
  const SplitTables* tables;
  const float* scale;        // [D]: by which h was multiplied
  const uint32_t* exponent;  // [D]: biased, of the largest stored component; above 126 it counts
  const uint4* spectrum;     // [D][C rho][re, im][lane]
};

/// The same, being written.
struct SplitSpectrum {
  float* scale;
  uint32_t* exponent;  // zeros before
  uint4* spectrum;
};

template <class T>
struct SplitAnalysisArgs {
  Tensor<const T> a;   // filtered by the short convolution of its channel
  Tensor<const T> b;   // too (z: x1 and v of p), or not (g: x0 of p and dy)
  int part_a, part_b;  // which third of p; part_b of dy is 0
  ShortConv conv;
  const SplitTables* tables;
  SplitShape shape;
  int channels;
  bool wide;
  uint32_t* exponents;  // [channel][batch][tile]: biased exponent of the largest |z|
  TailView tail;        // of g
  // the filter as input: (D, K) float32
  const float* h;
  const float* skip;
  int64_t filter_length, filter_stride;
};

/// What the row kernels do with a row.
enum class Rows { kFilter, kForward, kBackward };

struct SplitRowsArgs {
  void* data[2];  // scratch of z and g, replaced by those of c and du; or of the filter
  const uint32_t* exponents[2];
  SplitFilter filter;
  SplitShape shape;
  int channels, batch;
  const SplitTables* tables;
  SplitSpectrum spectrum;   // written for the filter
  void* sums;               // written by the backward: rows of dh's spectrum, transformed back
  uint32_t* sum_exponents;  // [channel][row]: biased, of a row's largest |S|
};

template <class T>
struct SplitSynthesisArgs {
  Tensor<const T> p;
  Tensor<T> y;
  ShortConv conv;
  SplitFilter filter;
  SplitShape shape;
  bool wide;
  const uint32_t* exponents;  // of z
  TailView tail;
};

template <class T>
struct SplitGradientArgs {
  Tensor<const T> a, b;  // x0 and dy (from c), or x1 and v (from du); a, b in p but dy
  int part_a, part_b;    // as in SplitAnalysisArgs
  Tensor<T> dp;
  ShortConv conv;
  SplitFilter filter;
  SplitShape shape;
  bool wide;
  const uint32_t* exponents;  // of z or of g
  float* parameter_sums;      // [channel][batch][tile][12]
  TailView tail;
};

struct SplitFilterGradientArgs {
  CudaMixerGradients to;
  const SplitTables* tables;
  SplitShape shape;
  int channels, batch, taps;
  int64_t filter_length, filter_stride;
  const uint32_t* sum_exponents;
  const float* parameter_sums;
};

/// Rows of up to 65536 points in one pass (cluster_forward.cu).
template <class T>
struct ClusterArgs {
  Tensor<const T> p;
  Tensor<T> y;
  ShortConv conv;
  SplitFilter filter;
  const SplitTables* tables;
  const uint4* twists;  // [C][re, im][lane]
  const uint4* radix;   // [tau][there, back][re, im][2 x 2 blocks of 16 x 16][lane]
  SplitShape shape;
  int channels;
  bool wide;
  TailView tail;
  // the filter as input: (D, K) float32
  const float* h;
  const float* skip;
  int64_t filter_length, filter_stride;
  SplitSpectrum spectrum;
};
template <class T>
void launch_cluster_forward(const ClusterArgs<T>& a, bool ragged, const CUtensorMap& map_p,
                            cudaStream_t stream);
void launch_cluster_filter(const ClusterArgs<__half>& a, cudaStream_t stream);

/// Their gradients (cluster_backward.cu).
template <class T>
struct ClusterBackwardArgs {
  Tensor<const T> p, dy;
  Tensor<T> dp;
  ShortConv conv;
  SplitFilter filter;
  const SplitTables* tables;
  const uint4* twists;
  const uint4* radix;  // as ClusterArgs
  SplitShape shape;
  bool wide;
  TailView tail;
  CudaMixerGradients to;
  int64_t filter_length, filter_stride;
};
template <class T>
void launch_cluster_backward(const ClusterBackwardArgs<T>& a, bool ragged, const CUtensorMap& map_p,
                             const CUtensorMap& map_dy, cudaStream_t stream);

void launch_split_tables(SplitTables* tables, uint4* twists, uint4* radix, const SplitShape& s,
                         uint32_t* zeros, int zero_count, cudaStream_t stream);
void launch_split_filter(const SplitAnalysisArgs<__half>& a, int multiprocessors,
                         const CUtensorMap& map_out, cudaStream_t stream);
template <class T>
void launch_split_gate(const SplitAnalysisArgs<T>& a, bool both_filtered, bool ragged,
                       int multiprocessors, const CUtensorMap& map_a, const CUtensorMap& map_b,
                       const CUtensorMap& map_out, cudaStream_t stream);
void launch_split_deep_rows(const SplitRowsArgs& a, Rows mode, int multiprocessors,
                            cudaStream_t stream);
template <class T>
void launch_split_gradients(const SplitGradientArgs<T>& a, bool from_du, bool ragged,
                            int multiprocessors, const CUtensorMap& map_a, const CUtensorMap& map_b,
                            const CUtensorMap& map_scratch, const CUtensorMap& map_next,
                            cudaStream_t stream);
void launch_split_filter_gradient(const SplitFilterGradientArgs& a, int multiprocessors,
                                  const CUtensorMap& map_sums, cudaStream_t stream);
template <class T>
void launch_split_synthesis(const SplitSynthesisArgs<T>& a, bool ragged, int multiprocessors,
                            const CUtensorMap& map_p, const CUtensorMap& map_y,
                            const CUtensorMap& map_scratch, cudaStream_t stream);

}  // namespace hyena::kernels::cuda
