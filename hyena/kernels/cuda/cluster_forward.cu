// Rows of 16384 to 65536 points, forward, in one pass: a cluster of c = 2, 4 or 8 blocks holds a
// row, every block 256 / c columns or 32 rows of it (split_tile.cuh). Also the filter's spectrum.
//
//   gate, transform over the C = 32 c rows -> exchange -> 32 rows k1: transform, product, inverse
//   -> exchange -> inverse over the rows, short convolution of x0, gate
//
// Mapping   8 warps per block, two blocks per SM. What a block computes goes to its neighbours'
//           shared memory by bulk copies which count bytes at the receiver's barrier; nothing else
//           synchronises a cluster. A slice leaves for the block from which its space will be
//           filled again, so that no buffer is overwritten before it was read.
// Budget    8 bytes per point of device memory, 8 between multiprocessors, 8 of spectrum and twist
//           from the L2
// Numerics  as split.h; one power of two per tile, made one per row by the rows
#include <algorithm>

#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/split_copy.cuh"
#include "hyena/kernels/cuda/split_gate.cuh"
#include "hyena/kernels/cuda/split_row.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSlicePitch = 32 * 64 + 32;    // a column block of 32 rows
constexpr int kRowsPlane = 8 * kSlicePitch;  // real or imaginary parts of 32 rows
constexpr int kRowsOffset = kExchangeBytes;  // behind x1 and v, later the planes
constexpr int kX0Offset = kRowsOffset + 2 * kRowsPlane;
constexpr int kOuterOffset = kX0Offset + kInputBytes;
constexpr int kRadixOffset = kOuterOffset + 16384;  // radix, radix_t
constexpr int kWgmmaOffset = kRadixOffset + 4096;   // wgmma_b, row constants
constexpr int kEdgeOffset = kWgmmaOffset + 5120;    // x1, v, x0
constexpr int kMaximaOffset = kEdgeOffset + 3072;
constexpr int kExponentOffset = kMaximaOffset + 64;  // of the cluster's tiles
constexpr int kFirOffset = kExponentOffset + 32;     // x1, v, x0
constexpr int kBarrierOffset = kFirOffset + 48;      // x1 v; x0; rows; planes
constexpr int kSharedBytes = kBarrierOffset + 32;
static_assert(kSharedBytes <= 113 * 1024, "two blocks per multiprocessor");
static_assert(kX0Offset % 512 == 0, "swizzle of the copy engine");

template <class T, bool kFilter, bool kRagged>
__global__ void __launch_bounds__(kThreads, 2)
    cluster_forward(const ClusterArgs<T> a, const __grid_constant__ CUtensorMap map_p,
                    const __grid_constant__ CUtensorMap map_y) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  const SplitShape s = a.shape;
  const int tid = threadIdx.x;
  const int warp = tid >> 5;
  const int lane = tid & 31;
  const int t = lane & 3;
  const uint32_t base = smem_address(smem);
  const uint32_t x0 = base + kX0Offset;
  const uint32_t edges = base + kEdgeOffset;
  const uint32_t maxima = base + kMaximaOffset;
  const uint32_t fir = base + kFirOffset;
  const uint32_t bar_x1v = base + kBarrierOffset;
  const uint32_t bar_x0 = bar_x1v + 8;
  const uint32_t bar_rows = bar_x1v + 16;
  const uint32_t bar_planes = bar_x1v + 24;
  const int c = 1 << s.log_c;
  const int blocks = 8 >> s.log_c;  // column blocks of a tile
  const int rank = static_cast<int>(cluster_rank());
  const int clusters = gridDim.x >> s.log_c;
  const int cluster = blockIdx.x >> s.log_c;
  const int batches = kFilter ? 1 : a.y.batch;
  const int64_t total = static_cast<int64_t>(a.channels) * batches;
  const int first = static_cast<int>(total * cluster / clusters);
  const int last = static_cast<int>(total * (cluster + 1) / clusters);

  copy_table(smem + kOuterOffset, a.tables->outer, 64 << (1 + s.log_c), tid, kThreads);
  copy_table(smem + kRadixOffset, a.tables->radix, 256, tid, kThreads);
  copy_table(smem + kWgmmaOffset, a.tables->wgmma_b, 320, tid, kThreads);
  if (tid == 0) {
    mbarrier_init(bar_x1v, kRagged ? kThreads : kThreads + 1);
    mbarrier_init(bar_x0, kRagged ? kThreads : kThreads + 1);
    mbarrier_init(bar_rows, 1);
    mbarrier_init(bar_planes, 1);
  }
  fence_setup();
  cluster_barrier();

  auto place = [&](int row) { return SplitPlace((row << s.log_c) | rank, s, batches); };
  const int gate_row = GateEdges::row(tid, s.log_c);
  const int output_row = OutputEdges<-1>::row(tid, s.log_c);
  auto load_x1v = [&](int row) {
    if (kFilter || row >= last) return;
    const SplitPlace at = place(row);
    if (!kRagged && tid == 0) mbarrier_expect(bar_x1v, 2 * kInputBytes);
    const int x1 = a.channels + at.channel;
    const int v = x1 + a.channels;
    load_split_input<kRagged>(a.p, &map_p, at, x1, base, s, a.wide, bar_x1v, tid);
    load_split_input<kRagged>(a.p, &map_p, at, v, base + kInputBytes, s, a.wide, bar_x1v, tid);
    load_split_edge(a.p, at, x1, edges, s, gate_row, -2, tid);
    load_split_edge(a.p, at, v, edges + 1024, s, gate_row, -2, tid);
    if (tid < 8) load_fir(fir + (tid & 4) * 4, a.conv, tid < 4 ? x1 : v, tid & 3);
    async_copy_arrive(bar_x1v);
  };
  auto load_x0 = [&](int row) {
    if (kFilter || row >= last) return;
    const SplitPlace at = place(row);
    if (!kRagged && tid == 0) {
      bulk_wait_read<0>();  // y of the row before, which stood here
      mbarrier_expect(bar_x0, kInputBytes);
    }
    load_split_input<kRagged>(a.p, &map_p, at, at.channel, x0, s, a.wide, bar_x0, tid);
    load_split_edge(a.p, at, at.channel, edges + 2048, s, output_row, -2, tid);
    if (tid < 4) load_fir(fir + 32, a.conv, at.channel, tid);
    async_copy_arrive(bar_x0);
  };
  // A slice is 32 rows of one column block and plane: 16 of them leave for 16 / c each of c blocks.
  auto exchange = [&](bool forward) {  // by warp 0, after a barrier
    if (lane >= 16) return;
    const int plane = lane & 1;
    const int to = (lane >> 1) & (c - 1);
    const int block = lane >> (1 + s.log_c);
    auto in_planes = [&](int rows_of) {
      return base + plane * kPlaneBytes + (block << (11 + s.log_c)) + rows_of * 2048;
    };
    auto in_rows = [&](int columns_of) {
      return base + kRowsOffset + plane * kRowsPlane + (columns_of * blocks + block) * kSlicePitch;
    };
    if (forward) {
      remote_copy(remote_address(in_rows(rank), to), in_planes(to), 2048,
                  remote_address(bar_rows, to));
    } else {
      remote_copy(remote_address(in_planes(rank), to), in_rows(to), 2048,
                  remote_address(bar_planes, to));
    }
  };
  /// Row phase: a lane's ldmatrix row in local row r.
  auto row_address = [&](int r) {
    const int i = lane & 7;
    const int block = 2 * (i >> 1) + ((lane >> 3) & 1);
    const int chunk = ((i & 1) * 2 + (lane >> 4)) ^ block_twist(block) ^ ((r >> 1) & 3);
    return base + kRowsOffset + block * kSlicePitch + r * 64 + (chunk << 4);
  };

  load_x1v(first);
  const int column_block = rank * blocks + (warp >> s.log_c);
  for (int row = first, turn = 0; row < last; ++row, ++turn) {
    const SplitPlace at = place(row);
    load_x0(row);
    if (!kRagged && !kFilter && tid == 0 && row + 1 < last) {
      const SplitPlace next = place(row + 1);
      for (int part = 0; part < 3; ++part)
        for (int i = 0; i < blocks; ++i)
          tensor_prefetch_to_l2(&map_p, 0, 0, (next.first_column >> 5) + i,
                                next.batch * a.p.channels + part * a.channels + next.channel);
    }
    if (tid == 0) {
      mbarrier_expect(bar_rows, kExchangeBytes + 4 * c);
      if (!kFilter) mbarrier_expect(bar_planes, kExchangeBytes);
    }
    // ---- columns
    float z[4][2][4];
    if constexpr (kFilter) {
      filter_values(z, a.h, a.skip, a.filter_length, at, s, warp, lane);
    } else {
      mbarrier_wait(bar_x1v, turn & 1);
      __syncwarp();
      gate_values<T, true>(z, base, edges, Fir(fir), Fir(fir + 16), s.log_c, warp, lane);
    }
    TileScale<true>::publish(maxima, z, 5, warp, lane);
    __syncthreads();  // x1 and v are in registers
    const uint32_t exponent = tile_exponent(maxima);
    if (tid < c)
      remote_store(remote_address(base + kExponentOffset + 4 * rank, tid), exponent,
                   remote_address(bar_rows, tid));
    const float up = split_scale(exponent, s);
    uint32_t zb[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        zb[j][i] = pack_half(z[i][0][j] * up, z[i][1][j] * up);
    uint4 radix[4];
#pragma unroll
    for (int q = 0; q < 4; ++q)
      radix[q] = lds128(base + kRadixOffset + (q * 32 + lane) * 16);
    radix_forward<true>(zb, radix, split_store_address(base, column_block, s.log_c, warp, lane),
                        512 << s.log_c);
    __syncthreads();
    outer_radix<false>(base, base + kOuterOffset, s.log_c, warp, lane);
    fence_async();
    __syncthreads();
    if (warp == 0) exchange(true);

    // ---- rows: four for each warp; twist and spectrum come one row ahead
    RowData next_twist;
    RowData next_filter;
    auto load_constants = [&](int i) {
      const int k1_row = 32 * rank + warp + 8 * i;
      load_fragment(next_twist, a.twists + k1_row * 64 + lane);
      if (!kFilter)
        load_fragment(
            next_filter,
            a.filter.spectrum + (static_cast<int64_t>(at.channel) * s.rows() + k1_row) * 64 + lane);
    };
    load_constants(0);
    const uint32_t down = kFilter ? 0U : spectrum_factor(a.filter, at.channel);
    mbarrier_wait(bar_rows, turn & 1);
    __syncwarp();
    uint32_t most = lds32(base + kExponentOffset);
    for (int i = 1; i < c; ++i)
      most = max(most, lds32(base + kExponentOffset + 4 * i));
    uint32_t factor[2];
#pragma unroll
    for (int h = 0; h < 2; ++h)
      factor[h] =
          half_power(most - lds32(base + kExponentOffset + 4 * ((2 * t + h) >> (3 - s.log_c))));
    const uint64_t desc = wgmma_descriptor(base + kWgmmaOffset);
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      const int r = warp + 8 * i;
      const int k1_row = 32 * rank + r;
      const RowData twist = next_twist;
      RowData filter = next_filter;
      if (i < 3) load_constants(i + 1);
      const uint32_t from = row_address(r);
      RowData x;
      load_row<kRowsPlane>(x, from);
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        x.re[q] = half_product(x.re[q], factor[q & 1]);
        x.im[q] = half_product(x.im[q], factor[q & 1]);
      }
      RowConstants k;
      const uint32_t constants = base + kWgmmaOffset + 2560 + 16 * lane;
      lds128(k.re, constants);
      lds128(k.im, constants + 512);
      lds128(k.minus_im, constants + 1024);
      lds128(k.twiddle_re, constants + 1536);
      lds128(k.twiddle_im, constants + 2048);
      row_forward(x, twist, k);
      float re[2][4];
      float im[2][4];
      wgmma_complex(re, im, x.re, x.im, desc + kForwardFirst, desc + kForwardSecond);
      if constexpr (kFilter) {
        store_spectrum(a.spectrum, at.channel, k1_row, s, split_scale(most, s), re, im, lane);
      } else {
        shrink(filter, down);
        row_product<false>(x, re, im, filter);
        row_inverse(x, k);
        wgmma_complex(re, im, x.re, x.im, desc + kInverseFirst, desc + kInverseSecond);
        store_row<kRowsPlane>(re, im, twist, from);
      }
    }
    if constexpr (kFilter) {
      cluster_barrier();  // every block has read its rows
      continue;
    }
    fence_async();
    __syncthreads();
    if (warp == 0) exchange(false);

    // ---- columns
    const float unit = inverse_scale(split_scale(most, s)) * split_unit(a.filter, at.channel, s);
    mbarrier_wait(bar_planes, turn & 1);
    outer_radix<true>(base, base + kOuterOffset, s.log_c, warp, lane);
    __syncthreads();
    const InverseOperand<true> operand(split_load_address(base, column_block, s.log_c, warp, lane));
    uint4 radix_t[2][2];
#pragma unroll
    for (int q = 0; q < 4; ++q)
      radix_t[q >> 1][q & 1] = lds128(base + kRadixOffset + 2048 + (q * 32 + lane) * 16);
    fence_async();
    __syncthreads();  // planes are in registers
    load_x1v(row + 1);
    mbarrier_wait(bar_x0, turn & 1);
    __syncwarp();
    Fir f0(fir + 32);
    f0.scale(unit);
    gate_output<T, kRagged>(a.y, at, operand, radix_t, x0, edges + 2048, f0, column_block, s,
                            a.wide, warp, lane);
    fence_async();
    __syncthreads();  // x0 is used up, y complete
    if (!kRagged && tid == 0) store_split_output(x0, &map_y, at, a.channels, s);
  }
  if (!kFilter && !kRagged && tid == 0) bulk_wait_read<0>();
  __syncwarp();
  cluster_barrier();  // nobody leaves while its memory is read
#endif
}

/// A launch of clusters of c blocks.
struct ClusterLaunch {
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};
  ClusterLaunch(int c, int blocks, cudaStream_t stream) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(c);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    config.gridDim = dim3(static_cast<unsigned>(blocks));
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = kSharedBytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  ClusterLaunch(const ClusterLaunch&) = delete;  // config points into it
  ClusterLaunch& operator=(const ClusterLaunch&) = delete;
};

/// Blocks of a grid: as many clusters as the device holds at once.
template <class K>
int resident_blocks(K* kernel, int c) {
  const ClusterLaunch launch(c, c * 1024, nullptr);
  int clusters = 0;
  check(cudaOccupancyMaxActiveClusters(&clusters, kernel, &launch.config), "clusters of the mixer");
  return c * std::max(1, clusters);
}

template <class T, bool kFilter, bool kRagged>
void launch(const ClusterArgs<T>& a, std::int64_t rows, const CUtensorMap& map_p,
            const CUtensorMap& map_y, cudaStream_t stream) {
  auto* kernel = &cluster_forward<T, kFilter, kRagged>;
  allow_shared_memory<cluster_forward<T, kFilter, kRagged>>(kSharedBytes);
  const int c = 1 << a.shape.log_c;
  static std::atomic<int> resident[4];  // by log c
  int blocks = resident[a.shape.log_c].load(std::memory_order_relaxed);
  if (blocks == 0) {
    blocks = resident_blocks(kernel, c);
    resident[a.shape.log_c].store(blocks, std::memory_order_relaxed);
  }
  blocks = static_cast<int>(std::min<std::int64_t>(blocks, rows * c));
  const ClusterLaunch launch(c, blocks, stream);
  check(cudaLaunchKernelEx(&launch.config, kernel, a, map_p, map_y),
        "launch of the mixer's cluster kernel");
}

}  // namespace

template <class T>
void launch_cluster_forward(const ClusterArgs<T>& a, bool ragged, const CUtensorMap& map_p,
                            const CUtensorMap& map_y, cudaStream_t stream) {
  const std::int64_t rows = static_cast<std::int64_t>(a.channels) * a.y.batch;
  ragged ? launch<T, false, true>(a, rows, map_p, map_y, stream)
         : launch<T, false, false>(a, rows, map_p, map_y, stream);
}
template void launch_cluster_forward(const ClusterArgs<__nv_bfloat16>&, bool, const CUtensorMap&,
                                     const CUtensorMap&, cudaStream_t);
template void launch_cluster_forward(const ClusterArgs<__half>&, bool, const CUtensorMap&,
                                     const CUtensorMap&, cudaStream_t);

void launch_cluster_filter(const ClusterArgs<__half>& a, cudaStream_t stream) {
  launch<__half, true, false>(a, a.channels, CUtensorMap{}, CUtensorMap{}, stream);
}

}  // namespace hyena::kernels::cuda
