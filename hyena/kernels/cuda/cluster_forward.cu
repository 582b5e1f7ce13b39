// Rows of 16384 to 65536 points, forward, in one pass: a cluster of c = 2, 4 or 8 blocks holds a
// row (cluster.cuh). Also the filter's spectrum.
//
//   gate, radix 32 -> exchange -> radix c and 256 points of four k1 per warp, product, inverse ->
//   exchange -> inverse radix 32, short convolution of x0, gate
//
// Mapping   8 warps per block, two blocks per SM: one computes while the other waits. Slices of
//           what a block computes go to its neighbours' shared memory by bulk copies which count
//           bytes at the receiver's barrier; nothing else synchronises a cluster. x1 and v of the
//           next row arrive while this one is transformed; x0 goes from memory to registers.
// Budget    8 bytes per point of device memory, 8 (c - 1) / c between multiprocessors, 8 of
//           spectrum and twist from the L2
// Registers 128 (65,536 / 512)
// Numerics  as split.h; one power of two per tile, made one per row by the rows
#include "hyena/kernels/cuda/cluster.cuh"
#include "hyena/kernels/cuda/cluster_launch.h"
#include "hyena/kernels/cuda/split_copy.cuh"
#include "hyena/kernels/cuda/split_row.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = kClusterThreads;
constexpr int kPlanesOffset = 2 * kInputBytes;                   // behind x1 and v
constexpr int kEdgeOffset = kPlanesOffset + 2 * kExchangeBytes;  // of x1; of v kInputBytes behind
constexpr int kRadixOffset = kEdgeOffset + 128;                  // there and back
constexpr int kWgmmaOffset = kRadixOffset + 8192;                // wgmma_b, row constants
constexpr int kMaximaOffset = kWgmmaOffset + 5120;
constexpr int kExponentOffset = kMaximaOffset + 64;  // of the cluster's tiles
constexpr int kFirOffset = kExponentOffset + 32;     // x1, v
constexpr int kBarrierOffset = kFirOffset + 32;      // x1 v; rows; planes
constexpr int kSharedBytes = kEdgeOffset + kInputBytes + 128;
static_assert(kBarrierOffset + 24 <= kEdgeOffset + kInputBytes);
static_assert(kSharedBytes <= 113 * 1024, "two blocks per multiprocessor");

/// The filter h (D, K) in place of z. The skip is one more tap at lag 0.
template <int kLogC>
__device__ __forceinline__ void filter_values(float (&z)[4][2][4], const float* h,
                                              int64_t filter_length, const float* skip,
                                              const ClusterPlace<kLogC>& place, int warp,
                                              int lane) {
  const bool wide = reinterpret_cast<uintptr_t>(h) % 16 == 0;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int n =
          place.time(ClusterGateAddress::row(i, e, lane)) + 32 * warp + 4 * (lane >> 2);
      if (wide && n + 4 <= filter_length) {
        const float4 v = __ldg(reinterpret_cast<const float4*>(h + n));
        z[i][e][0] = v.x;
        z[i][e][1] = v.y;
        z[i][e][2] = v.z;
        z[i][e][3] = v.w;
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          z[i][e][j] = n + j < filter_length ? __ldg(h + n + j) : 0.F;
      }
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
  const uint32_t planes = base + kPlanesOffset;
  const uint32_t edges = base + kEdgeOffset;
  const uint32_t maxima = base + kMaximaOffset;
  const uint32_t exponents = base + kExponentOffset;
  const uint32_t fir = base + kFirOffset;
  const uint32_t bar_x1v = base + kBarrierOffset;
  const uint32_t bar_rows = bar_x1v + 8;
  const uint32_t bar_planes = bar_x1v + 16;
  const ClusterPlace<kLogC> place{static_cast<int>(cluster_rank())};
  const int clusters = gridDim.x >> kLogC;
  const int cluster = blockIdx.x >> kLogC;
  const int batches = kFilter ? 1 : a.y.batch;
  const int64_t total = static_cast<int64_t>(a.channels) * batches;
  const int first = static_cast<int>(total * cluster / clusters);
  const int last = static_cast<int>(total * (cluster + 1) / clusters);

  copy_table(smem + kRadixOffset, a.radix + place.rank * 512, 512, tid, kThreads);
  copy_table(smem + kWgmmaOffset, a.tables->wgmma_b, 320, tid, kThreads);
  if (tid == 0) {
    mbarrier_init(bar_x1v, kRagged ? kThreads : kThreads + 1);
    mbarrier_init(bar_rows, 1);
    mbarrier_init(bar_planes, 1);
  }
  fence_setup();
  cluster_barrier();

  auto load_x1v = [&](int row) {
    if (kFilter || row >= last) return;
    const int d = row / batches;
    const int b = row - d * batches;
    if (!kRagged && tid == 0) mbarrier_expect(bar_x1v, 2 * kInputBytes);
#pragma unroll
    for (int input = 0; input < 2; ++input) {
      const int channel = (1 + input) * a.channels + d;
      load_cluster_input<kLogC, kRagged>(a.p, &map_p, b, channel, place,
                                         base + input * kInputBytes, a.wide, bar_x1v, tid);
      load_cluster_edge<kLogC>(a.p, b, channel, place, edges + input * kInputBytes, tid);
      if ((tid >> 2) == input) load_fir(fir + 16 * input, a.conv, channel, tid & 3);
    }
    if (!kRagged && tid == 0)
      tensor_prefetch_to_l2(&map_p, 0, place.rank, 0, b * a.p.channels + d);
    async_copy_arrive(bar_x1v);
  };

  load_x1v(first);
  const ClusterGateAddress gate_at(base, edges, warp, lane);
  const ExchangeAddress exchange_at(planes, warp, lane);
  const uint32_t row_at =
      ExchangeAddress::row(planes + kRowsOffset, place.k(0, warp), lane);
  const uint64_t desc = wgmma_descriptor(base + kWgmmaOffset);
  for (int row = first, turn = 0; row < last; ++row, ++turn) {
    const int d = row / batches;
    const int b = row - d * batches;
    if (tid == 0) {
      mbarrier_expect(bar_rows, kExchangedBytes<kLogC> + 4 * kC);
      if (!kFilter) mbarrier_expect(bar_planes, kExchangedBytes<kLogC>);
    }
    // ---- columns
    float z[4][2][4];
    if constexpr (kFilter) {
      filter_values(z, a.h + d * a.filter_length, a.filter_length,
                    a.skip != nullptr ? a.skip + d : nullptr, place, warp, lane);
    } else {
      mbarrier_wait(bar_x1v, turn & 1);
      __syncwarp();
      gate_tile<T, true>(z, gate_at, 0, Fir(fir), Fir(fir + 16), [](int) { return false; });
    }
    TileScale<true>::publish(maxima, z, 5, warp, lane);
    __syncthreads();  // x1 and v are in registers
    load_x1v(row + 1);
    const uint32_t exponent = tile_exponent(maxima);
    if (tid < kC)
      remote_store(remote_address(exponents + 4 * place.rank, tid), exponent,
                   remote_address(bar_rows, tid));
    const float up = split_scale(exponent, s);
    uint32_t zb[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        zb[j][i] = pack_half(z[i][0][j] * up, z[i][1][j] * up);
    radix_columns<kLogC>(zb, base + kRadixOffset, exchange_at.store, place.rank, lane);
    fence_async();
    __syncthreads();
    if (warp == 0)
      exchange_slices<kLogC>(planes, planes + kRowsOffset, bar_rows, place.rank, lane);

    // ---- rows: twist and spectrum come one row ahead
    RowData next_twist;
    RowData next_filter;
    auto load_constants = [&](int p) {
      const int k1_row = place.row(p, warp);
      load_fragment(next_twist, a.twists + k1_row * 64 + lane);
      if (!kFilter)
        load_fragment(next_filter,
                      a.filter.spectrum +
                          (static_cast<int64_t>(d) * s.rows() + k1_row) * 64 + lane);
    };
    load_constants(0);
    const uint32_t down = kFilter ? 0U : spectrum_factor(a.filter, d);
    mbarrier_wait(bar_rows, turn & 1);
    __syncwarp();
    uint32_t most = lds32(exponents);
#pragma unroll
    for (int tau = 1; tau < kC; ++tau)
      most = max(most, lds32(exponents + 4 * tau));
    RowData x[4];
    load_rows(x, place, row_at,
              [&](int tau) { return half_power(most - lds32(exponents + 4 * tau)); }, warp);
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      const RowData twist = next_twist;
      RowData filter = next_filter;
      if (p < 3) load_constants(p + 1);
      RowConstants k;
      load_row_constants(k, base + kWgmmaOffset + 2560, lane);
      row_forward(x[p], twist, k);
      float re[2][4];
      float im[2][4];
      wgmma_complex(re, im, x[p].re, x[p].im, desc + kForwardFirst, desc + kForwardSecond);
      if constexpr (kFilter) {
        store_spectrum(a.spectrum, d, place.row(p, warp), s, split_scale(most, s), re, im, lane);
      } else {
        shrink(filter, down);
        row_product<false>(x[p], re, im, filter);
        row_inverse(x[p], k);
        wgmma_complex(re, im, x[p].re, x[p].im, desc + kInverseFirst, desc + kInverseSecond);
        untwist_row(x[p], re, im, twist);
      }
    }
    if constexpr (kFilter) {
      cluster_barrier();  // every block has read its rows
      continue;
    }
    store_rows(x, place, row_at, warp);
    fence_async();
    __syncthreads();
    if (warp == 0)
      exchange_slices<kLogC>(planes + kRowsOffset, planes, bar_planes, place.rank, lane);

    // ---- columns
    const int n0 = place.time(lane >> 2) + 32 * warp + 4 * (lane & 3);
    LaneRow<T, kRagged> x0[2][2];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      x0[i >> 1][i & 1].load(a.p.row(b, d), n0 + i * (2048 << kLogC), a.y.length, a.wide, lane);
    Fir f0(a.conv.value(d, 0), a.conv.value(d, 1), a.conv.value(d, 2), a.conv.value(d, 3));
    f0.scale(inverse_scale(split_scale(most, s)) * split_unit(a.filter, d, s));
    mbarrier_wait(bar_planes, turn & 1);
    __syncwarp();
    const ColumnOperand operand(exchange_at.load);
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
