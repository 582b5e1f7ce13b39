// Products of chunk spectra: for every frequency, a short convolution or correlation over chunks.
//
//   convolution  C_c  = sum_{j <= c} U_j H_{c-j}             in place of U
//   correlation  DU_c = sum_{j >= c} G_j conj(H_{j-c})       in place of G
//   filter       S'_m = sum_b sum_{j >= m} G_j conj(U_{j-m}) float32
//
// Mapping   a thread owns two frequencies (one 32-bit word of the real and of the imaginary plane)
// of
//           one row, for all chunks, 8 of them in registers at a time; the filter's sums walk over
//           the batch in order
// Budget    4 + 4 bytes read, 4 written per element and product, from and to the L2; 4 n FMA per
//           element at n chunks, half of them for n <= 8
// Numerics  float32 on unscaled values. c and du leave with one power of two per row, small enough
//           that n chunks whose rows reach their bound cannot overflow fp16.
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp (lengths above 8192)
#include "hyena/kernels/cuda/chunked.h"
#include "hyena/kernels/cuda/half_complex.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/row_scale.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 128;  // one row k1 of a tile: 256 frequencies
constexpr int kBlock = 8;      // chunks in registers

/// Two complex values.
struct Pair {
  float re0, im0, re1, im1;
};

__device__ __forceinline__ Pair load_pair(const uint4* spectra, int64_t tile, int word,
                                          float factor) {
  const auto* w = reinterpret_cast<const uint32_t*>(spectra + tile * kSpectrumVectors) +
                  (word >> 7) * 256 + (word & 127);
  const float2 re = __half22float2(as_half2(w[0]));
  const float2 im = __half22float2(as_half2(w[128]));
  return {re.x * factor, im.x * factor, re.y * factor, im.y * factor};
}
__device__ __forceinline__ void store_pair(uint4* spectra, int64_t tile, int word, const Pair& v,
                                           float factor) {
  auto* w = reinterpret_cast<uint32_t*>(spectra + tile * kSpectrumVectors) + (word >> 7) * 256 +
            (word & 127);
  w[0] = pack_half(v.re0 * factor, v.re1 * factor);
  w[128] = pack_half(v.im0 * factor, v.im1 * factor);
}
/// acc += x y, or x conj(y).
template <bool kConjugate>
__device__ __forceinline__ void accumulate(Pair& acc, const Pair& x, const Pair& y) {
  const float s = kConjugate ? -1.F : 1.F;
  acc.re0 = fmaf(x.re0, y.re0, fmaf(-s * x.im0, y.im0, acc.re0));
  acc.im0 = fmaf(x.im0, y.re0, fmaf(s * x.re0, y.im0, acc.im0));
  acc.re1 = fmaf(x.re1, y.re1, fmaf(-s * x.im1, y.im1, acc.re1));
  acc.im1 = fmaf(x.im1, y.re1, fmaf(s * x.re1, y.im1, acc.im1));
}

/// Adds what input chunks 8 xb .. 8 xb + 7 give to output chunks 8 ob .. 8 ob + 7.
/// Convolution: output c, input j, factor m = c - j. Correlation: m = j - c.
template <bool kCorrelation, class GetX, class GetY>
__device__ __forceinline__ void add_block(Pair (&acc)[kBlock], int ob, int xb, int chunks,
                                          GetX get_x, GetY get_y) {
  Pair x[kBlock];
#pragma unroll
  for (int i = 0; i < kBlock; ++i)
    x[i] = kBlock * xb + i < chunks ? get_x(kBlock * xb + i) : Pair{0.F, 0.F, 0.F, 0.F};
#pragma unroll
  for (int delta = 1 - kBlock; delta < kBlock; ++delta) {
    const int m = kBlock * (kCorrelation ? xb - ob : ob - xb) + delta;
    if (m < 0 || m >= chunks) continue;
    const Pair y = get_y(m);
#pragma unroll
    for (int i = 0; i < kBlock; ++i) {
      const int o = kCorrelation ? i - delta : i + delta;
      if (o >= 0 && o < kBlock) accumulate<kCorrelation>(acc[o], x[i], y);
    }
  }
}

/// Largest of `count` values, by the whole block.
__device__ __forceinline__ float block_max(const float* values, int count, bool inverse) {
  __shared__ float partial[kThreads / 32];
  float most = 0.F;
  for (int i = threadIdx.x; i < count; i += kThreads)
    most = fmaxf(most, inverse ? inverse_scale(values[i]) : values[i]);
  most = __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(most)));
  __syncthreads();
  if ((threadIdx.x & 31) == 0) partial[threadIdx.x >> 5] = most;
  __syncthreads();
#pragma unroll
  for (const float v : partial)
    most = fmaxf(most, v);
  return most;
}

template <bool kCorrelation>
__global__ void __launch_bounds__(kThreads)
    row_products(SpectrumView filter, ChunkGroup group, uint4* spectra, const float* scale,
                 float* out_scale) {
  const int chunks = group.chunks;
  const int row = blockIdx.y;  // [channel][batch]
  const int channel = group.first_channel + row / group.batch;
  const int word = blockIdx.x * kThreads + threadIdx.x;
  const int64_t tile0 = static_cast<int64_t>(row) * chunks;
  const int64_t filter0 = static_cast<int64_t>(channel) * chunks;
  int log_chunks = 0;
  while ((1 << log_chunks) < chunks)
    ++log_chunks;
  // All powers of two, so this is one: 1 / (chunks * largest 1 / scale * largest filter scale).
  const float bound =
      block_max(scale + tile0, chunks, true) * block_max(filter.scale + filter0, chunks, false);
  const float down = inverse_scale(fminf(fmaxf(bound, 0x1p-100F), 0x1p100F)) *
                     __uint_as_float((127U - log_chunks) << 23);
  if (blockIdx.x == 0 && threadIdx.x < chunks)
    for (int c = threadIdx.x; c < chunks; c += kThreads)
      out_scale[tile0 + c] = down;
  auto get_x = [&](int j) {
    return load_pair(spectra, tile0 + j, word, inverse_scale(__ldg(scale + tile0 + j)));
  };
  auto get_y = [&](int m) {
    return load_pair(filter.spectrum, filter0 + m, word, __ldg(filter.scale + filter0 + m));
  };
  const int blocks = (chunks + kBlock - 1) / kBlock;
  // In place: an output block overwrites inputs that no later one needs.
#pragma unroll 1
  for (int k = 0; k < blocks; ++k) {
    const int ob = kCorrelation ? k : blocks - 1 - k;
    Pair acc[kBlock] = {};
#pragma unroll 1
    for (int xb = kCorrelation ? ob : 0; xb < (kCorrelation ? blocks : ob + 1); ++xb)
      add_block<kCorrelation>(acc, ob, xb, chunks, get_x, get_y);
#pragma unroll
    for (int o = 0; o < kBlock; ++o)
      if (kBlock * ob + o < chunks)
        store_pair(spectra, tile0 + kBlock * ob + o, word, acc[o], down);
  }
}

__global__ void __launch_bounds__(kThreads) filter_products(const ProductArgs a) {
  const int chunks = a.group.chunks;
  const int ob = blockIdx.y;
  const int channel = blockIdx.z;  // of the group
  const int word = blockIdx.x * kThreads + threadIdx.x;
  const int blocks = (chunks + kBlock - 1) / kBlock;
  Pair acc[kBlock] = {};
#pragma unroll 1
  for (int b = 0; b < a.group.batch; ++b) {
    const int64_t tile0 = (static_cast<int64_t>(channel) * a.group.batch + b) * chunks;
    auto get_x = [&](int j) {
      return load_pair(a.g, tile0 + j, word, inverse_scale(__ldg(a.g_scale + tile0 + j)));
    };
    auto get_y = [&](int j) {
      return load_pair(a.u, tile0 + j, word, inverse_scale(__ldg(a.u_scale + tile0 + j)));
    };
#pragma unroll 1
    for (int xb = ob; xb < blocks; ++xb)
      add_block<true>(acc, ob, xb, chunks, get_x, get_y);
  }
  // Order of `frequency`: word 2 b + r of a lane holds values e = 4 b + 2 r + s.
  const int lane = (word & 127) >> 2;
  const int e = 2 * (word & 3);
#pragma unroll
  for (int o = 0; o < kBlock; ++o) {
    const int m = kBlock * ob + o;
    if (m >= chunks) break;
    float2* to = a.sums + (static_cast<int64_t>(channel) * chunks + m) * kTilePoints +
                 (word >> 7) * 256 + e * 32 + lane;
    to[0] = make_float2(acc[o].re0, acc[o].im0);
    to[32] = make_float2(acc[o].re1, acc[o].im1);
  }
}

/// The filter of a channel at two frequencies, in registers, and what a product's scale needs of
/// it.
template <int kChunks>
struct FilterWords {
  uint32_t re[kChunks], im[kChunks];
  float scale[kChunks];
  float most = 0.F;

  __device__ __forceinline__ FilterWords(const SpectrumView& filter, int64_t tile0, int word) {
#pragma unroll
    for (int m = 0; m < kChunks; ++m) {
      const auto* w =
          reinterpret_cast<const uint32_t*>(filter.spectrum + (tile0 + m) * kSpectrumVectors) +
          (word >> 7) * 256 + (word & 127);
      re[m] = __ldg(w);
      im[m] = __ldg(w + 128);
      scale[m] = __ldg(filter.scale + tile0 + m);
      most = fmaxf(most, scale[m]);
    }
  }
  __device__ __forceinline__ Pair operator[](int m) const {
    const float2 r = __half22float2(as_half2(re[m]));
    const float2 i = __half22float2(as_half2(im[m]));
    return {r.x * scale[m], i.x * scale[m], r.y * scale[m], i.y * scale[m]};
  }
  /// Scale of the sums of kChunks products with spectra of at most `unit` / 2^-14.5.
  __device__ __forceinline__ float product_scale(float unit) const {
    constexpr int kLog = kChunks > 4 ? 3 : kChunks > 2 ? 2 : 1;
    return inverse_scale(fminf(fmaxf(unit * most, 0x1p-100F), 0x1p100F)) * (1.F / (1 << kLog));
  }
};

/// The convolution for few chunks: every operand is read once.
template <int kChunks>
__global__ void __launch_bounds__(kThreads) few_convolution(const ProductArgs a) {
  const int row = blockIdx.y;  // [channel][batch]
  const int word = blockIdx.x * kThreads + threadIdx.x;
  const int64_t tile0 = static_cast<int64_t>(row) * kChunks;
  const int channel = a.group.first_channel + row / a.group.batch;
  const FilterWords<kChunks> h(a.filter, static_cast<int64_t>(channel) * kChunks, word);
  Pair u[kChunks];
  float most = 0.F;
#pragma unroll
  for (int j = 0; j < kChunks; ++j) {
    const float unit = inverse_scale(__ldg(a.u_scale + tile0 + j));
    u[j] = load_pair(a.u, tile0 + j, word, unit);
    most = fmaxf(most, unit);
  }
  const float down = h.product_scale(most);
  if (blockIdx.x == 0 && threadIdx.x < kChunks) a.c_scale[tile0 + threadIdx.x] = down;
  Pair c[kChunks] = {};
#pragma unroll
  for (int m = 0; m < kChunks; ++m) {
    const Pair f = h[m];
#pragma unroll
    for (int j = 0; j + m < kChunks; ++j)
      accumulate<false>(c[j + m], u[j], f);
  }
#pragma unroll
  for (int j = 0; j < kChunks; ++j)
    store_pair(a.u, tile0 + j, word, c[j], down);
}

/// All three products for few chunks: every operand is read once, the sums over the batch and the
/// filter stay in registers.
template <int kChunks>
__global__ void __launch_bounds__(kThreads) all_products(const ProductArgs a) {
  const int channel = blockIdx.y;  // of the group
  const int word = blockIdx.x * kThreads + threadIdx.x;
  const int64_t filter0 = static_cast<int64_t>(a.group.first_channel + channel) * kChunks;
  const FilterWords<kChunks> filter(a.filter, filter0, word);
  Pair sum[kChunks] = {};
#pragma unroll 1
  for (int b = 0; b < a.group.batch; ++b) {
    const int64_t tile0 = (static_cast<int64_t>(channel) * a.group.batch + b) * kChunks;
    Pair u[kChunks];
    Pair g[kChunks];
    float u_most = 0.F;
    float g_most = 0.F;
#pragma unroll
    for (int j = 0; j < kChunks; ++j) {
      const float u_unit = inverse_scale(__ldg(a.u_scale + tile0 + j));
      const float g_unit = inverse_scale(__ldg(a.g_scale + tile0 + j));
      u[j] = load_pair(a.u, tile0 + j, word, u_unit);
      g[j] = load_pair(a.g, tile0 + j, word, g_unit);
      u_most = fmaxf(u_most, u_unit);
      g_most = fmaxf(g_most, g_unit);
    }
#pragma unroll
    for (int m = 0; m < kChunks; ++m)
#pragma unroll
      for (int j = m; j < kChunks; ++j)
        accumulate<true>(sum[m], g[j], u[j - m]);
    const float c_down = filter.product_scale(u_most);
    const float du_down = filter.product_scale(g_most);
    if (blockIdx.x == 0 && threadIdx.x < kChunks) {
      a.c_scale[tile0 + threadIdx.x] = c_down;
      a.du_scale[tile0 + threadIdx.x] = du_down;
    }
    Pair c[kChunks] = {};
    Pair du[kChunks] = {};
#pragma unroll
    for (int m = 0; m < kChunks; ++m) {
      const Pair h = filter[m];
#pragma unroll
      for (int j = 0; j + m < kChunks; ++j) {
        accumulate<false>(c[j + m], u[j], h);
        accumulate<true>(du[j], g[j + m], h);
      }
    }
#pragma unroll
    for (int j = 0; j < kChunks; ++j) {
      store_pair(a.u, tile0 + j, word, c[j], c_down);
      store_pair(a.g, tile0 + j, word, du[j], du_down);
    }
  }
  const int lane = (word & 127) >> 2;
  const int e = 2 * (word & 3);
#pragma unroll
  for (int m = 0; m < kChunks; ++m) {
    float2* to = a.sums + (static_cast<int64_t>(channel) * kChunks + m) * kTilePoints +
                 (word >> 7) * 256 + e * 32 + lane;
    to[0] = make_float2(sum[m].re0, sum[m].im0);
    to[32] = make_float2(sum[m].re1, sum[m].im1);
  }
}

constexpr unsigned kWordBlocks = kTilePoints / 2 / kThreads;

}  // namespace

/// Calls `run` with the number of chunks as a constant where it is at most 8; false otherwise.
template <class F>
bool with_few_chunks(int chunks, F run) {
  switch (chunks) {
    case 2:
      run.template operator()<2>();
      return true;
    case 3:
      run.template operator()<3>();
      return true;
    case 4:
      run.template operator()<4>();
      return true;
    case 5:
      run.template operator()<5>();
      return true;
    case 6:
      run.template operator()<6>();
      return true;
    case 7:
      run.template operator()<7>();
      return true;
    case 8:
      run.template operator()<8>();
      return true;
    default:
      return false;
  }
}

void launch_convolution(const ProductArgs& a, cudaStream_t stream) {
  const dim3 grid(kWordBlocks, a.group.channel_count * a.group.batch);
  const bool few = with_few_chunks(a.group.chunks, [&]<int kChunks>() {
    few_convolution<kChunks><<<grid, kThreads, 0, stream>>>(a);
  });
  if (!few) {
    row_products<false>
        <<<grid, kThreads, 0, stream>>>(a.filter, a.group, a.u, a.u_scale, a.c_scale);
  }
  check(cudaGetLastError(), "launch of the chunk convolution kernel");
}
static void launch_correlation(const ProductArgs& a, cudaStream_t stream) {
  const dim3 grid(kWordBlocks, a.group.channel_count * a.group.batch);
  row_products<true><<<grid, kThreads, 0, stream>>>(a.filter, a.group, a.g, a.g_scale, a.du_scale);
  check(cudaGetLastError(), "launch of the chunk correlation kernel");
}
static void launch_filter_products(const ProductArgs& a, cudaStream_t stream) {
  const dim3 grid(kWordBlocks, (a.group.chunks + kBlock - 1) / kBlock, a.group.channel_count);
  filter_products<<<grid, kThreads, 0, stream>>>(a);
  check(cudaGetLastError(), "launch of the chunk filter gradient kernel");
}

void launch_products(const ProductArgs& a, cudaStream_t stream) {
  const dim3 grid(kWordBlocks, a.group.channel_count);
  const bool few = with_few_chunks(a.group.chunks, [&]<int kChunks>() {
    all_products<kChunks><<<grid, kThreads, 0, stream>>>(a);
  });
  if (!few) {
    launch_filter_products(a, stream);  // reads u and g before they are replaced
    launch_convolution(a, stream);
    launch_correlation(a, stream);
  }
  check(cudaGetLastError(), "launch of the chunk product kernel");
}

}  // namespace hyena::kernels::cuda
