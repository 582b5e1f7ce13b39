// Fused Hyena mixer, forward, rows of at most 8192 points: one pass over device memory.
//
//   q = bias + short conv(p);  z = q_x1 q_v;  y = q_x0 * (causal conv(z, h) + skip z)
//
// Shapes    p (B, 3D, L) channels [x0 | x1 | v], y (B, D, L), 16-bit; filter as a spectrum buffer
// Method    right-angle transform (docs/math/right_angle_convolution.md), N = 256 N1 >= L points as
//           N1 x 16 x 16 on the tensor cores: fp16 operands, float32 sums over n1, fp16 in rows
// Mapping   one block per SM, two teams of 8 warps, each with its own tile (tile.cuh); blocks own
//           contiguous ranges of (channel, tile), so the spectrum is loaded once per channel.
//           A tile: gate + radix N1 -> exchange -> one warp per k1: 256 points, product, inverse ->
//           exchange -> inverse radix N1 + gate. Three barriers of the team.
// Budget    8 bytes per element; floor = bytes / measured copy rate
// Registers 128 (65,536 / 512); shared memory 227 KiB
// Numerics  before output rounding at most 1.2e-3 relative rms (docs/math/cuda_numerics.md). A
//           row's bits depend on the row and the parameters alone, unless it holds inf or NaN:
//           these may spread to the batch rows in the same tile.
// Bounds    any B, D; L <= 256 N1. kRagged: any length and rows at least 4-byte aligned; otherwise
//           L = 256 N1 and rows 16-byte aligned
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp against float64
#include <algorithm>

#include "hyena/kernels/cuda/forward.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/row.cuh"
#include "hyena/kernels/cuda/tables.cuh"
#include "hyena/kernels/cuda/tail.cuh"
#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {
namespace {

constexpr int kTeams = kForwardTeams;
constexpr int kThreads = kTeams * kTeamThreads;
constexpr int kTeamBytes = 3 * kInputBytes + kExchangeBytes;
constexpr int kSpectrumOffset = kTeams * kTeamBytes;
constexpr int kTwistOffset = kSpectrumOffset + kSpectrumBytes;
constexpr int kWgmmaOffset = kTwistOffset + kSpectrumBytes;
constexpr int kMaximaOffset = kWgmmaOffset + 2560;
constexpr int kFirOffset = kMaximaOffset + kTeams * kMaximaBytes;  // two buffers [x1, v, x0][4]
constexpr int kBarrierOffset = kFirOffset + 2 * 48;                // x1 v, x0 per team; spectrum
constexpr int kSharedBytes = kBarrierOffset + 8 * (2 * kTeams + 1);
static_assert(kSharedBytes <= 232448, "227 KiB of shared memory per block");

template <class T>
struct ForwardArgs {
  Tensor<const T> p;
  Tensor<T> y;
  ShortConv conv;
  SpectrumView filter;
  int log_n1;
  bool wide;  // rows are 16-byte aligned
  TailView tail;
};

template <class T, bool kFull, bool kRagged>
__global__ void __launch_bounds__(kThreads, 1)
    mixer_forward(const ForwardArgs<T> a, const __grid_constant__ CUtensorMap map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  const int log_n1 = kFull ? 5 : a.log_n1;
  const int channels = a.y.channels;
  const int tid = threadIdx.x;
  const int lane = tid & 31;
  const int team = tid / kTeamThreads;
  const int team_tid = tid % kTeamThreads;
  const int warp = team_tid >> 5;
  const int g = lane >> 2;
  const uint32_t base = smem_address(smem);
  const uint32_t in = base + team * kTeamBytes;
  const uint32_t exchange = in + 3 * kInputBytes;
  const uint32_t spectrum = base + kSpectrumOffset;
  const uint32_t twist = base + kTwistOffset;
  const uint32_t maxima = base + kMaximaOffset + team * kMaximaBytes;
  const uint32_t bar_x1v = base + kBarrierOffset + 16 * team;
  const uint32_t bar_x0 = bar_x1v + 8;
  const uint32_t bar_spectrum = base + kBarrierOffset + 16 * kTeams;

  const int tile_rows = kTileRows >> log_n1;  // batch rows in a tile
  const int groups = (a.y.batch + tile_rows - 1) / tile_rows;
  const int64_t total = static_cast<int64_t>(channels) * groups;
  const int first = static_cast<int>(total * blockIdx.x / gridDim.x);
  const int last = static_cast<int>(total * (blockIdx.x + 1) / gridDim.x);
  if (first >= last) return;

  for (int i = tid; i < kSpectrumVectors; i += kThreads)
    reinterpret_cast<uint4*>(smem + kTwistOffset)[i] = a.filter.tables->twist[i];
  for (int i = tid; i < 160; i += kThreads)
    reinterpret_cast<uint4*>(smem + kWgmmaOffset)[i] = a.filter.tables->wgmma_b[i];
  if (tid == 0) {
    for (int i = 0; i < 2 * kTeams; ++i)
      mbarrier_init(base + kBarrierOffset + 8 * i, kRagged ? kTeamThreads : 1);
    mbarrier_init(bar_spectrum, 1);
  }
  fence_setup();
  __syncthreads();

  auto load = [&](int item, int part, int buffer, uint32_t bar) {  // kRagged: the whole team
    const int d = item / groups;
    const int b = (item - d * groups) * tile_rows;
    const uint32_t to = in + buffer * kInputBytes;
    if (kRagged) {
      copy_tile<kTeamThreads>(to, a.p, b, part * channels + d, log_n1, a.wide, team_tid);
    } else {
      tensor_copy(to, &map, 0, b, part * channels + d, bar);
    }
  };
  auto load_x1v = [&](int item) {
    if (!kRagged) mbarrier_expect(bar_x1v, 2 * kInputBytes);
    load(item, 1, 0, bar_x1v);
    load(item, 2, 1, bar_x1v);
    if (kRagged) {
      async_copy_arrive(bar_x1v);
    } else {
      const int d = item / groups;
      tensor_prefetch(&map, 0, (item - d * groups) * tile_rows, d);
    }
  };
  auto load_x0 = [&](int item) {
    if (!kRagged) mbarrier_expect(bar_x0, kInputBytes);
    load(item, 0, 2, bar_x0);
    if (kRagged) async_copy_arrive(bar_x0);
  };

  int item = first + team;
  if ((kRagged || team_tid == 0) && item < last) load_x1v(item);

  const int n1_mask = (1 << log_n1) - 1;
  uint32_t phase = 0;
  const GateAddress<kFull> gate_at(in, warp, lane);
  const OutputAddress<kFull> x0_at(in + 2 * kInputBytes, warp, lane);
  const ExchangeAddress exchange_at(exchange, warp, lane);
  const uint32_t row_at = ExchangeAddress::row(exchange, warp, lane);
  const uint64_t desc = wgmma_descriptor(base + kWgmmaOffset);
  const uint32_t twist_at = twist + ((warp * 64 + lane) << 4);
  const int first_row = GateAddress<kFull>::first_row(lane & 3);
  auto starts = [&](int s) {
    return kFull ? s == 0 && team_tid == 0
                 : warp == 0 && g == 0 && ((8 * s + first_row) & n1_mask) == 0;
  };

  for (int d = first / groups; d <= (last - 1) / groups; ++d) {
    const uint32_t fir = base + kFirOffset + (d & 1) * 48;
    if (tid < 12) {
      const int part = tid < 4 ? 1 : tid < 8 ? 2 : 0;
      float w = a.conv.value(part * channels + d, tid & 3);
      if (part == 0) w *= a.filter.scale[d] * radix_fix(log_n1);
      sts32(fir + 4 * tid, __float_as_uint(w));
    }
    __syncthreads();
    if (tid == 0) {
      const uint4* source = a.filter.spectrum + static_cast<int64_t>(d) * kSpectrumVectors;
      mbarrier_expect(bar_spectrum, kSpectrumBytes);
      bulk_copy(spectrum, source, kSpectrumBytes, bar_spectrum);
      if (d + 1 < channels) bulk_prefetch(source + kSpectrumVectors, kSpectrumBytes);
    }
    mbarrier_wait(bar_spectrum, (d - first / groups) & 1);
    const int end = min(last, (d + 1) * groups);
    for (; item < end; item += kTeams) {
      mbarrier_wait(bar_x1v, phase);
      __syncwarp();  // this warp has read its columns of the exchange buffer
      // ---- column phase
      float z[4][2][4];
      gate_tile<T, true>(z, gate_at, 0, Fir(fir), Fir(fir + 16), starts);
      TileScale<kFull>::publish(maxima, z, log_n1, warp, lane);
      uint4 radix[4];
#pragma unroll
      for (int q = 0; q < 4; ++q)
        radix[q] = ldg128(&a.filter.tables->radix[q * 32 + lane]);
      team_barrier(team + 1);
      const TileScale<kFull> scale(maxima, log_n1, lane);
      // The inputs are used up: start the next tile's copies.
      if (kRagged || team_tid == 0) {
        load_x0(item);
        if (item + kTeams < last) load_x1v(item + kTeams);
      }
      uint32_t zb[4][4];
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        const float up = scale.gate(s, lane);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          zb[j][s] = pack_half(z[s][0][j] * up, z[s][1][j] * up);
      }
      radix_forward<kFull>(zb, radix, exchange_at.store);
      RowConstants k;
      {
        const uint4* c = a.filter.tables->row + lane;
        auto get = [&](uint32_t(&r)[4], int i) {
          const uint4 v = ldg128(c + 32 * i);
          r[0] = v.x;
          r[1] = v.y;
          r[2] = v.z;
          r[3] = v.w;
        };
        get(k.re, 0);
        get(k.im, 1);
        get(k.minus_im, 2);
        get(k.twiddle_re, 3);
        get(k.twiddle_im, 4);
      }
      team_barrier(team + 1);

      // ---- row phase: one k1 per warp, four times, two in flight
#pragma unroll 1
      for (int i = 0; i < 4; i += 2) {
        const uint32_t at = row_at + i * 4096;
        const uint32_t table = twist_at + i * 8192;
        RowData x[2];
        RowData tw[2];
        RowData c[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          load_row(x[j], at + j * 4096);
          lds128(tw[j].re, table + j * 8192);
          lds128(tw[j].im, table + j * 8192 + 512);
        }
#pragma unroll
        for (int j = 0; j < 2; ++j)
          row_forward<true>(x[j], tw[j], k);
        wgmma_complex_pair_half(c[0].re, c[0].im, x[0].re, x[0].im, c[1].re, c[1].im, x[1].re,
                                x[1].im, desc + kForwardFirst, desc + kForwardSecond);
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          RowData h;
          lds128(h.re, table + j * 8192 - (kTwistOffset - kSpectrumOffset));
          lds128(h.im, table + j * 8192 - (kTwistOffset - kSpectrumOffset) + 512);
          row_product<false>(c[j], h);
          row_inverse<true>(c[j], k);
        }
        RowData y[2];
        wgmma_complex_pair_half(y[0].re, y[0].im, c[0].re, c[0].im, y[1].re, y[1].im, c[1].re,
                                c[1].im, desc + kInverseFirst, desc + kInverseSecond);
#pragma unroll
        for (int j = 0; j < 2; ++j)
          store_row(y[j], tw[j], at + j * 4096);
      }

      // ---- column phase
      uint4 radix_t[2][2];
#pragma unroll
      for (int q = 0; q < 4; ++q)
        radix_t[q >> 1][q & 1] = ldg128(&a.filter.tables->radix_t[q * 32 + lane]);
      team_barrier(team + 1);
      Fir f0(fir + 32);
      if (kFull) f0.scale(inverse_scale(scale.value));
      const InverseOperand<kFull> operand(exchange_at.load);
      if (a.tail.c != nullptr && warp == 0) {
        const float unit = a.filter.scale[d] * radix_fix(log_n1);
        hand_out_tail<kFull>(
            operand, radix_t, a.tail, (item - d * groups) * tile_rows, a.y.batch, channels, d,
            log_n1, [&](int i, int r) { return inverse_scale(scale.output(i, r, lane)) * unit; },
            lane);
      }
      mbarrier_wait(bar_x0, phase);
      phase ^= 1;
      gate_output<T, kFull, kRagged>(operand, radix_t, x0_at, f0, scale, a.y,
                                     (item - d * groups) * tile_rows, d, log_n1, a.wide, warp,
                                     lane);
    }
  }
#endif
}

template <class T, bool kFull, bool kRagged>
void launch(const MixerProblem& m, const ForwardCall& call, const CUtensorMap& map) {
  ForwardArgs<T> a{m.input<T>(call.p, 3),
                   m.output<T>(call.y, 1),
                   m.conv(call.weight, call.bias),
                   SpectrumView::of(call.spectrum, m.channels()),
                   m.log_n1,
                   m.wide(call.p, call.y),
                   call.tail};
  allow_shared_memory<mixer_forward<T, kFull, kRagged>>(kSharedBytes);
  mixer_forward<T, kFull, kRagged>
      <<<m.multiprocessors, kThreads, kSharedBytes, call.stream>>>(a, map);
  check(cudaGetLastError(), "launch of the mixer's forward kernel");
}

template <class T>
void dispatch(const MixerProblem& m, const ForwardCall& call) {
  const bool ragged = !m.bulk(call.p, call.y);
  const bool full = m.log_n1 == 5;
  const CUtensorMap map = ragged ? CUtensorMap{} : m.tensor_map(call.p, 3);
  if (full) {
    ragged ? launch<T, true, true>(m, call, map) : launch<T, true, false>(m, call, map);
  } else {
    ragged ? launch<T, false, true>(m, call, map) : launch<T, false, false>(m, call, map);
  }
}

}  // namespace

void fused_forward(const MixerProblem& m, const ForwardCall& call) {
  if (m.shape.type == CudaElement::kBFloat16) {
    dispatch<__nv_bfloat16>(m, call);
  } else {
    dispatch<__half>(m, call);
  }
}

}  // namespace hyena::kernels::cuda
