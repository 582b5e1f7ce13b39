// From the spectra of c to y, one chunk of 8192 points at a time.
//
//   y = FIR(x0) * right-angle inverse of C[tile], undone by the tile's scale
//
// Method    second half of forward.cu
// Mapping   one block per SM, two teams of 8 warps, each with its own tiles
// Budget    4 bytes (from the L2) and 2 read, 2 written per element
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp (lengths above 8192)
#include "hyena/kernels/cuda/chunk_tile.cuh"
#include "hyena/kernels/cuda/forward.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {
namespace {

constexpr int kTeams = 2;
constexpr int kThreads = kTeams * kTeamThreads;
constexpr int kTeamBytes = kInputBytes + kExchangeBytes;
constexpr int kTwistOffset = kTeams * kTeamBytes;
constexpr int kWgmmaOffset = kTwistOffset + kSpectrumBytes;
constexpr int kBarrierOffset = kWgmmaOffset + 2560;
constexpr int kSharedBytes = kBarrierOffset + 8 * kTeams;

template <class T, bool kRagged>
__global__ void __launch_bounds__(kThreads, 1)
    synthesise(const SynthesisArgs<T> a, const __grid_constant__ CUtensorMap map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  const int tid = threadIdx.x;
  const int lane = tid & 31;
  const int team = tid / kTeamThreads;
  const int team_tid = tid % kTeamThreads;
  const int warp = team_tid >> 5;
  const uint32_t base = smem_address(smem);
  const uint32_t in = base + team * kTeamBytes;
  const uint32_t exchange = in + kInputBytes;
  const uint32_t bar = base + kBarrierOffset + 8 * team;

  for (int i = tid; i < kSpectrumVectors; i += kThreads)
    reinterpret_cast<uint4*>(smem + kTwistOffset)[i] = a.filter.tables->twist[i];
  for (int i = tid; i < 160; i += kThreads)
    reinterpret_cast<uint4*>(smem + kWgmmaOffset)[i] = a.filter.tables->wgmma_b[i];
  if (team_tid == 0) mbarrier_init(bar, kRagged ? kTeamThreads : 1);
  fence_setup();
  __syncthreads();

  const int step = gridDim.x * kTeams;
  const int total = a.group.tiles();
  auto load = [&](int tile) {
    if (tile >= total || !(kRagged || team_tid == 0)) return;
    const ChunkPlace w(a.group, tile);
    if (kRagged) {
      copy_tile<kTeamThreads>(in, a.p, w.batch, w.channel, w.start(), 5, a.wide, team_tid);
      async_copy_arrive(bar);
    } else {
      mbarrier_expect(bar, kInputBytes);
      tensor_copy(in, &map, w.chunk * kTileRows, w.batch, w.channel, bar);
    }
  };
  int tile = blockIdx.x * kTeams + team;
  load(tile);
  const OutputAddress<true> x0_at(in, warp, lane);
  const uint32_t load_at = ExchangeAddress(exchange, warp, lane).load;
  const uint32_t row_at = ExchangeAddress::row(exchange, warp, lane);
  const uint64_t desc = wgmma_descriptor(base + kWgmmaOffset);
  RowConstants k;
  load_row_constants(k, a.filter.tables, lane);
  uint32_t phase = 0;
  for (; tile < total; tile += step) {
    const ChunkPlace w(a.group, tile);
    const uint4* from =
        a.spectra + static_cast<int64_t>(tile) * kSpectrumVectors + warp * 64 + lane;
    RowData x[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      load_fragment(x[i], from + i * 512);
    team_barrier(team + 1);  // the exchange buffer of the tile before is read
    load(tile == blockIdx.x * kTeams + team ? total : tile);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t table = base + kTwistOffset + ((warp * 64 + lane) << 4) + i * 8192;
      RowData tw;
      float cr[2][4];
      float ci[2][4];
      row_inverse(x[i], k);
      wgmma_complex(cr, ci, x[i].re, x[i].im, desc + kInverseFirst, desc + kInverseSecond);
      lds128(tw.re, table);
      lds128(tw.im, table + 512);
      store_row(cr, ci, tw, row_at + i * 4096);
    }
    uint4 radix_t[2][2];
#pragma unroll
    for (int q = 0; q < 4; ++q)
      radix_t[q >> 1][q & 1] = ldg128(&a.filter.tables->radix_t[q * 32 + lane]);
    Fir fir = channel_fir(a.conv, w.channel);
    fir.scale(inverse_scale(__ldg(a.scale + tile)) * radix_fix(5));
    const uint32_t edge = team_tid == 0 ? chunk_edge(a.p, w.channel, w) : 0U;
    team_barrier(team + 1);
    const InverseOperand<true> operand(load_at);
    mbarrier_wait(bar, phase);
    phase ^= 1;
    gate_output<T, true, kRagged>(operand, radix_t, x0_at, fir, nullptr, edge, a.y, w.batch,
                                  w.channel, w.start(), 5, a.wide, warp, lane);
  }
#endif
}

template <class T, bool kRagged>
void launch(const SynthesisArgs<T>& a, int blocks, const CUtensorMap& map, cudaStream_t stream) {
  allow_shared_memory<synthesise<T, kRagged>>(kSharedBytes);
  synthesise<T, kRagged><<<blocks, kThreads, kSharedBytes, stream>>>(a, map);
  check(cudaGetLastError(), "launch of the chunk synthesis kernel");
}

}  // namespace

template <class T>
void launch_synthesis(const SynthesisArgs<T>& a, bool ragged, int blocks, const CUtensorMap& map,
                      cudaStream_t stream) {
  ragged ? launch<T, true>(a, blocks, map, stream) : launch<T, false>(a, blocks, map, stream);
}
template void launch_synthesis(const SynthesisArgs<__nv_bfloat16>&, bool, int, const CUtensorMap&,
                               cudaStream_t);
template void launch_synthesis(const SynthesisArgs<__half>&, bool, int, const CUtensorMap&,
                               cudaStream_t);

}  // namespace hyena::kernels::cuda
