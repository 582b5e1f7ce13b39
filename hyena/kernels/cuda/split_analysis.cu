// Long rows, first kernel: gate (or filter), scale, transform over the C rows, to scratch.
//
// Shapes    p (B, 3D, L), dy (B, D, L) 16-bit, or h (D, K) float32; scratch (split_tile.cuh)
// Method    radix 32 of real input, then radix c with its twiddle in one complex matrix
// Mapping   8 warps per tile, two blocks per SM; tiles in turn, so that neighbours in a row are in
//           flight together and share sectors. Two input buffers; planes replace the input they
//           come from.
// Budget    4 bytes read, 4 written per point
// Numerics  one power of two per tile, its exponent is stored; the rows make it one per row
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/split_copy.cuh"
#include "hyena/kernels/cuda/split_gate.cuh"
#include "hyena/kernels/cuda/split_row.cuh"
#include "hyena/kernels/cuda/tail.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBufferBytes = 2 * kInputBytes;
constexpr int kOuterOffset = 2 * kBufferBytes;
constexpr int kRadixOffset = kOuterOffset + 16384;
constexpr int kEdgeOffset = kRadixOffset + 2048;  // [buffer][input][row]
constexpr int kMaximaOffset = kEdgeOffset + 4096;
constexpr int kFirOffset = kMaximaOffset + 64;  // [buffer][input]
constexpr int kBarrierOffset = kFirOffset + 64;
constexpr int kSharedBytes = kBarrierOffset + 16;

enum class Source { kBothFiltered, kFirstFiltered, kFilter };

/// One word of the tables.
__device__ uint32_t split_table_word(int word, const SplitShape& s) {
  const int q = word & 3;
  const int lane = (word >> 2) & 31;
  const int g = lane >> 2;
  const int t = lane & 3;
  int u = word >> 7;  // which vector of 32 lanes
  double v[2];
  if (u < 12) {
    const int table = u >> 2;
    const int part = (u >> 1) & 1;
    const int o = u & 1;
    for (int e = 0; e < 2; ++e) {
      const int row = g + 8 * (q & 1);
      const int k = 2 * t + 8 * (q >> 1) + e;
      const int kappa = table == 0 ? row : k;
      const int alpha = table == 0 ? swap_low_bits(k) : swap_middle_bits(row);
      const int a = 2 * alpha + o + (table == 2 ? 1 : 0);
      const Complex64 z = root(a * (4 * kappa - 1) + 128, 128);
      v[e] = 0.125 * (part != 0 ? z.im : z.re);
    }
    return half_pair(v[0], v[1]);
  }
  u -= 12;
  if (u < 10) return table_word((kTileRows * 64 + 256) * 4 + u * 128 + (word & 127), 5);
  u -= 10;
  const int group = u >> 1;
  const int part = u & 1;
  const int c = 1 << s.log_c;
  const double gain = 1.0 / (1 << ((s.log_c + 1) / 2));
  const int at = word & 127;  // 8 words a row
  for (int e = 0; e < 2; ++e) {
    const int out = at >> 3;
    const int in = 2 * (at & 7) + e;
    const int kappa = (group << (4 - s.log_c)) + (out >> s.log_c);
    const int j = out & (c - 1);
    const int b = (in ^ kappa) & (c - 1);
    const Complex64 z =
        root(static_cast<int64_t>(b) * (4 * (kappa + 32 * j) - 1) + 128 * c, 128 * c);
    const bool same = group < 2 * c && (out >> s.log_c) == (in >> s.log_c);
    v[e] = same ? gain * (part == 0 ? z.re : z.im) : 0.0;
  }
  return half_pair(v[0], v[1]);
}

constexpr int kTableBlocks = 24;

/// Radix 32 of block tau of a cluster (ClusterArgs::radix): rows k1 of columns m, or the reverse.
__device__ uint32_t cluster_radix_word(int word, const SplitShape& s) {
  const int q = word & 3;
  const int g = (word >> 4) & 7;
  const int t = (word >> 2) & 3;
  const int u = word >> 7;  // [tau][back][part][block][half]
  const int half = u & 1;
  const int block = (u >> 1) & 1;
  const bool imaginary = ((u >> 2) & 1) != 0;
  const bool back = ((u >> 3) & 1) != 0;
  const int tau = u >> 4;
  const double gain = 0.125 / (1 << ((s.log_c + 1) / 2));
  const int row = 16 * block + g + 8 * (q & 1);
  double v[2];
  for (int e = 0; e < 2; ++e) {
    const int k1 = back ? 16 * half + 8 * (q >> 1) + 2 * t + e : row;
    const int m = back ? row : 16 * (q >> 1) + 2 * t + half + 8 * e;
    const int64_t period = int64_t{128} << s.log_c;
    const int n1 = (m << s.log_c) + tau;
    const Complex64 z = root(static_cast<int64_t>(n1) * (4 * k1 - 1) + period, period);
    v[e] = gain * (imaginary ? z.im : z.re);
  }
  return half_pair(v[0], v[1]);
}
/// Tables, zeros, and behind them one block for every eight rows of twists.
__global__ void split_tables(uint32_t* tables, uint4* twists, uint32_t* radix, SplitShape s,
                             uint32_t* zeros, int zero_count) {
  if (blockIdx.x >= kTableBlocks) {
    const int row = 8 * (blockIdx.x - kTableBlocks) + (threadIdx.x >> 5);
    const int lane = threadIdx.x & 31;
    RowData w;
    row_twist(w, split_frequency(row, s), s.log_points(), lane);
    twists[row * 64 + lane] = make_uint4(w.re[0], w.re[1], w.re[2], w.re[3]);
    twists[row * 64 + 32 + lane] = make_uint4(w.im[0], w.im[1], w.im[2], w.im[3]);
    return;
  }
  const int step = kTableBlocks * blockDim.x;
  for (int w = blockIdx.x * blockDim.x + threadIdx.x; w < 4 * kSplitTableVectors; w += step)
    tables[w] = split_table_word(w, s);
  for (int w = blockIdx.x * blockDim.x + threadIdx.x; w < (2048 << s.log_c); w += step)
    radix[w] = cluster_radix_word(w, s);
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < zero_count; i += step)
    zeros[i] = 0;
}

template <class T, Source kSource, bool kRagged>
__global__ void __launch_bounds__(kThreads, 2)
    split_analysis(const SplitAnalysisArgs<T> a, const __grid_constant__ CUtensorMap map_a,
                   const __grid_constant__ CUtensorMap map_b,
                   const __grid_constant__ CUtensorMap map_out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  constexpr bool kFilter = kSource == Source::kFilter;
  const SplitShape s = a.shape;
  const int tid = threadIdx.x;
  const int warp = tid >> 5;
  const int lane = tid & 31;
  const uint32_t base = smem_address(smem);
  const int batches = kFilter ? 1 : a.a.batch;
  const int total = (a.channels * batches) << s.log_tiles();

  copy_table(smem + kOuterOffset, a.tables->outer, 1024, tid, kThreads);
  copy_table(smem + kRadixOffset, a.tables->radix, 128, tid, kThreads);
  if (tid == 0)
    for (int i = 0; i < 2; ++i)
      mbarrier_init(base + kBarrierOffset + 8 * i, kRagged ? kThreads : kThreads + 1);
  fence_setup();
  __syncthreads();

  const int edge_row = GateEdges::row(tid, s.log_c);
  auto load = [&](int item, int buffer) {
    if (kFilter || item >= total) return;
    const SplitPlace at(item, s, batches);
    const uint32_t bar = base + kBarrierOffset + 8 * buffer;
    const uint32_t to = base + buffer * kBufferBytes;
    const uint32_t edges = base + kEdgeOffset + buffer * 2048;
    if (!kRagged && tid == 0) mbarrier_expect(bar, 2 * kInputBytes);
    const int channel_a = a.part_a * a.channels + at.channel;
    const int channel_b = a.part_b * a.channels + at.channel;
    load_split_input<kRagged>(a.a, &map_a, at, channel_a, to, s, a.wide, bar, tid);
    load_split_input<kRagged>(a.b, &map_b, at, channel_b, to + kInputBytes, s, a.wide, bar, tid);
    load_split_edge(a.a, at, channel_a, edges, s, edge_row, -2, tid);
    if (kSource == Source::kBothFiltered)
      load_split_edge(a.b, at, channel_b, edges + 1024, s, edge_row, -2, tid);
    if (tid < 8)
      load_fir(base + kFirOffset + 32 * buffer + (tid & 4) * 4, a.conv,
               tid < 4 || kSource != Source::kBothFiltered ? channel_a : channel_b, tid & 3);
    async_copy_arrive(bar);
  };

  int item = blockIdx.x;
  load(item, 0);
  const int step = gridDim.x;
  for (int turn = 0; item < total; item += step, ++turn) {
    const int buffer = turn & 1;
    const uint32_t planes = base + buffer * kBufferBytes;
    const SplitPlace at(item, s, batches);
    float z[4][2][4];
    if constexpr (kFilter) {
      filter_values(z, a.h, a.skip, a.filter_length, a.filter_stride, at, s, warp, lane);
      if (tid == 0) bulk_wait_read<1>();
    } else {
      mbarrier_wait(base + kBarrierOffset + 8 * buffer, (turn >> 1) & 1);
      __syncwarp();
      const uint32_t fir = base + kFirOffset + 32 * buffer;
      gate_values<T, kSource == Source::kBothFiltered>(z, planes,
                                                       base + kEdgeOffset + buffer * 2048, Fir(fir),
                                                       Fir(fir + 16), s.log_c, warp, lane);
    }
    const bool tail = kSource == Source::kFirstFiltered && a.tail.c != nullptr && warp == 0 &&
                      at.first_column == 0;
    const int64_t tensor_row = static_cast<int64_t>(at.batch) * a.channels + at.channel;
    TileScale<true>::publish(base + kMaximaOffset, z, 5, warp, lane, [&](int i) {
      return tail && i == 0 ? tail_most(TailInMemory{a.tail, tensor_row}) : 0.F;
    });
    __syncthreads();  // all of the input is in registers
    if (!kFilter) {
      if (tid == 0) bulk_wait_read<0>();  // the other buffer's planes are on their way
      __syncwarp();
      if (kRagged) __syncthreads();
      load(item + step, buffer ^ 1);
    }
    const uint32_t exponent = tile_exponent(base + kMaximaOffset);
    if (tid == 0) a.exponents[item] = exponent;
    const float up = split_scale(exponent, s);
    uint32_t zb[4][4];
    scaled_operands(zb, z, up);
    uint4 radix[4];
#pragma unroll
    for (int q = 0; q < 4; ++q)
      radix[q] = lds128(base + kRadixOffset + (q * 32 + lane) * 16);
    const int block = (at.first_column >> 5) + (warp >> s.log_c);
    radix_forward<true>(zb, radix, split_store_address(planes, block, s.log_c, warp, lane),
                        512 << s.log_c, [&](float(&x)[4][4], int) {
                          if (!tail || (lane & 3) != 0) return;
                          add_tail(x, 0, TailInMemory{a.tail, tensor_row}, 0.125F * up);
                          add_tail(x, 1, TailInMemory{a.tail, tensor_row}, 0.125F * up);
                        });
    __syncthreads();
    outer_radix<false>(planes, base + kOuterOffset, s.log_c, warp, lane);
    fence_async();
    __syncthreads();
    if (tid == 0) store_split_planes(planes, &map_out, at, s);
  }
  if (tid == 0) bulk_wait_read<0>();
#endif
}

template <class T, Source kSource, bool kRagged>
void launch(const SplitAnalysisArgs<T>& a, int multiprocessors, const CUtensorMap& map_a,
            const CUtensorMap& map_b, const CUtensorMap& map_out, cudaStream_t stream) {
  allow_shared_memory<split_analysis<T, kSource, kRagged>>(kSharedBytes);
  split_analysis<T, kSource, kRagged>
      <<<2 * multiprocessors, kThreads, kSharedBytes, stream>>>(a, map_a, map_b, map_out);
  check(cudaGetLastError(), "launch of the mixer's column analysis");
}

}  // namespace

void launch_split_tables(SplitTables* tables, uint4* twists, uint4* radix, const SplitShape& s,
                         uint32_t* zeros, int zero_count, cudaStream_t stream) {
  split_tables<<<kTableBlocks + s.rows() / 8, 256, 0, stream>>>(
      reinterpret_cast<uint32_t*>(tables), twists, reinterpret_cast<uint32_t*>(radix), s, zeros,
      zero_count);
  check(cudaGetLastError(), "launch of the mixer's tables");
}

template <class T>
void launch_split_gate(const SplitAnalysisArgs<T>& a, bool both_filtered, bool ragged,
                       int multiprocessors, const CUtensorMap& map_a, const CUtensorMap& map_b,
                       const CUtensorMap& map_out, cudaStream_t stream) {
  auto run = [&]<Source kSource>() {
    ragged ? launch<T, kSource, true>(a, multiprocessors, map_a, map_b, map_out, stream)
           : launch<T, kSource, false>(a, multiprocessors, map_a, map_b, map_out, stream);
  };
  both_filtered ? run.template operator()<Source::kBothFiltered>()
                : run.template operator()<Source::kFirstFiltered>();
}
template void launch_split_gate(const SplitAnalysisArgs<__nv_bfloat16>&, bool, bool, int,
                                const CUtensorMap&, const CUtensorMap&, const CUtensorMap&,
                                cudaStream_t);
template void launch_split_gate(const SplitAnalysisArgs<__half>&, bool, bool, int,
                                const CUtensorMap&, const CUtensorMap&, const CUtensorMap&,
                                cudaStream_t);

void launch_split_filter(const SplitAnalysisArgs<__half>& a, int multiprocessors,
                         const CUtensorMap& map_out, cudaStream_t stream) {
  launch<__half, Source::kFilter, false>(a, multiprocessors, CUtensorMap{}, CUtensorMap{}, map_out,
                                         stream);
}

}  // namespace hyena::kernels::cuda
