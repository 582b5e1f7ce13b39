// Long rows of the generic mixer, middle step: rows of 4096 points, products with spectra, back.
//
//   z -> Z H;  g -> G conj(H);  correlation = sum over the batch of conj(Z) G
//
// Shapes    scratch (items, N) complex; spectrum, correlation (D, N), order as in generic_fft.cuh
// Method    row r of a long row is a block modulo x^4096 - W_r: three passes of radix 16 there and
//           back, the last there and the first back around the product
// Mapping   one block of 256 threads per row of 4096 points, 16 points per thread; rows of the
//           batch that share a spectrum are neighbours in the grid. For gradients a block takes all
//           batch rows of the slice in order; its part of the sum stays in the L2
// Budget    16 bytes per point, 32 for gradients; the spectrum, 8, once for the batch, the sum 16
//           more in the L2
// Registers 80, for 24 warps per multiprocessor (the sum in registers left 16, and spilled); shared
//           memory 32 KiB, gradients 64 KiB
// Numerics  float32; hyena/kernels/mixer_cuda_generic.h
// Tested by tests/kernels/cuda/mixer_generic_test.cpp against float64
#include "hyena/kernels/cuda/generic_gate.cuh"

namespace hyena::kernels::cuda::generic {
namespace {

constexpr int kThreads = 256;
constexpr int kRowBytes = 8 * kRowPoints;
using First = Pass<kLogRow, kLogRow, 0>;
using Middle = Pass<kLogRow, kLogRow, 1>;
using Last = Pass<kLogRow, kLogRow, 2>;
static_assert(First::kUnits == kThreads && Middle::kUnits == kThreads && Last::kUnits == kThreads);
constexpr int kStep = 1 << First::kLogStep;
using Points = float2[16];

__device__ __forceinline__ void load_row(Points& f, const float2* from, int u) {
#pragma unroll
  for (int l = 0; l < 16; ++l)
    f[l] = from[u + l * kStep];
}
__device__ __forceinline__ void store_row(float2* to, const Points& f, int u) {
#pragma unroll
  for (int l = 0; l < 16; ++l)
    to[u + l * kStep] = f[l];
}
__device__ __forceinline__ void load_spectrum(Points& f, const float2* from, int u) {
#pragma unroll
  for (int l = 0; l < 16; ++l)
    f[l] = from[spectrum_index<kLogRow>(u, l)];
}
__device__ __forceinline__ void store_spectrum(float2* to, const Points& f, int u) {
#pragma unroll
  for (int l = 0; l < 16; ++l)
    to[spectrum_index<kLogRow>(u, l)] = f[l];
}

/// First pass of a row in memory.
__device__ __forceinline__ void split_first(float2* x, const float2* row, float turn, int u) {
  Points f;
  load_row(f, row, u);
  split(f, roots_of<4>(turn));
  store_unit<First>(x, f, u);
}
/// Last pass back.
__device__ __forceinline__ void merge_first(const float2* x, float2* row, float turn, int u) {
  Points f;
  load_unit<First>(f, x, u);
  merge(f, roots_of<4>(turn));
  store_row(row, f, u);
}

__global__ void __launch_bounds__(kThreads, 3)
    product_rows_kernel(float2* scratch, const float2* spectrum, const Slice slice, int levels) {
  extern __shared__ float2 x[];
  const int u = static_cast<int>(threadIdx.x);
  const int b = static_cast<int>(blockIdx.x) % slice.rows;
  const int line = static_cast<int>(blockIdx.x) / slice.rows;  // of a channel's spectrum
  const int d = line >> levels;
  const int r = line & ((1 << levels) - 1);
  const float turn = turn_of(r, levels);
  float2* row = scratch + ((((static_cast<int64_t>(d) * slice.rows + b) << levels) + r) << kLogRow);
  const float2* h =
      spectrum + ((((static_cast<int64_t>(slice.channel) + d) << levels) + r) << kLogRow);
  split_first(x, row, turn, u);
  __syncthreads();
  split_passes<kLogRow, kLogRow, 1, 2, kThreads>(u, turn, x);
  {
    Points f;
    load_unit<Last>(f, x, u);
    const auto w = roots_of<4>(Last::turn(turn, u));
    split(f, w);
#pragma unroll
    for (int l = 0; l < 16; ++l)
      f[l] = product(f[l], h[spectrum_index<kLogRow>(u, l)]);
    merge(f, w);
    store_unit<Last>(x, f, again(u));
  }
  __syncthreads();
  const float turn_back = again(turn);
  merge_passes<kLogRow, kLogRow, 1, 1, kThreads>(u, turn_back, x);
  merge_first(x, row, turn_back, u);
}

__global__ void __launch_bounds__(kThreads, 3) spectrum_rows_kernel(float2* spectrum, int levels) {
  extern __shared__ float2 x[];
  const int u = static_cast<int>(threadIdx.x);
  const float turn = turn_of(static_cast<int>(blockIdx.x) & ((1 << levels) - 1), levels);
  float2* row = spectrum + (static_cast<int64_t>(blockIdx.x) << kLogRow);
  split_first(x, row, turn, u);
  __syncthreads();
  split_passes<kLogRow, kLogRow, 1, 2, kThreads>(u, turn, x);
  Points f;
  load_unit<Last>(f, x, u);
  split(f, roots_of<4>(Last::turn(turn, u)));
  store_spectrum(row, f, u);
}

__global__ void __launch_bounds__(kThreads, 3)
    correlation_rows_kernel(float2* correlation, int levels) {
  extern __shared__ float2 x[];
  const int u = static_cast<int>(threadIdx.x);
  const float turn = turn_of(static_cast<int>(blockIdx.x) & ((1 << levels) - 1), levels);
  float2* row = correlation + (static_cast<int64_t>(blockIdx.x) << kLogRow);
  {
    Points f;
    load_spectrum(f, row, u);
    merge(f, roots_of<4>(Last::turn(turn, u)));
    store_unit<Last>(x, f, u);
  }
  __syncthreads();
  merge_passes<kLogRow, kLogRow, 1, 1, kThreads>(u, turn, x);
  merge_first(x, row, turn, u);
}

__global__ void __launch_bounds__(kThreads, 3)
    gradient_rows_kernel(float2* z, float2* g, const float2* spectrum, float2* correlation,
                         const Slice slice, int levels) {
  extern __shared__ float2 x[];
  float2* const xz = x;
  float2* const xg = x + kRowPoints;
  const int u = static_cast<int>(threadIdx.x);
  const int d = static_cast<int>(blockIdx.x) >> levels;
  const int r = static_cast<int>(blockIdx.x) & ((1 << levels) - 1);
  const float turn_of_row = turn_of(r, levels);
  const float2* h =
      spectrum + ((((static_cast<int64_t>(slice.channel) + d) << levels) + r) << kLogRow);
  float2* const total = correlation + (static_cast<int64_t>(blockIdx.x) << kLogRow);
#pragma unroll 1
  for (int b = 0; b < slice.rows; ++b) {
    const int64_t row = (((static_cast<int64_t>(d) * slice.rows + b) << levels) + r) << kLogRow;
    const float turn = again(turn_of_row);
    const bool fresh = slice.row + b == 0;
    split_first(xz, z + row, turn, u);
    split_first(xg, g + row, turn, u);
    __syncthreads();
    split_passes<kLogRow, kLogRow, 1, 2, kThreads, 2>(u, turn, x);
    const auto w = roots_of<4>(Last::turn(turn, u));
    split_unit<Last>(xz, u, w);
    Points f;
    load_unit<Last>(f, xg, again(u));
    split(f, w);
    const int first = place(Last::first(again(u)));
#pragma unroll
    for (int l = 0; l < 16; ++l) {
      float2& zl = xz[moved(first, l)];
      float2 s = conjugate_product(zl, f[l]);
      float2& sum = total[spectrum_index<kLogRow>(u, l)];
      if (!fresh) s = make_float2(sum.x + s.x, sum.y + s.y);
      sum = s;
      const float2 hl = h[spectrum_index<kLogRow>(u, l)];
      zl = product(zl, hl);
      f[l] = conjugate_product(hl, f[l]);
    }
    const auto back = roots_of<4>(Last::turn(turn, again(u)));
    merge(f, back);
    store_unit<Last>(xg, f, again(u));
    merge_unit<Last>(xz, again(u), back);
    __syncthreads();
    const float turn_back = again(turn);
    merge_passes<kLogRow, kLogRow, 1, 1, kThreads, 2>(u, turn_back, x);
    merge_first(xz, z + row, turn_back, u);
    merge_first(xg, g + row, turn_back, u);
    // No barrier: a thread reads and writes the same points in its last and its next first pass.
  }
}

unsigned rows_of(const Problem& m, std::int64_t items) {
  return static_cast<unsigned>(items << (m.log_n - kLogRow));
}

}  // namespace

void spectrum_rows(const Problem& m, float2* spectrum, cudaStream_t stream) {
  spectrum_rows_kernel<<<rows_of(m, m.shape.channels), kThreads, kRowBytes, stream>>>(
      spectrum, m.log_n - kLogRow);
  check(cudaGetLastError(), "launch of the generic filter's rows");
}

void product_rows(const Problem& m, float2* scratch, const float2* spectrum, const Slice& slice,
                  cudaStream_t stream) {
  product_rows_kernel<<<rows_of(m, slice.items()), kThreads, kRowBytes, stream>>>(
      scratch, spectrum, slice, m.log_n - kLogRow);
  check(cudaGetLastError(), "launch of the generic mixer's rows");
}

void gradient_rows(const Problem& m, float2* z, float2* g, const float2* spectrum,
                   float2* correlation, const Slice& slice, cudaStream_t stream) {
  allow_shared_memory<gradient_rows_kernel>(2 * kRowBytes);
  gradient_rows_kernel<<<rows_of(m, slice.channels), kThreads, 2 * kRowBytes, stream>>>(
      z, g, spectrum, correlation, slice, m.log_n - kLogRow);
  check(cudaGetLastError(), "launch of the generic mixer's gradient rows");
}

void correlation_rows(const Problem& m, float2* correlation, int channels, cudaStream_t stream) {
  correlation_rows_kernel<<<rows_of(m, channels), kThreads, kRowBytes, stream>>>(correlation,
                                                                                 m.log_n - kLogRow);
  check(cudaGetLastError(), "launch of the generic filter gradient's rows");
}

}  // namespace hyena::kernels::cuda::generic
