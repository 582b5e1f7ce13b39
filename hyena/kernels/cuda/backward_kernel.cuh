// Fused Hyena mixer, backward: all gradients in one pass over memory and a small second kernel.
//
//   g = dy q_x0;  S = sum_b conj(Z) G;  c from Z H, du from G conj(H); dh from S
//   (filter_gradient.cu)
//
// Shapes    dy (B, D, L), p and dp (B, 3D, L) 16-bit; parameter gradients float32
// Method    as forward.cu; everything of the forward is recomputed. The skip is part of the
//           spectrum, its gradient is dh[0].
// Mapping   one block of 16 warps per SM, one tile at a time. Half 0 (8 warps): z, then c, dq_x0;
//           half 1: g, then du, dq_x1, dq_v. In between each warp owns two k1 of both for the whole
//           batch, so S stays in 32 float32 registers per lane, summed in batch order.
// Budget    14 bytes per element; floor = bytes / measured copy rate
// Registers 128 (65,536 / 512), a few spilled; shared memory 226 KiB
// Numerics  docs/math/cuda_numerics.md: dp 3e-3, float32 gradients 1.5e-3, relative rms. Sums over
//           the batch in fixed order: equal bits on equal devices.
// Bounds    as forward.cu
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp against float64
#pragma once

#include "hyena/kernels/cuda/backward.cuh"
#include "hyena/kernels/cuda/backward_args.h"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/row.cuh"
#include "hyena/kernels/cuda/tables.cuh"
#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 2 * kTeamThreads;
constexpr int kExchangeOffset = 6 * kInputBytes;  // x1, v, twice, then x0, dy
constexpr int kSpectrumOffset = kExchangeOffset + 2 * kExchangeBytes;
constexpr int kTwistOffset = kSpectrumOffset + kSpectrumBytes;  // k1 < 16; the rest through L1
constexpr int kWgmmaOffset = kTwistOffset + kSpectrumBytes / 2;
constexpr int kSeamOffset = kWgmmaOffset + 2560;
constexpr int kRowOffset = kSeamOffset + kSeamBytes;
constexpr int kFirOffset = kRowOffset + 2560;  // two buffers: [x1, v, x0][4], scale
constexpr int kMaximaOffset = kFirOffset + 2 * 64;
constexpr int kScaleOffset = kMaximaOffset + 2 * kMaximaBytes;  // [z, g][8 quads]
constexpr int kBarrierOffset = kScaleOffset + 64;               // x1 v, twice; x0 dy; spectrum
constexpr int kTailOffset = kBarrierOffset + 32;                // two buffers
constexpr int kTailBytes = 16 * TailInShared::kChunks * 8;      // of a tile's rows
constexpr int kSharedBytes = kTailOffset + 2 * kTailBytes;
static_assert(kSharedBytes <= 232448, "227 KiB of shared memory per block");

template <class T, int kLogN1, bool kRagged, bool kTail>
__global__ void __launch_bounds__(kThreads, 1)
    mixer_backward(const BackwardArgs<T> a, const __grid_constant__ CUtensorMap map_p,
                   const __grid_constant__ CUtensorMap map_dy) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  constexpr bool kFull = kLogN1 == 5;
  constexpr int kTileBatch = kTileRows >> kLogN1;  // batch rows in a tile
  constexpr int n1_mask = (1 << kLogN1) - 1;
  const int channels = a.dy.channels;
  const int tid = threadIdx.x;
  const int half = tid >> 8;
  const int half_tid = tid & 255;
  const uint32_t base = smem_address(smem);
  const uint32_t exchange = base + kExchangeOffset + half * kExchangeBytes;
  const uint32_t seams = base + kSeamOffset;
  const uint32_t maxima = base + kMaximaOffset + half * kMaximaBytes;
  const uint32_t bar_x1v = base + kBarrierOffset;
  const uint32_t bar_x0y = bar_x1v + 16;
  const uint32_t bar_spectrum = bar_x1v + 24;

  const int groups = (a.dy.batch + kTileBatch - 1) / kTileBatch;
  const int64_t total = static_cast<int64_t>(channels) * groups;
  const int first = static_cast<int>(total * blockIdx.x / gridDim.x);
  const int last = static_cast<int>(total * (blockIdx.x + 1) / gridDim.x);
  if (first >= last) return;

  for (int i = tid; i < kSpectrumVectors / 2; i += kThreads)
    reinterpret_cast<uint4*>(smem + kTwistOffset)[i] = a.filter.tables->twist[i];
  for (int i = tid; i < 160; i += kThreads) {
    reinterpret_cast<uint4*>(smem + kWgmmaOffset)[i] = a.filter.tables->wgmma_b[i];
    reinterpret_cast<uint4*>(smem + kRowOffset)[i] = a.filter.tables->row[i];
  }
  if (tid == 0) {
    for (int i = 0; i < 3; ++i)
      mbarrier_init(bar_x1v + 8 * i, kRagged ? kTeamThreads : 1);
    mbarrier_init(bar_spectrum, 1);
  }
  fence_setup();
  __syncthreads();

  struct Place {
    int d, b;
  };
  auto place = [&](int item) {
    const int d = item / groups;
    return Place{d, (item - d * groups) * kTileBatch};
  };
  auto load = [&](uint32_t to, bool from_dy, int channel, const Place& w, uint32_t bar) {
    if (kRagged) {
      copy_tile<kTeamThreads>(to, from_dy ? a.dy : a.p, w.b, channel, kLogN1, a.wide, half_tid);
    } else {
      tensor_copy(to, from_dy ? &map_dy : &map_p, 0, w.b, channel, bar);
    }
  };
  // By half 1 (all of it if kRagged); the buffer follows the parity of the block's tile count.
  auto load_x1v = [&](int item) {
    if (item >= last || !(kRagged || half_tid == 0)) return;
    const int buffer = (item - first) & 1;
    const uint32_t to = base + buffer * 2 * kInputBytes;
    const uint32_t bar = bar_x1v + 8 * buffer;
    const Place w = place(item);
    if (!kRagged) mbarrier_expect(bar, 2 * kInputBytes);
    load(to, false, channels + w.d, w, bar);
    load(to + kInputBytes, false, 2 * channels + w.d, w, bar);
    if (kRagged) async_copy_arrive(bar);
  };
  auto load_x0y = [&](int item) {  // by half 0
    if (item >= last || !(kRagged || half_tid == 0)) return;
    const Place w = place(item);
    if (!kRagged) mbarrier_expect(bar_x0y, 2 * kInputBytes);
    load(base + 4 * kInputBytes, false, w.d, w, bar_x0y);
    load(base + 5 * kInputBytes, true, w.d, w, bar_x0y);
    if (kRagged) {
      async_copy_arrive(bar_x0y);
    } else if (item + 1 < last) {
      const Place next = place(item + 1);
      tensor_prefetch(&map_p, 0, next.b, next.d);
      tensor_prefetch(&map_dy, 0, next.b, next.d);
    }
  };
  auto tails_of = [&](int item) { return base + kTailOffset + ((item - first) & 1) * kTailBytes; };
  auto load_tails = [&](int item) {  // by warp 0 of half 1
    const Place w = place(item);
    copy_tails(tails_of(item), a.tail, kTileBatch, w.b, a.dy.batch, channels, w.d, tid & 31);
  };
  int item = first;
  if (half == 1) {
    if (kTail && half_tid < 32) load_tails(item);
    load_x1v(item);
    load_x1v(item + 1);
  } else {
    load_x0y(item);
  }

  const uint64_t desc = wgmma_descriptor(base + kWgmmaOffset);
  for (int d = first / groups; d <= (last - 1) / groups; ++d) {
    const uint32_t fir = base + kFirOffset + (d & 1) * 64;
    if (tid < 13) {
      const int part = tid < 4 ? 1 : tid < 8 ? 2 : 0;
      float w;
      if (tid < 12) {
        w = a.conv.value(part * channels + d, tid & 3);
      } else {
        w = a.filter.scale[d] * radix_fix(kLogN1);
      }
      sts32(fir + 4 * tid, __float_as_uint(w));
    }
    __syncthreads();
    if (tid == 0) {
      const uint4* source = a.filter.spectrum + static_cast<int64_t>(d) * kSpectrumVectors;
      mbarrier_expect(bar_spectrum, kSpectrumBytes);
      bulk_copy(base + kSpectrumOffset, source, kSpectrumBytes, bar_spectrum);
      if (d + 1 < channels) bulk_prefetch(source + kSpectrumVectors, kSpectrumBytes);
    }
    float sum_re[2][8];  // sum over the batch of conj(Z) G for the two k1 of this warp
    float sum_im[2][8];
    float par[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum_re[0][i] = sum_re[1][i] = sum_im[0][i] = sum_im[1][i] = 0.F;
      par[i] = 0.F;
    }
    mbarrier_wait(bar_spectrum, (d - first / groups) & 1);
    const int end = min(last, (d + 1) * groups);
    for (; item < end; ++item) {
      const int count = item - first;
      const uint32_t odd_buffer = (count & 1) * 2 * kInputBytes;
      const uint32_t bar_now = bar_x1v + 8 * (count & 1);
      const uint32_t phase_x1v = (count >> 1) & 1;
      const uint32_t phase_x0y = count & 1;
      const Place here = place(item);
      float own_scale;
      {
        // ---- column phase: z or g, radix N1
        mbarrier_wait(half != 0 ? bar_x0y : bar_now, half != 0 ? phase_x0y : phase_x1v);
        __syncwarp();
        const int fresh = fresh_thread_index();
        const int warp = (fresh >> 5) & 7;
        const int lane = fresh & 31;
        const GateAddress<kFull> gate_at(base + half * 4 * kInputBytes, warp, lane);
        const int first_row = GateAddress<kFull>::first_row(lane & 3);
        auto gate_starts = [&](int s) {
          return kFull ? s == 0 && (fresh & 255) == 0
                       : warp == 0 && lane < 4 && ((8 * s + first_row) & n1_mask) == 0;
        };
        float z[4][2][4];
        if (half != 0) {
          const Fir f(fir + 32);
          gate_tile<T, false>(z, gate_at, 0, f, f, gate_starts);
        } else {
          gate_tile<T, true>(z, gate_at, odd_buffer, Fir(fir), Fir(fir + 16), gate_starts);
        }
        const bool tail = kTail && half != 0 && warp == 0;
        if (tail) {
          async_copy_wait();
          __syncwarp();
        }
        const uint32_t tails = tails_of(item);
        TileScale<kFull>::publish(maxima, z, kLogN1, warp, lane, [&](int s) {
          const int i = kFull ? 0 : (8 * s + first_row) >> kLogN1;
          return tail && gate_starts(s) ? tail_most(TailInShared(tails, i)) : 0.F;
        });
        team_barrier(half + 1);
        if (tail && item + 1 < last) load_tails(item + 1);  // the tile before has read its buffer
        const TileScale<kFull> scale(maxima, kLogN1, lane);
        own_scale = scale.value;
        if (half_tid < 8)
          sts32(base + kScaleOffset + half * 32 + 4 * half_tid, __float_as_uint(own_scale));
        uint32_t zb[4][4];
#pragma unroll
        for (int s = 0; s < 4; ++s) {
          const float up = scale.gate(s, lane);
#pragma unroll
          for (int j = 0; j < 4; ++j)
            zb[j][s] = pack_half(z[s][0][j] * up, z[s][1][j] * up);
        }
        uint4 radix[4];
#pragma unroll
        for (int q = 0; q < 4; ++q)
          radix[q] = ldg128(&a.filter.tables->radix[q * 32 + lane]);
        radix_forward<kFull>(zb, radix, ExchangeAddress(exchange, warp, lane).store, 4096,
                             [&](float(&x)[4][4], int first) {
#pragma unroll
                               for (int r = 0; tail && r < 2; ++r) {
                                 const int row = first + 8 * r + (lane >> 2);
                                 const float up =
                                     kFull ? scale.value : __shfl_sync(~0U, scale.value, row >> 2);
                                 if ((lane & 3) == 0)
                                   add_tail(x, r, TailInShared(tails, kFull ? 0 : row >> kLogN1),
                                            up / (1 << radix_exponent(kLogN1)));
                               }
                             });
        __syncthreads();
      }

      // ---- row phase: 256 points of one k1 per warp, twice, z and g together
      const int row_tid = fresh_thread_index();
      const int lane = row_tid & 31;
      const int warp16 = row_tid >> 5;
      const uint32_t row_at = ExchangeAddress::row(base + kExchangeOffset, warp16, lane);
      const uint32_t twist_at = base + kTwistOffset + ((warp16 * 64 + lane) << 4);
      RowConstants k;  // reloaded, not kept across the wgmma peaks
      auto constants = [&] { load_row_constants(k, base + kRowOffset, lane); };
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int k1 = warp16 + 16 * i;
        const uint32_t at = row_at + i * 8192;
        const uint32_t table = twist_at + i * 16384;
        auto get_twist = [&](RowData& tw) {
          if (i == 0) {
            lds128(tw.re, table);
            lds128(tw.im, table + 512);
          } else {
            const uint4* from = a.filter.tables->twist + k1 * 64 + lane;
            load_fragment(tw, from);
          }
        };
        RowData c;
        RowData u;
        float zr[2][4], zi[2][4], gr[2][4], gi[2][4];
        {
          RowData tw;
          get_twist(tw);
          constants();
          load_row(c, at);
          row_forward<true>(c, tw, k);
          load_row(u, at + kExchangeBytes);
          row_forward<true>(u, tw, k);
        }
        wgmma_complex_pair(zr, zi, c.re, c.im, gr, gi, u.re, u.im, desc + kForwardFirst,
                           desc + kForwardSecond);
        constants();
        // S in true units: both scales of the row are undone.
        const uint32_t scales = base + kScaleOffset + (kFull ? 0 : 4 * (k1 >> 2));
        const float weight = inverse_scale(__uint_as_float(lds32(scales))) *
                             inverse_scale(__uint_as_float(lds32(scales + 32)));
#pragma unroll
        for (int q = 0; q < 2; ++q)
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int e = 4 * q + j;
            sum_re[i][e] =
                fmaf(fmaf(zr[q][j], gr[q][j], zi[q][j] * gi[q][j]), weight, sum_re[i][e]);
            sum_im[i][e] =
                fmaf(fmaf(zr[q][j], gi[q][j], -zi[q][j] * gr[q][j]), weight, sum_im[i][e]);
          }
        RowData h;
        lds128(h.re, table - (kTwistOffset - kSpectrumOffset));
        lds128(h.im, table - (kTwistOffset - kSpectrumOffset) + 512);
        row_product<false>(c, zr, zi, h);
        row_product<true>(u, gr, gi, h);
        row_inverse<true>(c, k);
        row_inverse<true>(u, k);
        RowData tw;
        get_twist(tw);
        wgmma_complex_pair(zr, zi, c.re, c.im, gr, gi, u.re, u.im, desc + kInverseFirst,
                           desc + kInverseSecond);
        store_row(zr, zi, tw, at);
        store_row(gr, gi, tw, at + kExchangeBytes);
      }

      // ---- column phase: inverse radix N1, gradients, transposed short convolution
      uint4 radix_t[2][2];
#pragma unroll
      for (int q = 0; q < 4; ++q)
        radix_t[q >> 1][q & 1] = ldg128(&a.filter.tables->radix_t[q * 32 + lane]);
      __syncthreads();
      // Long complete in the fused kernel: makes the copies visible to this warp.
      mbarrier_wait(half != 0 ? bar_now : bar_x0y, half != 0 ? phase_x1v : phase_x0y);
      const GradientTile<T, kFull, kRagged> out{{a.dp}, here.b, kLogN1};
      {
        const int fresh = fresh_thread_index();
        const int warp = (fresh >> 5) & 7;
        const int lane = fresh & 31;
        const OutputAddress<kFull> output_at(base + (half != 0 ? 0 : 4 * kInputBytes), warp, lane);
        auto output_starts = [&](int i, int r, int row) {
          return kFull ? i == 0 && r == 0 && (fresh & 255) == 0
                       : warp == 0 && (lane & 3) == 0 && (row & n1_mask) == 0;
        };
        const float unit = __uint_as_float(lds32(fir + 48));
        const TileScale<kFull> scale = TileScale<kFull>::known(own_scale);
        auto down = [&](int i, int r) { return inverse_scale(scale.output(i, r, lane)) * unit; };
        const InverseOperand<kFull> operand(ExchangeAddress(exchange, warp, lane).load);
        if (half != 0) {
          gate_gradients<T, kFull, kRagged, kTail, true>(
              operand, radix_t, tails_of(item), output_at, odd_buffer, fir, fir + 16, down,
              output_starts, out, channels, d, par, seams, warp, lane);
        } else {
          gate_gradients<T, kFull, kRagged, kTail, false>(operand, radix_t, 0, output_at, 0,
                                                          fir + 32, fir + 32, down, output_starts,
                                                          out, channels, d, par, seams, warp, lane);
          if (kTail && warp == 0) {  // read again: kept beside the gradients, it would spill
            const InverseOperand<kFull> once_more(ExchangeAddress(exchange, warp, lane).load);
            hand_out_tail<kFull>(once_more, radix_t, a.tail, here.b, a.dy.batch, channels, d,
                                 kLogN1, down, lane);
          }
        }
      }
      team_barrier(half + 1);  // this half: its inputs are used up, its seams complete
      if (half != 0) {
        load_x1v(item + 2);
      } else {
        load_x0y(item + 1);
      }
      // Last two times of every 32: one thread per [part][warp][row].
#pragma unroll
      for (int again = 0; again < 2; ++again) {
        if (half == 0 && again != 0) break;
        const int part = half + again;
        const int w = half_tid >> 5;
        const int row = half_tid & 31;
        uint2 behind = make_uint2(0, 0);
        if (w < 7) {
          behind = lds64(seam(seams, part, w + 1, row) + kSeamHalf);
        } else if (((row + 1) & n1_mask) != 0) {
          behind = lds64(seam(seams, part, 0, row + 1) + kSeamHalf);
        } else if (kTail && out.ends(row)) {
          behind = tail_seam(a.tail, static_cast<int64_t>(out.batch(row)) * channels + d,
                             TailInShared(tails_of(item), row >> kLogN1), part,
                             lds64(seam(seams, part, w, row)));
        }
        const Fir f(fir + (part == 0 ? 32 : 16 * (part - 1)));
        finish_seam<T>(out, f, behind, part, part * channels + d, row, seams, w);
      }
    }
    // ---- end of this block's share of the channel; slot: unique since ranges are contiguous
    const int64_t slot = static_cast<int64_t>(d) + blockIdx.x;
    const float unit = radix_fix(kLogN1);
    float2* to = a.sums + slot * kTilePoints + (tid >> 5) * 256 + (tid & 31);
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int e = 0; e < 8; ++e)
        to[i * 4096 + e * 32] = make_float2(sum_re[i][e] * unit, sum_im[i][e] * unit);
    __syncthreads();  // seams read: their buffer is free
    add_parameter_sums(par, reinterpret_cast<float*>(smem + kSeamOffset), tid,
                       [&](int i, float v) { a.parameter_sums[slot * kParameterSums + i] = v; });
  }
#endif
}

template <class T, int kLogN1, bool kRagged, bool kTail>
void launch(const BackwardArgs<T>& a, int blocks, const CUtensorMap& p, const CUtensorMap& dy,
            cudaStream_t stream) {
  allow_shared_memory<mixer_backward<T, kLogN1, kRagged, kTail>>(kSharedBytes);
  mixer_backward<T, kLogN1, kRagged, kTail><<<blocks, kThreads, kSharedBytes, stream>>>(a, p, dy);
  check(cudaGetLastError(), "launch of the mixer's backward kernel");
}

}  // namespace

template <class T>
void launch_backward(const BackwardArgs<T>& a, int log_n1, bool ragged, int blocks,
                     const CUtensorMap& p, const CUtensorMap& dy, cudaStream_t stream) {
  // Rows without a tail keep the registers that its code costs.
  auto run = [&]<int kLogN1, bool kTail>() {
    ragged ? launch<T, kLogN1, true, kTail>(a, blocks, p, dy, stream)
           : launch<T, kLogN1, false, kTail>(a, blocks, p, dy, stream);
  };
  auto with = [&]<int kLogN1>() {
    a.tail.c != nullptr ? run.template operator()<kLogN1, true>()
                        : run.template operator()<kLogN1, false>();
  };
  switch (log_n1) {
    case 2:
      return with.template operator()<2>();
    case 3:
      return with.template operator()<3>();
    case 4:
      return with.template operator()<4>();
    default:
      return with.template operator()<5>();
  }
}

}  // namespace hyena::kernels::cuda
