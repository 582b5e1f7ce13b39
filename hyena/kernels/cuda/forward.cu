// Fused Hyena mixer, forward, rows of at most 8192 points: one pass over device memory.
//
//   q = bias + short conv(p);  z = q_x1 q_v;  y = q_x0 * (causal conv(z, h) + skip z)
//
// Shapes    p (B, 3D, L) channels [x0 | x1 | v], y (B, D, L), 16-bit; filter as a spectrum buffer
// Method    right-angle transform (docs/math/right_angle_convolution.md), N = 256 N1 >= L points as
//           N1 x 16 x 16 on the tensor cores: fp16 operands, float32 sums over n1, fp16 in rows
// Mapping   N1 = 32: one block per SM, two teams of 8 warps, each with its own tile (tile.cuh);
//           spectrum and twist in shared memory. Shorter rows: four blocks per SM, each a team of
//           4 warps, spectrum and twist through L1. Teams that run side by side take turns on a
//           range of (channel, tile), so that a spectrum is fetched once per channel.
//           A tile: gate + radix N1 -> exchange -> one warp per k1: 256 points, product, inverse ->
//           exchange -> inverse radix N1 + gate. Three barriers of the team.
// Budget    8 bytes per element; floor = bytes / measured copy rate
// Registers 128 (65,536 / 512); shared memory 227 KiB, or 4 x 43 KiB
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

constexpr int kSpectrumVectors = kTileRows * kRowVectors;
constexpr int kSpectrumBytes = 16 * kSpectrumVectors;

template <bool kFull>
struct Layout {
  static constexpr int kTeams = kFull ? kForwardTeams : 1;
  static constexpr int kThreads = kTeams * Tile<kFull>::kThreads;
  static constexpr int kBlocks = kFull ? 1 : kForwardBlocks;  // per multiprocessor
  static constexpr int kTeamBytes = 3 * Tile<kFull>::kInputBytes + Tile<kFull>::kExchangeBytes;
  static constexpr int kSpectrumOffset = kTeams * kTeamBytes;
  static constexpr int kTwistOffset = kSpectrumOffset + (kFull ? kSpectrumBytes : 0);
  static constexpr int kWgmmaOffset = kTwistOffset + (kFull ? kSpectrumBytes : 0);
  static constexpr int kMaximaOffset = kWgmmaOffset + 2560;
  static constexpr int kFirOffset = kMaximaOffset + kTeams * kMaximaBytes;
  static constexpr int kBarrierOffset = kFirOffset + 2 * 64;  // x1 v, x0 per team; spectrum
  static constexpr int kSharedBytes = kBarrierOffset + 8 * (2 * kTeams + 1);
  static_assert(kBlocks * (kSharedBytes + 1024) <= 233472, "228 KiB per multiprocessor");
};

template <class T>
struct ForwardArgs {
  Tensor<const T> p;
  Tensor<T> y;
  ShortConv conv;
  SpectrumView filter;
  bool wide;  // rows are 16-byte aligned
  TailView tail;
};

template <class T, int kLogN1, bool kRagged>
__global__ void __launch_bounds__(Layout<kLogN1 == 5>::kThreads, Layout<kLogN1 == 5>::kBlocks)
    mixer_forward(const ForwardArgs<T> a, const __grid_constant__ CUtensorMap map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  constexpr bool kFull = kLogN1 == 5;
  constexpr int kTeamThreads = Tile<kFull>::kThreads;
  constexpr int kInput = Tile<kFull>::kInputBytes;
  constexpr int kPlane = Tile<kFull>::kPlaneBytes;
  constexpr int kTileBatch = Tile<kFull>::kRows >> kLogN1;  // batch rows in a tile
  using At = Layout<kFull>;
  const int channels = a.y.channels;
  const int tid = threadIdx.x;
  const int lane = tid & 31;
  // Shorter rows: the blocks of a multiprocessor are its teams, so that they meet in its L1. That
  // block b runs beside b + gridDim / 4 is likely, not needed.
  const unsigned ranges = gridDim.x / At::kBlocks;
  const unsigned range = kFull ? blockIdx.x : blockIdx.x % ranges;
  const int team = kFull ? tid / kTeamThreads : static_cast<int>(blockIdx.x / ranges);
  constexpr int kStep = At::kTeams * At::kBlocks;
  const int team_tid = tid % kTeamThreads;
  const int warp = team_tid >> 5;
  const uint32_t base = smem_address(smem);
  const int slot = kFull ? team : 0;  // in shared memory
  const uint32_t in = base + slot * At::kTeamBytes;
  const uint32_t exchange = in + 3 * kInput;
  const uint32_t maxima = base + At::kMaximaOffset + slot * kMaximaBytes;
  const uint32_t bar_x1v = base + At::kBarrierOffset + 16 * slot;
  const uint32_t bar_x0 = bar_x1v + 8;
  const uint32_t bar_spectrum = base + At::kBarrierOffset + 16 * At::kTeams;

  const int groups = (a.y.batch + kTileBatch - 1) / kTileBatch;
  const int64_t total = static_cast<int64_t>(channels) * groups;
  const int first = static_cast<int>(total * range / ranges);
  const int last = static_cast<int>(total * (range + 1) / ranges);
  if (first >= last) return;

  for (int i = tid; kFull && i < kSpectrumVectors; i += At::kThreads)
    reinterpret_cast<uint4*>(smem + At::kTwistOffset)[i] = a.filter.tables->twist[i];
  for (int i = tid; i < 160; i += At::kThreads)
    reinterpret_cast<uint4*>(smem + At::kWgmmaOffset)[i] = a.filter.tables->wgmma_b[i];
  if (tid == 0) {
    for (int i = 0; i < 2 * At::kTeams; ++i)
      mbarrier_init(base + At::kBarrierOffset + 8 * i, kRagged ? kTeamThreads : 1);
    mbarrier_init(bar_spectrum, 1);
  }
  fence_setup();
  __syncthreads();

  struct Place {
    int d, b;
  };
  auto place = [&](int item, int d) {  // d: its channel or one before; no division
    while (item >= (d + 1) * groups)
      ++d;
    return Place{d, (item - d * groups) * kTileBatch};
  };
  auto load = [&](const Place& w, int part, int buffer, uint32_t bar) {  // kRagged: the whole team
    const uint32_t to = in + buffer * kInput;
    if (kRagged) {
      copy_tile<kFull>(to, a.p, w.b, part * channels + w.d, kLogN1, a.wide, team_tid);
    } else {
      tensor_copy(to, &map, 0, w.b, part * channels + w.d, bar);
    }
  };
  auto load_x1v = [&](int item, int d) {
    const Place w = place(item, d);
    if (!kRagged) mbarrier_expect(bar_x1v, 2 * kInput);
    load(w, 1, 0, bar_x1v);
    load(w, 2, 1, bar_x1v);
    if (kRagged) {
      async_copy_arrive(bar_x1v);
    } else {
      tensor_prefetch(&map, 0, w.b, w.d);
    }
  };
  auto load_x0 = [&](const Place& w) {
    if (!kRagged) mbarrier_expect(bar_x0, kInput);
    load(w, 0, 2, bar_x0);
    if (kRagged) async_copy_arrive(bar_x0);
  };

  int item = first + team;
  const int first_channel = first / groups;
  if ((kRagged || team_tid == 0) && item < last) load_x1v(item, first_channel);

  auto barrier = [&] {
    if constexpr (At::kTeams == 1) {
      __syncthreads();
    } else {
      team_barrier(team + 1);
    }
  };
  uint32_t phase = 0;
  const GateAddress<kFull> kept(in, warp, lane);
  const ExchangeAddress<kFull> exchange_at(exchange, warp, lane);
  const uint32_t row_at = ExchangeAddress<kFull>::row(exchange, warp, lane);
  const uint64_t desc = wgmma_descriptor(base + At::kWgmmaOffset);
  const uint32_t twist_at = base + At::kTwistOffset + ((warp * kRowVectors + lane) << 4);

  const int last_channel = (last - 1) / groups;
  for (int d = first_channel; d <= last_channel; ++d) {
    const uint32_t fir = base + At::kFirOffset + (d & 1) * 64;  // [x1, v, x0][4], unit
    const uint4* const spectrum =
        a.filter.spectrum + (static_cast<int64_t>(d) << kLogN1) * kRowVectors;
    if (tid < 13) {
      const int part = tid < 4 ? 1 : tid < 8 ? 2 : 0;
      float w = tid < 12 ? a.conv.value(part * channels + d, tid & 3) : 1.F;
      if (part == 0) w *= a.filter.scale[d] * radix_fix(kLogN1);
      sts32(fir + 4 * tid, __float_as_uint(w));
    }
    __syncthreads();
    if (kFull) {
      if (tid == 0) {
        mbarrier_expect(bar_spectrum, kSpectrumBytes);
        bulk_copy(base + At::kSpectrumOffset, spectrum, kSpectrumBytes, bar_spectrum);
        if (d + 1 < channels) bulk_prefetch(spectrum + kSpectrumVectors, kSpectrumBytes);
      }
      mbarrier_wait(bar_spectrum, (d - first_channel) & 1);
    }
    const int end = min(last, (d + 1) * groups);
    for (; item < end; item += kStep) {
      const Place here{d, (item - d * groups) * kTileBatch};
      mbarrier_wait(bar_x1v, phase);
      __syncwarp();  // this warp has read its columns of the exchange buffer
      // ---- column phase
      float z[4][2][4];
      // Shorter rows make it anew: with fewer registers taken ptxas does not serialise the wgmmas
      // (C7511, which costs 3 %). Which variants it spares changes with the least change of code.
      const int again = fresh_thread_index() % kTeamThreads;
      const GateAddress<kFull> gate_at =
          kFull ? kept : GateAddress<kFull>(in, again >> 5, again & 31);
      gate_tile<T, true>(z, gate_at, 0, Fir(fir), Fir(fir + 16),
                         [&](int s) { return GateAddress<kFull>::starts(s, kLogN1, warp, lane); });
      TileScale<kFull>::publish(maxima, z, kLogN1, warp, lane);
      uint4 radix[4];
#pragma unroll
      for (int q = 0; q < 4; q += kFull ? 1 : 2)
        radix[q] = ldg128(&a.filter.tables->radix[q * 32 + lane]);
      barrier();
      const TileScale<kFull> scale(maxima, kLogN1, lane);
      // The inputs are used up: start the next tile's copies.
      if (kRagged || team_tid == 0) {
        load_x0(here);
        if (item + kStep < last) load_x1v(item + kStep, d);
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
        if (kFull) {
          get(k.twiddle_re, 3);
          get(k.twiddle_im, 4);
        }
      }
      barrier();

      // ---- row phase: one k1 per warp, four times, two in flight: 8 (i + j) or 2 i + 8 j behind
      // the warp's first
#pragma unroll 1
      for (int i = 0; i < 4; i += 2) {
        const uint32_t at = kFull ? row_at + i * 4096 : (row_at ^ (16 * i)) + i * 1024;
        const uint32_t table = twist_at + i * 8192;
        const int k1 = (warp + 2 * i) & ((1 << kLogN1) - 1);
        // From shared memory, or one table for both where batch rows of N1 <= 8 share a tile.
        auto get_table = [&](RowData& to, int j, const uint4* from, uint32_t offset) {
          if (kFull) {
            lds128(to.re, table + j * 8192 - offset);
            lds128(to.im, table + j * 8192 - offset + 512);
          } else if (kLogN1 == 4 || j == 0) {
            load_fragment(to, from + (k1 + 8 * j) * kRowVectors + lane);
          }
        };
        constexpr int kOther = kLogN1 < 4 ? 0 : 1;
        DftMatrix first_dft;
        RowData x[2];
        RowData tw[2];
        RowData c[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          load_row<kPlane>(x[j], at + j * 4096);
          get_table(tw[j], j, a.filter.tables->twist, 0);
        }
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          if constexpr (kFull) {
            row_forward<true>(x[j], tw[j], k);
          } else {
            if (kLogN1 == 4 || j == 0) {
              RowData first;
              get_table(first, j, a.filter.tables->first, 0);
              first_matrix(first_dft, first);
            }
            short_row_forward(x[j], first_dft, tw[j * kOther]);
          }
        }
        wgmma_complex_pair_half(c[0].re, c[0].im, x[0].re, x[0].im, c[1].re, c[1].im, x[1].re,
                                x[1].im, desc + kForwardFirst, desc + kForwardSecond);
        RowData h[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          get_table(h[j], j, spectrum, At::kTwistOffset - At::kSpectrumOffset);
          row_product<false>(c[j], h[j * kOther]);
          if constexpr (kFull) {
            row_inverse<true>(c[j], k);
          } else {
            short_row_inverse(c[j], k, tw[j * kOther]);
          }
        }
        RowData y[2];
        wgmma_complex_pair_half(y[0].re, y[0].im, c[0].re, c[0].im, y[1].re, y[1].im, c[1].re,
                                c[1].im, desc + kInverseFirst, desc + kInverseSecond);
#pragma unroll
        for (int j = 0; j < 2; ++j)
          if constexpr (kFull) {
            store_row<kPlane>(y[j], tw[j], at + j * 4096);
          } else {
            store_short_row<kPlane>(y[j], at + j * 4096);
          }
      }

      // ---- column phase
      uint4 radix_t[2][2];
      load_inverse_matrix<kFull>(radix_t, a.filter.tables, warp, 0, lane);
      // Addresses before the barrier, where warps wait: 8K -1.5 % (H200, 2026-11-28).
      const int fresh = fresh_thread_index() % kTeamThreads;
      const OutputAddress<kFull> x0_at(in + 2 * kInput, fresh >> 5, fresh & 31);
      barrier();
      Fir f0(fir + 32);
      if (kFull) f0.scale(inverse_scale(scale.value));
      const StepOperands<kFull> operands(exchange_at.load);
      if (a.tail.c != nullptr && warp == 0) {
        const float unit = __uint_as_float(lds32(fir + 48));
        hand_out_tail<kFull>(
            operands(0), radix_t, a.tail, here.b, a.y.batch, channels, d, kLogN1,
            [&](int r) { return inverse_scale(scale.output(r, lane)) * unit; }, lane);
      }
      mbarrier_wait(bar_x0, phase);
      phase ^= 1;
      gate_output<T, kFull, kRagged>(operands, radix_t, a.filter.tables, x0_at, f0, scale, a.y,
                                     here.b, d, kLogN1, a.wide, warp, lane);
    }
  }
#endif
}

template <class T, int kLogN1, bool kRagged>
void launch(const MixerProblem& m, const ForwardCall& call, const CUtensorMap& map) {
  ForwardArgs<T> a{m.input<T>(call.p, 3),          m.output<T>(call.y, 1),
                   m.conv(call.weight, call.bias), SpectrumView::of(call.spectrum, m.channels()),
                   m.wide(call.p, call.y),         call.tail};
  using At = Layout<kLogN1 == 5>;
  allow_shared_memory<mixer_forward<T, kLogN1, kRagged>>(At::kSharedBytes);
  mixer_forward<T, kLogN1, kRagged>
      <<<At::kBlocks * m.multiprocessors, At::kThreads, At::kSharedBytes, call.stream>>>(a, map);
  check(cudaGetLastError(), "launch of the mixer's forward kernel");
}

template <class T>
void dispatch(const MixerProblem& m, const ForwardCall& call) {
  const bool ragged = !m.bulk(call.p, call.y);
  const CUtensorMap map = ragged ? CUtensorMap{} : m.tensor_map(call.p, 3);
  auto run = [&]<int kLogN1>() {
    ragged ? launch<T, kLogN1, true>(m, call, map) : launch<T, kLogN1, false>(m, call, map);
  };
  switch (m.log_n1) {
    case 2:
      return run.template operator()<2>();
    case 3:
      return run.template operator()<3>();
    case 4:
      return run.template operator()<4>();
    default:
      return run.template operator()<5>();
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
