// Long rows of the generic mixer, first and last step: the halvings that columns share.
//
//   split: z (or g, or filters), 2^a rows of 4096 points -> the first a halvings -> scratch
//   merge: scratch -> the same undone -> y = q_x0 c, plain floats, or gradients of filters
//
// Shapes    scratch (items, N) complex, N = 4096 * 2^a, a = 1 .. 10, in the order of time
// Method    all columns of a row split alike, so a tile of adjacent columns is one array of which
//           only the first a halvings are done (generic_fft.cuh); up to 16 rows in registers alone
// Mapping   one block per tile (ColumnTile); a thread's points are whole rows apart, threads
//           adjacent columns
// Budget    split: 2 elements read per time, 8 bytes written; merge: 8 bytes and an element read,
//           one element written. At most 64 KiB of shared memory
// Numerics  float32; hyena/kernels/mixer_cuda_generic.h
// Bounds    any L <= N, any row stride
// Tested by tests/kernels/cuda/mixer_generic_test.cpp against float64
#include "hyena/kernels/cuda/generic_filter.cuh"
#include "hyena/kernels/cuda/generic_gate.cuh"

namespace hyena::kernels::cuda::generic {
namespace {

template <class Tile, class P>
__device__ __forceinline__ void load_times(float2 (&f)[P::kPoints], const float2* from, int tile,
                                           int u) {
  const int n = Tile::time(tile, P::first(u));
#pragma unroll
  for (int l = 0; l < P::kPoints; ++l)
    f[l] = from[n + l * Tile::template step<P>()];
}
template <class Tile, class P>
__device__ __forceinline__ void store_times(float2* to, const float2 (&f)[P::kPoints], int tile,
                                            int u) {
  const int n = Tile::time(tile, P::first(u));
#pragma unroll
  for (int l = 0; l < P::kPoints; ++l)
    to[n + l * Tile::template step<P>()] = f[l];
}

/// read(v, first, step): the points, real or complex, at the times first + l step.
template <int kLevels, class Point = float, class Read>
__device__ __forceinline__ void split_tile(float2* to, int tile, Read&& read) {
  using Tile = ColumnTile<kLevels>;
  constexpr int kLast = Tile::kPasses - 1;
  using First = typename Tile::template At<0>;
  using Last = typename Tile::template At<kLast>;
  extern __shared__ float2 x[];
  const int tid = static_cast<int>(threadIdx.x);
  for_units<First, Tile::kThreads>(tid, [&](int u) {
    Point v[First::kPoints];
    read(v, Tile::time(tile, First::first(u)), Tile::template step<First>());
    float2 f[First::kPoints];
    first_split<First::kLogRadix>(f, v);
    if constexpr (kLast == 0) {
      store_times<Tile, First>(to, f, tile, u);
    } else {
      store_unit<First>(x, f, u);
    }
  });
  if constexpr (kLast > 0) {
    __syncthreads();
    split_passes<Tile::kLog, kLevels, 1, kLast, Tile::kThreads>(tid, 0.25F, x);
    for_units<Last, Tile::kThreads>(tid, [&](int u) {
      float2 f[Last::kPoints];
      load_unit<Last>(f, x, u);
      split(f, roots_of<Last::kLogRadix>(Last::turn(0.25F, u)));
      store_times<Tile, Last>(to, f, tile, u);
    });
  }
}

/// write(f, first, step): the values at the times first + l step.
template <int kLevels, class Write>
__device__ __forceinline__ void merge_tile(const float2* from, int tile, Write&& write) {
  using Tile = ColumnTile<kLevels>;
  constexpr int kLast = Tile::kPasses - 1;
  using First = typename Tile::template At<0>;
  using Last = typename Tile::template At<kLast>;
  extern __shared__ float2 x[];
  const int tid = static_cast<int>(threadIdx.x);
  if constexpr (kLast > 0) {
    for_units<Last, Tile::kThreads>(tid, [&](int u) {
      float2 f[Last::kPoints];
      load_times<Tile, Last>(f, from, tile, u);
      merge(f, roots_of<Last::kLogRadix>(Last::turn(0.25F, u)));
      store_unit<Last>(x, f, u);
    });
    __syncthreads();
    merge_passes<Tile::kLog, kLevels, kLast - 1, 1, Tile::kThreads>(tid, 0.25F, x);
  }
  for_units<First, Tile::kThreads>(tid, [&](int u) {
    float2 f[First::kPoints];
    if constexpr (kLast == 0) {
      load_times<Tile, First>(f, from, tile, u);
    } else {
      load_unit<First>(f, x, u);
    }
    merge(f, first_roots<First::kLogRadix>());
    write(f, Tile::time(tile, First::first(u)), Tile::template step<First>());
  });
}

/// Where a block works: a tile of an item.
template <int kLevels>
struct TilePlace {
  int item = static_cast<int>(blockIdx.x) / ColumnTile<kLevels>::kTiles;
  int tile = static_cast<int>(blockIdx.x) % ColumnTile<kLevels>::kTiles;
  int64_t offset = static_cast<int64_t>(item) << (kLevels + kLogRow);
};

template <class T, int kLevels>
__global__ void __launch_bounds__(ColumnTile<kLevels>::kThreads, 3)
    split_columns_kernel(const Mixer<T> m, Source source, const Slice slice, float2* scratch) {
  const TilePlace<kLevels> at;
  const int d = slice.channel + at.item / slice.rows;
  const int b = slice.row + at.item % slice.rows;
  split_tile<kLevels>(scratch + at.offset, at.tile, [&](auto& v, int first, int step) {
    if (source == Source::kProduct) {
      m.gate(v, b, d, first, step);
    } else {
      m.output_gradient(v, b, d, first, step);
    }
  });
}

template <int kLevels, bool kReverse>
__global__ void __launch_bounds__(ColumnTile<kLevels>::kThreads, 3)
    split_filter_kernel(const Filters filters, int taps, float2* spectrum) {
  using Points = FilterPoints<kLevels + kLogRow, kReverse>;
  const TilePlace<kLevels> at;
  const Points points(filters, taps, at.item);
  split_tile<kLevels, typename Points::Point>(
      spectrum + at.offset, at.tile, [&](auto& v, int first, int step) {
#pragma unroll
        for (int l = 0; l < static_cast<int>(std::extent_v<std::remove_reference_t<decltype(v)>>);
             ++l)
          v[l] = points.at(first + l * step);
      });
}

template <class T, int kLevels>
__global__ void __launch_bounds__(ColumnTile<kLevels>::kThreads, 3)
    merge_columns_gated_kernel(const Mixer<T> m, const float2* scratch, const Slice slice, T* y) {
  const TilePlace<kLevels> at;
  const int d = slice.channel + at.item / slice.rows;
  const int b = slice.row + at.item % slice.rows;
  merge_tile<kLevels>(scratch + at.offset, at.tile, [&](const auto& f, int first, int step) {
    m.store_output(y, f, b, d, first, step);
  });
}

template <int kLevels>
__global__ void __launch_bounds__(ColumnTile<kLevels>::kThreads, 3)
    merge_columns_kernel(const float2* scratch, int length, float* to) {
  const TilePlace<kLevels> at;
  float* const row = to + at.offset;
  merge_tile<kLevels>(scratch + at.offset, at.tile, [&](const auto& f, int first, int step) {
#pragma unroll
    for (int l = 0; l < static_cast<int>(std::extent_v<std::remove_reference_t<decltype(f)>>);
         ++l) {
      const int n = first + l * step;
      if (n < length) row[n] = f[l].x;
    }
  });
}

template <int kLevels>
__global__ void __launch_bounds__(ColumnTile<kLevels>::kThreads, 3)
    merge_filter_columns_kernel(const float2* correlation, int taps, int channel,
                                const FilterGradients to) {
  const TilePlace<kLevels> at;
  const auto d = static_cast<int64_t>(channel) + at.item;
  merge_tile<kLevels>(correlation + at.offset, at.tile, [&](const auto& f, int first, int step) {
#pragma unroll
    for (int l = 0; l < static_cast<int>(std::extent_v<std::remove_reference_t<decltype(f)>>); ++l)
      store_filter_gradients<kLevels + kLogRow>(to, taps, d, first + l * step, f[l]);
  });
}

/// kernel<<<one block per tile of `items` rows>>>(arguments...)
template <int kLevels, auto kKernel, class... Arguments>
void launch(int items, cudaStream_t stream, const char* what, const Arguments&... arguments) {
  using Tile = ColumnTile<kLevels>;
  allow_shared_memory<kKernel>(Tile::kSharedBytes);
  kKernel<<<static_cast<unsigned>(items) * Tile::kTiles, Tile::kThreads, Tile::kSharedBytes,
            stream>>>(arguments...);
  check(cudaGetLastError(), what);
}

/// f.template operator()<a>() for rows of 4096 * 2^a points.
template <class F>
void with_levels(const Problem& m, F&& f) {
  with_constant<1, kMaxLog - kLogRow>(m.log_n - kLogRow, std::forward<F>(f));
}

}  // namespace

void split_columns(const Problem& m, const Operands& in, Source source, const Slice& slice,
                   float2* scratch, cudaStream_t stream) {
  with_element(m.shape.type, [&]<class T>() {
    with_levels(m, [&]<int kLevels>() {
      launch<kLevels, split_columns_kernel<T, kLevels>>(slice.items(), stream,
                                                        "launch of the generic mixer's columns",
                                                        Mixer<T>(m, in), source, slice, scratch);
    });
  });
}

void split_filter_columns(const Problem& m, const Filters& filters, float2* spectrum,
                          cudaStream_t stream) {
  const auto channels = static_cast<int>(m.shape.channels);
  const auto taps = static_cast<int>(m.shape.filter_length);
  constexpr const char* kWhat = "launch of the generic filter's columns";
  with_levels(m, [&]<int kLevels>() {
    if (filters.reverse != nullptr) {
      launch<kLevels, split_filter_kernel<kLevels, true>>(channels, stream, kWhat, filters, taps,
                                                          spectrum);
    } else {
      launch<kLevels, split_filter_kernel<kLevels, false>>(channels, stream, kWhat, filters, taps,
                                                           spectrum);
    }
  });
}

void merge_columns_gated(const Problem& m, const Operands& in, const float2* scratch, void* y,
                         const Slice& slice, cudaStream_t stream) {
  with_element(m.shape.type, [&]<class T>() {
    with_levels(m, [&]<int kLevels>() {
      launch<kLevels, merge_columns_gated_kernel<T, kLevels>>(
          slice.items(), stream, "launch of the generic mixer's output", Mixer<T>(m, in), scratch,
          slice, static_cast<T*>(y));
    });
  });
}

void merge_columns(const Problem& m, const float2* scratch, int items, float* to,
                   cudaStream_t stream) {
  with_levels(m, [&]<int kLevels>() {
    launch<kLevels, merge_columns_kernel<kLevels>>(items, stream,
                                                   "launch of the generic mixer's inverse columns",
                                                   scratch, static_cast<int>(m.shape.length), to);
  });
}

void merge_filter_columns(const Problem& m, const float2* correlation, const Slice& slice,
                          const FilterGradients& to, cudaStream_t stream) {
  with_levels(m, [&]<int kLevels>() {
    launch<kLevels, merge_filter_columns_kernel<kLevels>>(
        slice.channels, stream, "launch of the generic filter gradient's columns", correlation,
        static_cast<int>(m.shape.filter_length), slice.channel, to);
  });
}

}  // namespace hyena::kernels::cuda::generic
