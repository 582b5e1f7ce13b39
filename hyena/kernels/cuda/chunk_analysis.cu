// From inputs to spectra, one chunk of 8192 points at a time.
//
//   U[tile] = right-angle spectrum of FIR(a) FIR(b), or of FIR(a) b, times a power of two
//
// Shapes    a, b (B, C, L) 16-bit; spectra fp16 in fragment order, one scale per tile
// Method    first half of forward.cu
// Mapping   one block per SM, two teams of 8 warps, each with its own tiles
// Budget    4 bytes read, 4 written (to the L2) per element
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp (lengths above 8192)
#include "hyena/kernels/cuda/chunk_tile.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {
namespace {

constexpr int kTeams = 2;
constexpr int kThreads = kTeams * kTeamThreads;
constexpr int kTeamBytes = 2 * kInputBytes + kExchangeBytes;
constexpr int kTwistOffset = kTeams * kTeamBytes;
constexpr int kWgmmaOffset = kTwistOffset + kSpectrumBytes;
constexpr int kMaximaOffset = kWgmmaOffset + 2560;
constexpr int kBarrierOffset = kMaximaOffset + kTeams * kMaximaBytes;
constexpr int kSharedBytes = kBarrierOffset + 8 * kTeams;

template <class T, bool kBothFiltered, bool kRagged>
__global__ void __launch_bounds__(kThreads, 1)
    analyse(const AnalysisArgs<T> a, const __grid_constant__ CUtensorMap map_a,
            const __grid_constant__ CUtensorMap map_b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  const int tid = threadIdx.x;
  const int lane = tid & 31;
  const int team = tid / kTeamThreads;
  const int team_tid = tid % kTeamThreads;
  const int warp = team_tid >> 5;
  const uint32_t base = smem_address(smem);
  const uint32_t in = base + team * kTeamBytes;
  const uint32_t exchange = in + 2 * kInputBytes;
  const uint32_t maxima = base + kMaximaOffset + team * kMaximaBytes;
  const uint32_t bar = base + kBarrierOffset + 8 * team;

  for (int i = tid; i < kSpectrumVectors; i += kThreads)
    reinterpret_cast<uint4*>(smem + kTwistOffset)[i] = a.filter.tables->twist[i];
  for (int i = tid; i < 160; i += kThreads)
    reinterpret_cast<uint4*>(smem + kWgmmaOffset)[i] = a.filter.tables->wgmma_b[i];
  if (team_tid == 0) mbarrier_init(bar, kRagged ? kTeamThreads : 1);
  fence_setup();
  __syncthreads();

  const int channels = a.a.channels / 3;
  const int step = gridDim.x * kTeams;
  const int total = a.group.tiles();
  auto load = [&](int tile) {
    if (tile >= total || !(kRagged || team_tid == 0)) return;
    const ChunkPlace w(a.group, tile);
    const int ca = a.part_a * channels + w.channel;
    const int cb = a.part_b * channels + w.channel;
    if (kRagged) {
      copy_tile<kTeamThreads>(in, a.a, w.batch, ca, w.start(), 5, a.wide, team_tid);
      copy_tile<kTeamThreads>(in + kInputBytes, a.b, w.batch, cb, w.start(), 5, a.wide, team_tid);
      async_copy_arrive(bar);
    } else {
      mbarrier_expect(bar, 2 * kInputBytes);
      tensor_copy(in, &map_a, w.chunk * kTileRows, w.batch, ca, bar);
      tensor_copy(in + kInputBytes, &map_b, w.chunk * kTileRows, w.batch, cb, bar);
    }
  };
  int tile = blockIdx.x * kTeams + team;
  load(tile);
  const GateAddress<true> gate_at(in, warp, lane);
  const uint32_t store_at = ExchangeAddress(exchange, warp, lane).store;
  const uint32_t row_at = ExchangeAddress::row(exchange, warp, lane);
  const uint64_t desc = wgmma_descriptor(base + kWgmmaOffset);
  auto starts = [&](int s) { return s == 0 && team_tid == 0; };
  uint32_t phase = 0;
  for (; tile < total; tile += step) {
    const ChunkPlace w(a.group, tile);
    const int ca = a.part_a * channels + w.channel;
    const int cb = a.part_b * channels + w.channel;
    const Fir fa = channel_fir(a.conv, ca);
    const Fir fb = kBothFiltered ? channel_fir(a.conv, cb) : fa;
    uint32_t edge_a = 0;
    uint32_t edge_b = 0;
    if (team_tid == 0) {
      edge_a = chunk_edge(a.a, ca, w);
      if (kBothFiltered) edge_b = chunk_edge(a.b, cb, w);
    }
    mbarrier_wait(bar, phase);
    phase ^= 1;
    float z[4][2][4];
    gate_tile<T, true, kBothFiltered>(z, gate_at, 0, fa, fb, starts, edge_a, edge_b);
    TileScale<true>::publish(maxima, z, 5, warp, lane);
    uint4 radix[4];
#pragma unroll
    for (int q = 0; q < 4; ++q)
      radix[q] = ldg128(&a.filter.tables->radix[q * 32 + lane]);
    team_barrier(team + 1);  // the inputs and, of the tile before, the exchange buffer are used up
    const TileScale<true> scale(maxima, 5, lane);
    load(tile + step);
    uint32_t zb[4][4];
#pragma unroll
    for (int s = 0; s < 4; ++s)
#pragma unroll
      for (int j = 0; j < 4; ++j)
        zb[j][s] = pack_half(z[s][0][j] * scale.value, z[s][1][j] * scale.value);
    radix_forward<true>(zb, radix, store_at);
    RowConstants k;
    load_row_constants(k, a.filter.tables, lane);
    if (team_tid == 0) a.scale[tile] = scale.value;
    team_barrier(team + 1);
    uint4* out = a.spectra + static_cast<int64_t>(tile) * kSpectrumVectors + warp * 64 + lane;
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      const uint32_t table = base + kTwistOffset + ((warp * 64 + lane) << 4) + i * 8192;
      RowData x;
      RowData tw;
      float cr[2][4];
      float ci[2][4];
      load_row(x, row_at + i * 4096);
      lds128(tw.re, table);
      lds128(tw.im, table + 512);
      row_forward(x, tw, k);
      wgmma_complex(cr, ci, x.re, x.im, desc + kForwardFirst, desc + kForwardSecond);
      auto four = [](const float(&c)[2][4]) {
        return make_uint4(pack_half(c[0][0], c[0][1]), pack_half(c[0][2], c[0][3]),
                          pack_half(c[1][0], c[1][1]), pack_half(c[1][2], c[1][3]));
      };
      out[i * 512] = four(cr);
      out[i * 512 + 32] = four(ci);
    }
  }
#endif
}

template <class T, bool kBothFiltered, bool kRagged>
void launch(const AnalysisArgs<T>& a, int blocks, const CUtensorMap& map_a,
            const CUtensorMap& map_b, cudaStream_t stream) {
  allow_shared_memory<analyse<T, kBothFiltered, kRagged>>(kSharedBytes);
  analyse<T, kBothFiltered, kRagged><<<blocks, kThreads, kSharedBytes, stream>>>(a, map_a, map_b);
  check(cudaGetLastError(), "launch of the chunk analysis kernel");
}

}  // namespace

template <class T>
void launch_analysis(const AnalysisArgs<T>& a, bool both_filtered, bool ragged, int blocks,
                     const CUtensorMap& map_a, const CUtensorMap& map_b, cudaStream_t stream) {
  if (both_filtered) {
    ragged ? launch<T, true, true>(a, blocks, map_a, map_b, stream)
           : launch<T, true, false>(a, blocks, map_a, map_b, stream);
  } else {
    ragged ? launch<T, false, true>(a, blocks, map_a, map_b, stream)
           : launch<T, false, false>(a, blocks, map_a, map_b, stream);
  }
}
template void launch_analysis(const AnalysisArgs<__nv_bfloat16>&, bool, bool, int,
                              const CUtensorMap&, const CUtensorMap&, cudaStream_t);
template void launch_analysis(const AnalysisArgs<__half>&, bool, bool, int, const CUtensorMap&,
                              const CUtensorMap&, cudaStream_t);

}  // namespace hyena::kernels::cuda
