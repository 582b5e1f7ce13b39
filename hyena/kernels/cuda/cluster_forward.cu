// Rows of 16384 to 65536 points, forward, in one pass: a cluster of c = 2, 4 or 8 blocks holds a
// row (cluster.cuh). Also the filter's spectrum.
//
//   gate, radix 32 -> exchange -> radix c and 256 points of four k1 per warp, product, inverse ->
//   exchange -> inverse radix 32, short convolution of x0, gate
//
// Method    as forward.cu; DFT16 of both sides by mma (column_dft)
// Mapping   8 warps per block, two blocks per SM. Slices of what a block computes go to its
//           neighbours' shared memory by bulk copies which count bytes at the receiver's barrier;
//           nothing else synchronises a cluster. Two rows overlap, in two buffers of planes:
//             rows(i), send back(i), gate and radix(i + 1), send(i + 1), output(i), rows(i + 1)
//           so that either exchange has a phase of its own to arrive in. x1 and v arrive during
//           the rows, where their planes will be; x0 goes from memory to registers.
// Budget    8 bytes per point of device memory, 8 (c - 1) / c between multiprocessors, 8 of
//           spectrum and twist from the L2
// Registers 128 (65,536 / 512)
// Numerics  as split.h; one power of two per tile, made one per row by the rows
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp against float64
#include "hyena/kernels/cuda/cluster.cuh"
#include "hyena/kernels/cuda/cluster_launch.h"
#include "hyena/kernels/cuda/cluster_radix.cuh"
#include "hyena/kernels/cuda/split_row.cuh"
#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = kClusterThreads;
constexpr int kRowsOffset = 2 * kExchangeBytes;            // behind two buffers of planes
constexpr int kEdgeOffset = kRowsOffset + kExchangeBytes;  // of x1; of v kInputBytes behind
constexpr int kRadixOffset = kEdgeOffset + 128;            // there and back
constexpr int kConstantsOffset = kRadixOffset + 8192;      // of rows
constexpr int kMaximaOffset = kConstantsOffset + 2560;
constexpr int kExponentOffset = kMaximaOffset + 64;  // of the cluster's tiles
constexpr int kFirOffset = kExponentOffset + 32;     // x1, v; x0 of two rows
constexpr int kBarrierOffset = kFirOffset + 64;      // x1 v; rows; planes; planes read
constexpr int kSharedBytes = kEdgeOffset + kInputBytes + 128;
static_assert(kBarrierOffset + 32 <= kEdgeOffset + kInputBytes);
static_assert(kSharedBytes <= 113 * 1024, "two blocks per multiprocessor");

/// The filter h (D, K) in place of z. The skip is one more tap at lag 0.
template <int kLogC>
__device__ __forceinline__ void filter_values(float (&z)[4][2][4], const float* h,
                                              int64_t filter_length, const float* skip,
                                              const ClusterPlace<kLogC>& place, int warp,
                                              int lane) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int n = place.time(ClusterGateAddress::row(i, e, lane)) + 32 * warp + 4 * (lane >> 2);
      load_floats(z[i][e], h, n, filter_length);
    }
  if (place.rank == 0 && warp == 0 && lane == 0 && skip != nullptr) z[0][0][0] += *skip;
}

template <class T, int kLogC, bool kFilter, bool kRagged>
__global__ void __launch_bounds__(kThreads, 2)
    cluster_forward(const ClusterArgs<T> a, const __grid_constant__ CUtensorMap map_p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  constexpr int kC = 1 << kLogC;
  const SplitShape s = a.shape;
  const int tid = threadIdx.x;
  const int warp = tid >> 5;
  const int lane = tid & 31;
  const uint32_t base = smem_address(smem);
  const uint32_t rows = base + kRowsOffset;
  const uint32_t edges = base + kEdgeOffset;
  const uint32_t maxima = base + kMaximaOffset;
  const uint32_t exponents = base + kExponentOffset;
  const uint32_t fir = base + kFirOffset;
  const uint32_t bar_x1v = base + kBarrierOffset;
  const uint32_t bar_rows = bar_x1v + 8;
  const uint32_t bar_planes = bar_x1v + 16;
  const uint32_t bar_read = bar_x1v + 24;
  const ClusterPlace<kLogC> place{static_cast<int>(cluster_rank())};
  const int clusters = gridDim.x >> kLogC;
  const int cluster = blockIdx.x >> kLogC;
  const int batches = kFilter ? 1 : a.y.batch;
  const int64_t total = static_cast<int64_t>(a.channels) * batches;
  const int first = static_cast<int>(total * cluster / clusters);
  const int last = static_cast<int>(total * (cluster + 1) / clusters);
  auto expect_rows = [&] { mbarrier_expect(bar_rows, kExchangedBytes<kLogC> + 4 * kC); };

  copy_table(smem + kRadixOffset, a.radix + place.rank * 512, 512, tid, kThreads);
  copy_table(smem + kConstantsOffset, a.tables->row, 160, tid, kThreads);
  if (tid == 0) {
    mbarrier_init(bar_x1v, kRagged ? kThreads : kThreads + 1);
    mbarrier_init(bar_rows, 1);
    mbarrier_init(bar_planes, 1);
    mbarrier_init(bar_read, kThreads / 32);
    expect_rows();
    mbarrier_expect(bar_planes, kExchangedBytes<kLogC>);
  }
  fence_setup();
  cluster_barrier();

  auto load_x1v = [&](int row, int turn) {
    if (kFilter || row >= last) return;
    const int d = row / batches;
    const int b = row - d * batches;
    const uint32_t to = base + (turn & 1) * kExchangeBytes;
    if (turn > 1 && (kRagged || tid == 0)) mbarrier_wait(bar_read, turn & 1);
    if (!kRagged && tid == 0) mbarrier_expect(bar_x1v, 2 * kInputBytes);
#pragma unroll
    for (int input = 0; input < 2; ++input) {
      const int channel = (1 + input) * a.channels + d;
      load_cluster_input<kLogC, kRagged>(a.p, &map_p, b, channel, place, to + input * kInputBytes,
                                         a.wide, bar_x1v, tid);
      load_cluster_edge<kLogC>(a.p, b, channel, place, edges + input * kInputBytes, tid);
      if ((tid >> 2) == input) load_fir(fir + 16 * input, a.conv, channel, tid & 3);
    }
    if ((tid >> 2) == 2) load_fir(fir + 32 + 16 * (turn & 1), a.conv, d, tid & 3);
    if (!kRagged && tid == 0) tensor_prefetch_to_l2(&map_p, 0, place.rank, 0, b * a.p.channels + d);
    async_copy_arrive(bar_x1v);
  };

  /// Gate and radix of a row. The filter's go on when all blocks have read their `rows`.
  auto columns = [&](int row, int turn) {
    const uint32_t planes = base + (turn & 1) * kExchangeBytes;
    float z[4][2][4];
    if constexpr (kFilter) {
      filter_values(z, a.h + row * a.filter_stride, a.filter_length,
                    a.skip != nullptr ? a.skip + row : nullptr, place, warp, lane);
    } else {
      mbarrier_wait(bar_x1v, turn & 1);
      __syncwarp();
      gate_tile<T, true>(z, ClusterGateAddress(planes, edges, warp, lane), 0, Fir(fir),
                         Fir(fir + 16), [](int) { return false; });
    }
    TileScale<true>::publish(maxima, z, 5, warp, lane);
    __syncthreads();  // x1 and v are in registers
    const float up = split_scale(tile_exponent(maxima), s);
    uint32_t zb[4][4];
    scaled_operands(zb, z, up);
    if (kFilter && turn > 0) cluster_wait();
    radix_columns<kLogC>(zb, base + kRadixOffset, ExchangeAddress<>(planes, warp, lane).store,
                         rows - planes, place.rank, lane);
    fence_async();
    __syncthreads();
  };
  /// By warp 0: what `columns` left. All blocks must have read their rows of the turn before.
  auto send = [&](int turn) {
    exchange_slices<kLogC>(base + (turn & 1) * kExchangeBytes, rows, bar_rows, place.rank, lane);
    if (lane < kC)
      remote_store(remote_address(exponents + 4 * place.rank, lane), tile_exponent(maxima),
                   remote_address(bar_rows, lane));
  };

  load_x1v(first, 0);
  columns(first, 0);
  if (warp == 0) send(0);
  for (int row = first, turn = 0; row < last; ++row, ++turn) {
    const int d = row / batches;
    const int b = row - d * batches;
    const uint32_t planes = base + (turn & 1) * kExchangeBytes;
    const uint32_t row_at = ExchangeAddress<>::row(rows, place.k(0, warp), lane);

    // ---- rows: twist and spectrum come one row ahead
    constexpr bool kHalf = !kFilter && kHalfRows<kLogC>;
    constexpr int kTogether = kHalf ? 2 : 1;
    RowData next_twist[kTogether];
    RowData next_filter[kTogether];
    auto load_twists = [&](int p) {
#pragma unroll
      for (int j = 0; j < kTogether; ++j)
        load_fragment(next_twist[j], a.twists + place.row(p + j, warp) * 64 + lane);
    };
    auto load_filters = [&](int p) {
#pragma unroll
      for (int j = 0; !kFilter && j < kTogether; ++j)
        load_spectrum(next_filter[j], a.filter, d, place.row(p + j, warp), s, lane);
    };
    load_twists(0);
    load_filters(0);
    if (kFilter && warp == 0 && row + 1 < last) {
      const int n = place.time(lane);
      if (a.filter_stride % 4 == 0 && n + 256 <= a.filter_length)
        bulk_prefetch(a.h + (row + 1) * a.filter_stride + n, 1024);
    }
    const uint32_t down = kFilter ? 0U : spectrum_factor(a.filter, d);
    const float unit = kFilter ? 0.F : split_unit(a.filter, d, s);
    mbarrier_wait(bar_rows, turn & 1);
    __syncwarp();
    if (tid == 0) expect_rows();
    load_x1v(row + 1, turn + 1);
    RowData x[4];
    uint32_t most;
    {
      const TileFactors<kC> factors(exponents);
      most = factors.most;
      load_rows(x, place, row_at, factors, warp);
    }
    if (kFilter) cluster_arrive();  // this block's rows are in registers
    RowConstants k;
    auto constants = [&] { load_row_constants(k, base + kConstantsOffset, lane); };
    if constexpr (kHalf) {
#pragma unroll
      for (int p = 0; p < 4; p += 2) {
        RowData c[2];
        RowData y[2];
        constants();
#pragma unroll
        for (int j = 0; j < 2; ++j)
          row_forward<true>(x[p + j], next_twist[j], k);
#pragma unroll
        for (int j = 0; j < 2; ++j)
          column_dft<false>(c[j], x[p + j], k);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          shrink(next_filter[j], down);
          row_product<false>(c[j], next_filter[j]);
          row_inverse<true>(c[j], k);
        }
        if (p == 0) load_filters(2);
#pragma unroll
        for (int j = 0; j < 2; ++j)
          column_dft<true>(y[j], c[j], k);
#pragma unroll
        for (int j = 0; j < 2; ++j)
          untwist_row(x[p + j], y[j], next_twist[j]);
        if (p == 0) load_twists(2);
      }
    } else {
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        const RowData twist = next_twist[0];
        RowData filter = next_filter[0];
        if (p < 3) {
          load_twists(p + 1);
          load_filters(p + 1);
        }
        constants();
        row_forward(x[p], twist, k);
        float re[2][4];
        float im[2][4];
        column_dft<false>(re, im, x[p], k);
        if constexpr (kFilter) {
          store_spectrum(a.spectrum, d, place.row(p, warp), s, split_scale(most, s), re, im, lane);
        } else {
          shrink(filter, down);
          row_product<false>(x[p], re, im, filter);
          row_inverse(x[p], k);
          column_dft<true>(re, im, x[p], k);
          untwist_row(x[p], re, im, twist);
        }
      }
    }
    if constexpr (kFilter) {
      if (row + 1 < last) {
        columns(row + 1, turn + 1);
        if (warp == 0) send(turn + 1);
      } else {
        cluster_wait();
      }
      continue;
    }
    store_rows(x, place, row_at, rows - planes, warp);
    fence_async();
    __syncthreads();
    if (warp == 0) exchange_slices<kLogC>(rows, planes, bar_planes, place.rank, lane);

    // ---- columns of the next row, while this one comes back
    if (row + 1 < last) columns(row + 1, turn + 1);
    const int n0 = place.time(lane >> 2) + 32 * warp + 4 * (lane & 3);
    LaneRow<T, kRagged> x0[2][2];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      x0[i >> 1][i & 1].load(a.p.row(b, d), n0 + i * (2048 << kLogC), a.y.length, a.wide, lane);
    mbarrier_wait(bar_planes, turn & 1);
    __syncwarp();
    if (tid == 0) mbarrier_expect(bar_planes, kExchangedBytes<kLogC>);
    if (warp == 0 && row + 1 < last) send(turn + 1);

    // ---- output, while the next one goes
    const ColumnOperand operand(ExchangeAddress<>(planes, warp, lane).load);
    __syncwarp();
    if (lane == 0) mbarrier_arrive(bar_read);
    Fir f0(fir + 32 + 16 * (turn & 1));
    const float factor = inverse_scale(split_scale(most, s)) * unit;
    f0.scale(factor);
    if (a.tail.c != nullptr && place.rank == 0 && warp == 0)
      hand_out_tail(operand, base + kRadixOffset + 4096, a.tail,
                    static_cast<int64_t>(b) * a.channels + d, factor, lane);
    T* const to = a.y.row(b, d) + n0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float acc[2][2][4];
      operand.multiply(acc, base + kRadixOffset + 4096, i, lane);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        uint32_t before[2];
        x0[i][r].before(before, lane);
#pragma unroll
        for (int q = 0; q < 2; ++q) {
          float v[6];
          widen<T>(v, before[q], x0[i][r].x[q]);
          float o[4];
#pragma unroll
          for (int j = 0; j < 4; ++j)
            o[j] = f0(v + j) * acc[q][j >> 1][2 * r + (j & 1)];
          const int ahead = ((4096 * i + 2048 * r) << kLogC) + 16 * q;
          const uint32_t w0 = Element<T>::pack(o[0], o[1]);
          const uint32_t w1 = Element<T>::pack(o[2], o[3]);
          if (kRagged) {
            store4(to + ahead, w0, w1, a.y.length - n0 - ahead, a.wide);
          } else {
            *reinterpret_cast<uint2*>(to + ahead) = make_uint2(w0, w1);
          }
        }
      }
    }
  }
  cluster_barrier();  // nobody leaves while its memory is read
#endif
}

template <class T, int kLogC, bool kFilter, bool kRagged>
void launch(const ClusterArgs<T>& a, std::int64_t rows, const CUtensorMap& map_p,
            cudaStream_t stream) {
  launch_clusters<cluster_forward<T, kLogC, kFilter, kRagged>>(1 << kLogC, rows, kThreads,
                                                               kSharedBytes, stream, a, map_p);
}

template <class T, bool kFilter, bool kRagged>
void dispatch(const ClusterArgs<T>& a, std::int64_t rows, const CUtensorMap& map_p,
              cudaStream_t stream) {
  switch (a.shape.log_c) {
    case 1:
      return launch<T, 1, kFilter, kRagged>(a, rows, map_p, stream);
    case 2:
      return launch<T, 2, kFilter, kRagged>(a, rows, map_p, stream);
    default:
      return launch<T, 3, kFilter, kRagged>(a, rows, map_p, stream);
  }
}

}  // namespace

template <class T>
void launch_cluster_forward(const ClusterArgs<T>& a, bool ragged, const CUtensorMap& map_p,
                            cudaStream_t stream) {
  const std::int64_t rows = static_cast<std::int64_t>(a.channels) * a.y.batch;
  ragged ? dispatch<T, false, true>(a, rows, map_p, stream)
         : dispatch<T, false, false>(a, rows, map_p, stream);
}
template void launch_cluster_forward(const ClusterArgs<__nv_bfloat16>&, bool, const CUtensorMap&,
                                     cudaStream_t);
template void launch_cluster_forward(const ClusterArgs<__half>&, bool, const CUtensorMap&,
                                     cudaStream_t);

void launch_cluster_filter(const ClusterArgs<__half>& a, cudaStream_t stream) {
  dispatch<__half, true, false>(a, a.channels, CUtensorMap{}, stream);
}

}  // namespace hyena::kernels::cuda
