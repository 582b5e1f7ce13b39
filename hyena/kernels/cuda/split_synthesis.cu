// Long rows, third kernel of the forward: inverse transform over the C rows, short convolution of
// x0, gate.
//
// Mapping   as split_analysis.cu; planes leave for registers before the next ones come, x0 comes
//           while its tile is transformed, y takes its place
// Budget    4 + 2 bytes read, 2 written per point
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/split.h"
#include "hyena/kernels/cuda/split_copy.cuh"
#include "hyena/kernels/cuda/split_gate.cuh"
#include "hyena/kernels/cuda/split_tile.cuh"
#include "hyena/kernels/cuda/tail.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 3;  // per multiprocessor
constexpr int kX0Offset = kExchangeBytes;
constexpr int kOuterOffset = kX0Offset + kInputBytes;
constexpr int kRadixOffset = kOuterOffset + 16384;
constexpr int kEdgeOffset = kRadixOffset + 2048;
constexpr int kFirOffset = kEdgeOffset + 1024;
constexpr int kBarrierOffset = kFirOffset + 16;  // planes; x0
constexpr int kSharedBytes = kBarrierOffset + 16;

template <class T, bool kRagged>
__global__ void __launch_bounds__(kThreads, kBlocks)
    split_synthesis(const SplitSynthesisArgs<T> a, const __grid_constant__ CUtensorMap map_p,
                    const __grid_constant__ CUtensorMap map_y,
                    const __grid_constant__ CUtensorMap map_scratch) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  const SplitShape s = a.shape;
  const int tid = threadIdx.x;
  const int warp = tid >> 5;
  const int lane = tid & 31;
  const uint32_t base = smem_address(smem);
  const uint32_t x0 = base + kX0Offset;
  const uint32_t bar_planes = base + kBarrierOffset;
  const uint32_t bar_x0 = bar_planes + 8;
  const int channels = a.y.channels;
  const int total = (channels * a.y.batch) << s.log_tiles();

  copy_table(smem + kOuterOffset, a.filter.tables->outer, 1024, tid, kThreads);
  copy_table(smem + kRadixOffset, a.filter.tables->radix_t, 128, tid, kThreads);
  if (tid == 0) {
    mbarrier_init(bar_planes, 1);
    mbarrier_init(bar_x0, kRagged ? kThreads : kThreads + 1);
  }
  fence_setup();
  __syncthreads();

  auto load_planes = [&](int item) {  // by thread 0
    if (item < total)
      load_split_planes(base, &map_scratch, SplitPlace(item, s, a.y.batch), s, bar_planes);
  };
  if (tid == 0) load_planes(blockIdx.x);
  const int step = gridDim.x;
  int turn = 0;
  for (int item = blockIdx.x; item < total; item += step, ++turn) {
    const SplitPlace at(item, s, a.y.batch);
    if (!kRagged && tid == 0) {
      bulk_wait_read<0>();  // y of the tile before, which stood here
      mbarrier_expect(bar_x0, kInputBytes);
    }
    load_split_input<kRagged>(a.p, &map_p, at, at.channel, x0, s, a.wide, bar_x0, tid);
    load_split_edge(a.p, at, at.channel, base + kEdgeOffset, s, OutputEdges<-1>::row(tid, s.log_c),
                    -2, tid);
    if (tid < 4) load_fir(base + kFirOffset, a.conv, at.channel, tid);
    async_copy_arrive(bar_x0);
    const int tiles = 1 << s.log_tiles();
    const uint32_t exponent =
        row_exponent(a.exponents + static_cast<int64_t>(at.row) * tiles, tiles, lane);
    const float unit =
        inverse_scale(split_scale(exponent, s)) * split_unit(a.filter, at.channel, s);
    mbarrier_wait(bar_planes, turn & 1);
    outer_radix<true>(base, base + kOuterOffset, s.log_c, warp, lane);
    __syncthreads();
    const int block = (at.first_column >> 5) + (warp >> s.log_c);
    const InverseOperand<true> operand(split_load_address(base, block, s.log_c, warp, lane));
    uint4 radix_t[2][2];
    load_radix_t(radix_t, base + kRadixOffset, lane);
    fence_async();
    __syncthreads();  // planes are in registers
    if (tid == 0) load_planes(item + step);
    __syncwarp();
    mbarrier_wait(bar_x0, turn & 1);
    __syncwarp();
    Fir f0(base + kFirOffset);
    f0.scale(unit);
    if (a.tail.c != nullptr && at.first_column == 0 && warp == 0)
      hand_out_tail(operand, radix_t, a.tail,
                    static_cast<int64_t>(at.batch) * channels + at.channel, unit, lane);
    gate_output<T, kRagged>(a.y, at, operand, radix_t, x0, base + kEdgeOffset, f0, block, s, a.wide,
                            warp, lane);
    fence_async();
    __syncthreads();
    if (!kRagged && tid == 0) store_split_output(x0, &map_y, at, channels, s);
  }
  if (!kRagged && tid == 0) bulk_wait_read<0>();
#endif
}

template <class T, bool kRagged>
void launch(const SplitSynthesisArgs<T>& a, int multiprocessors, const CUtensorMap& map_p,
            const CUtensorMap& map_y, const CUtensorMap& map_scratch, cudaStream_t stream) {
  allow_shared_memory<split_synthesis<T, kRagged>>(kSharedBytes);
  split_synthesis<T, kRagged>
      <<<kBlocks * multiprocessors, kThreads, kSharedBytes, stream>>>(a, map_p, map_y, map_scratch);
  check(cudaGetLastError(), "launch of the mixer's column synthesis");
}

}  // namespace

template <class T>
void launch_split_synthesis(const SplitSynthesisArgs<T>& a, bool ragged, int multiprocessors,
                            const CUtensorMap& map_p, const CUtensorMap& map_y,
                            const CUtensorMap& map_scratch, cudaStream_t stream) {
  ragged ? launch<T, true>(a, multiprocessors, map_p, map_y, map_scratch, stream)
         : launch<T, false>(a, multiprocessors, map_p, map_y, map_scratch, stream);
}
template void launch_split_synthesis(const SplitSynthesisArgs<__nv_bfloat16>&, bool, int,
                                     const CUtensorMap&, const CUtensorMap&, const CUtensorMap&,
                                     cudaStream_t);
template void launch_split_synthesis(const SplitSynthesisArgs<__half>&, bool, int,
                                     const CUtensorMap&, const CUtensorMap&, const CUtensorMap&,
                                     cudaStream_t);

}  // namespace hyena::kernels::cuda
