// Fused Hyena mixer, backward: all gradients in one pass over memory and a small second kernel.
//
//   g = dy q_x0;  S = sum_b conj(Z) G;  c from Z H, du from G conj(H); dh from S
//   (filter_gradient.cu)
//
// Shapes    dy (B, D, L), p and dp (B, 3D, L) 16-bit; parameter gradients float32
// Method    as forward.cu; everything of the forward is recomputed. The skip is part of the
//           spectrum, its gradient is dh[0].
// Mapping   one block of 16 warps per SM (N1 = 32), or two of 8, one tile at a time. Half 0 of the
//           warps: z, then c, dq_x0; half 1: g, then du, dq_x1, dq_v. In between each warp owns two
//           k1 of both for the whole batch, so S stays in 32 float32 registers per lane, summed in
//           batch order.
// Budget    14 bytes per element; floor = bytes / measured copy rate
// Registers 128 (65,536 / 512), a few spilled; shared memory 226 KiB, or 2 x 108 KiB
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

constexpr int kTailBytes = 16 * TailInShared::kChunks * 4;  // of a tile's rows, at most 4
constexpr int kRowBytes = 16 * kRowVectors;                 // twist or spectrum of one k1

template <int kLogN1>
struct Layout {
  static constexpr bool kFull = kLogN1 == 5;
  // In shared memory; the rest through L1, whose loads ptxas moves up until registers spill.
  static constexpr int kTwistRows = kFull ? 16 : 1 << kLogN1;
  static constexpr int kFirstRows = kLogN1 < 3 ? 1 << kLogN1 : 0;
  static constexpr int kSpectrumRows = kLogN1 == 4 ? 0 : 1 << kLogN1;
  static constexpr int kThreads = 2 * Tile<kFull>::kThreads;
  static constexpr int kBlocks = kFull ? 1 : kBackwardBlocks;           // per multiprocessor
  static constexpr int kExchangeOffset = 6 * Tile<kFull>::kInputBytes;  // x1, v, twice, then x0, dy
  static constexpr int kSpectrumOffset = kExchangeOffset + 2 * Tile<kFull>::kExchangeBytes;
  static constexpr int kTwistOffset = kSpectrumOffset + kSpectrumRows * kRowBytes;
  static constexpr int kFirstOffset = kTwistOffset + kTwistRows * kRowBytes;
  static constexpr int kWgmmaOffset = kFirstOffset + kFirstRows * kRowBytes;
  static constexpr int kSeamOffset = kWgmmaOffset + 2560;
  static constexpr int kRowOffset = kSeamOffset + kSeamBytes<Tile<kFull>::kRows>;
  static constexpr int kFirOffset = kRowOffset + 2560;  // two buffers: [x1, v, x0][4], scale
  static constexpr int kMaximaOffset = kFirOffset + 2 * 64;
  static constexpr int kScaleOffset = kMaximaOffset + 2 * kMaximaBytes;  // [z, g][4 quads]
  static constexpr int kBarrierOffset = kScaleOffset + 32;  // x1 v, twice; x0 dy; spectrum
  static constexpr int kTailOffset = kBarrierOffset + 32;   // two buffers
  static constexpr int kSharedBytes = kTailOffset + 2 * kTailBytes;
  static_assert(kBlocks * (kSharedBytes + 1024) <= 233472, "228 KiB per multiprocessor");
};

template <class T, int kLogN1, bool kRagged, bool kTail>
__global__ void __launch_bounds__(Layout<kLogN1>::kThreads, Layout<kLogN1>::kBlocks)
    mixer_backward(const BackwardArgs<T> a, const __grid_constant__ CUtensorMap map_p,
                   const __grid_constant__ CUtensorMap map_dy) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  constexpr bool kFull = kLogN1 == 5;
  constexpr int kHalfThreads = Tile<kFull>::kThreads;
  constexpr int kWarps = kHalfThreads / 32;  // of a half
  constexpr int kInput = Tile<kFull>::kInputBytes;
  constexpr int kPlane = Tile<kFull>::kPlaneBytes;
  constexpr int kExchange = Tile<kFull>::kExchangeBytes;
  constexpr int kRows = Tile<kFull>::kRows;
  constexpr int kTileBatch = kRows >> kLogN1;  // batch rows in a tile
  constexpr int n1_mask = (1 << kLogN1) - 1;
  using At = Layout<kLogN1>;
  const int channels = a.dy.channels;
  const int tid = threadIdx.x;
  const int half = tid >> (kFull ? 8 : 7);
  const int half_tid = tid & (kHalfThreads - 1);
  const uint32_t base = smem_address(smem);
  const uint32_t exchange = base + At::kExchangeOffset + half * kExchange;
  const uint32_t seams = base + At::kSeamOffset;
  const uint32_t maxima = base + At::kMaximaOffset + half * kMaximaBytes;
  const uint32_t bar_x1v = base + At::kBarrierOffset;
  const uint32_t bar_x0y = bar_x1v + 16;
  const uint32_t bar_spectrum = bar_x1v + 24;

  const int groups = (a.dy.batch + kTileBatch - 1) / kTileBatch;
  const int64_t total = static_cast<int64_t>(channels) * groups;
  const int first = static_cast<int>(total * blockIdx.x / gridDim.x);
  const int tiles = static_cast<int>(total * (blockIdx.x + 1) / gridDim.x) - first;  // of the block
  if (tiles <= 0) return;

  for (int i = tid; i < At::kTwistRows * kRowVectors; i += At::kThreads)
    reinterpret_cast<uint4*>(smem + At::kTwistOffset)[i] = a.filter.tables->twist[i];
  for (int i = tid; i < At::kFirstRows * kRowVectors; i += At::kThreads)
    reinterpret_cast<uint4*>(smem + At::kFirstOffset)[i] = a.filter.tables->first[i];
  for (int i = tid; i < 160; i += At::kThreads) {
    reinterpret_cast<uint4*>(smem + At::kWgmmaOffset)[i] = a.filter.tables->wgmma_b[i];
    reinterpret_cast<uint4*>(smem + At::kRowOffset)[i] = a.filter.tables->row[i];
  }
  if (tid == 0) {
    for (int i = 0; i < 3; ++i)
      mbarrier_init(bar_x1v + 8 * i, kRagged ? kHalfThreads : 1);
    mbarrier_init(bar_spectrum, 1);
    if ((first / groups) % 2 != 0) mbarrier_arrive(bar_spectrum);  // phase = parity of the channel
  }
  fence_setup();
  __syncthreads();
  auto half_barrier = [&] { team_barrier<kHalfThreads>(half + 1); };

  struct Place {
    int d, b;
  };
  auto next = [&](const Place& w) {
    return w.b + kTileBatch < a.dy.batch ? Place{w.d, w.b + kTileBatch} : Place{w.d + 1, 0};
  };
  auto load = [&](uint32_t to, bool from_dy, int channel, const Place& w, uint32_t bar) {
    if (kRagged) {
      copy_tile<kFull>(to, from_dy ? a.dy : a.p, w.b, channel, kLogN1, a.wide, half_tid);
    } else {
      tensor_copy(to, from_dy ? &map_dy : &map_p, 0, w.b, channel, bar);
    }
  };
  // By half 1 (all of it if kRagged); the buffer follows the parity of the block's tile count.
  auto load_x1v = [&](int tile, const Place& w) {
    if (tile >= tiles || !(kRagged || half_tid == 0)) return;
    const int buffer = tile & 1;
    const uint32_t to = base + buffer * 2 * kInput;
    const uint32_t bar = bar_x1v + 8 * buffer;
    if (!kRagged) mbarrier_expect(bar, 2 * kInput);
    load(to, false, channels + w.d, w, bar);
    load(to + kInput, false, 2 * channels + w.d, w, bar);
    if (kRagged) async_copy_arrive(bar);
  };
  auto load_x0y = [&](int tile, const Place& w) {  // by half 0
    if (tile >= tiles || !(kRagged || half_tid == 0)) return;
    if (!kRagged) mbarrier_expect(bar_x0y, 2 * kInput);
    load(base + 4 * kInput, false, w.d, w, bar_x0y);
    load(base + 5 * kInput, true, w.d, w, bar_x0y);
    if (kRagged) {
      async_copy_arrive(bar_x0y);
    } else if (tile + 1 < tiles) {
      const Place then = next(w);
      tensor_prefetch(&map_p, 0, then.b, then.d);
      tensor_prefetch(&map_dy, 0, then.b, then.d);
    }
  };
  auto tails_of = [&](int tile) { return base + At::kTailOffset + (tile & 1) * kTailBytes; };
  auto load_tails = [&](int tile, const Place& w) {  // by warp 0 of half 1
    copy_tails(tails_of(tile), a.tail, kTileBatch, w.b, a.dy.batch, channels, w.d, tid & 31);
  };
  Place here{first / groups, (first % groups) * kTileBatch};
  if (half == 1) {
    if (kTail && half_tid < 32) load_tails(0, here);
    load_x1v(0, here);
    load_x1v(1, next(here));
  } else {
    load_x0y(0, here);
  }

  const uint64_t desc = wgmma_descriptor(base + At::kWgmmaOffset);
  for (int tile = 0; tile < tiles;) {
    const int d = here.d;
    const uint32_t fir = base + At::kFirOffset + (d & 1) * 64;
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
    constexpr bool kShared = At::kSpectrumRows != 0;
    const int64_t spectrum = static_cast<int64_t>(d) * (kRowVectors << kLogN1);
    if (kShared && tid == 0) {
      constexpr int kBytes = At::kSpectrumRows * kRowBytes;
      const uint4* const source = a.filter.spectrum + spectrum;
      mbarrier_expect(bar_spectrum, kBytes);
      bulk_copy(base + At::kSpectrumOffset, source, kBytes, bar_spectrum);
      if (d + 1 < channels) bulk_prefetch(source + kBytes / 16, kBytes);
    }
    float sum_re[2][8];  // sum over the batch of conj(Z) G for the two k1 of this warp
    float sum_im[2][8];
    float par[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum_re[0][i] = sum_re[1][i] = sum_im[0][i] = sum_im[1][i] = 0.F;
      par[i] = 0.F;
    }
    if (kShared) mbarrier_wait(bar_spectrum, d & 1);
    for (; tile < tiles && here.d == d; ++tile, here = next(here)) {
      const uint32_t odd_buffer = (tile & 1) * 2 * kInput;
      const uint32_t bar_now = bar_x1v + 8 * (tile & 1);
      const uint32_t phase_x1v = (tile >> 1) & 1;
      const uint32_t phase_x0y = tile & 1;
      float own_scale;
      {
        // ---- column phase: z or g, radix N1
        mbarrier_wait(half != 0 ? bar_x0y : bar_now, half != 0 ? phase_x0y : phase_x1v);
        __syncwarp();
        const int fresh = fresh_thread_index();
        const int warp = (fresh >> 5) & (kWarps - 1);
        const int lane = fresh & 31;
        const GateAddress<kFull> gate_at(base + half * 4 * kInput, warp, lane);
        const int first_row = GateAddress<kFull>::first_row(lane & 3);
        auto gate_starts = [&](int s) { return GateAddress<kFull>::starts(s, kLogN1, warp, lane); };
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
        const uint32_t tails = tails_of(tile);
        TileScale<kFull>::publish(maxima, z, kLogN1, warp, lane, [&](int s) {
          const int i = kFull ? 0 : (8 * s + first_row) >> kLogN1;
          return tail && gate_starts(s) ? tail_most(TailInShared(tails, i)) : 0.F;
        });
        half_barrier();
        if (tail && tile + 1 < tiles)
          load_tails(tile + 1, next(here));  // the tile before has read its buffer
        const TileScale<kFull> scale(maxima, kLogN1, lane);
        own_scale = scale.value;
        if (half_tid < 4)
          sts32(base + At::kScaleOffset + half * 16 + 4 * half_tid, __float_as_uint(own_scale));
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
        for (int q = 0; q < 4; q += kFull ? 1 : 2)
          radix[q] = ldg128(&a.filter.tables->radix[q * 32 + lane]);
        radix_forward<kFull>(zb, radix, ExchangeAddress<kFull>(exchange, warp, lane).store, 4096,
                             [&](float(&x)[4][4], int) {
#pragma unroll
                               for (int r = 0; tail && r < 2; ++r) {
                                 const int row = 8 * r + (lane >> 2);
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
      const int row_warp = row_tid >> 5;
      const uint32_t row_at =
          ExchangeAddress<kFull>::row(base + At::kExchangeOffset, row_warp, lane);
      const uint32_t tables = base + (((row_warp & n1_mask) * kRowVectors + lane) << 4);
      RowConstants k;  // reloaded, not kept across the wgmma peaks
      auto constants = [&] { load_row_constants(k, base + At::kRowOffset, lane); };
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = row_warp + 2 * kWarps * i;  // of the tile
        const uint32_t at = row_at + i * (1024 * kWarps);
        const int in_table = (row & n1_mask) * kRowVectors + lane;
        const uint32_t table = tables + (kLogN1 < 4 ? 0 : 2 * kWarps * i * kRowBytes);
        // `rows` of them in shared memory.
        auto get = [&](RowData& to, int rows, int offset, const uint4* from) {
          if (rows > 2 * kWarps * i || (rows > 0 && kLogN1 < 4)) {
            lds128(to.re, table + offset);
            lds128(to.im, table + offset + 512);
          } else {
            load_fragment(to, from + in_table);
          }
        };
        auto get_twist = [&](RowData& tw) {
          get(tw, At::kTwistRows, At::kTwistOffset, a.filter.tables->twist);
        };
        RowData c;
        RowData u;
        float zr[2][4], zi[2][4], gr[2][4], gi[2][4];
        {
          RowData tw;
          get_twist(tw);
          load_row<kPlane>(c, at);
          load_row<kPlane>(u, at + kExchange);
          if constexpr (kFull) {
            constants();
            row_forward<true>(c, tw, k);
            row_forward<true>(u, tw, k);
          } else {
            RowData first;
            get(first, At::kFirstRows, At::kFirstOffset, a.filter.tables->first);
            DftMatrix matrix;
            first_matrix(matrix, first);
            short_row_forward(c, matrix, tw);
            short_row_forward(u, matrix, tw);
          }
        }
        wgmma_complex_pair(zr, zi, c.re, c.im, gr, gi, u.re, u.im, desc + kForwardFirst,
                           desc + kForwardSecond);
        constants();
        // S in true units: both scales of the row are undone.
        const uint32_t scales = base + At::kScaleOffset + (kFull ? 0 : 4 * (row >> 2));
        const float weight = inverse_scale(__uint_as_float(lds32(scales))) *
                             inverse_scale(__uint_as_float(lds32(scales + 16)));
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
        get(h, At::kSpectrumRows, At::kSpectrumOffset, a.filter.spectrum + spectrum);
        row_product<false>(c, zr, zi, h);
        row_product<true>(u, gr, gi, h);
        RowData tw;
        if constexpr (kFull) {
          row_inverse<true>(c, k);
          row_inverse<true>(u, k);
          get_twist(tw);
        } else {
          get_twist(tw);
          short_row_inverse(c, k, tw);
          short_row_inverse(u, k, tw);
        }
        wgmma_complex_pair(zr, zi, c.re, c.im, gr, gi, u.re, u.im, desc + kInverseFirst,
                           desc + kInverseSecond);
        if constexpr (kFull) {
          store_row<kPlane>(zr, zi, tw, at);
          store_row<kPlane>(gr, gi, tw, at + kExchange);
        } else {
          store_short_row<kPlane>(zr, zi, at);
          store_short_row<kPlane>(gr, gi, at + kExchange);
        }
      }

      // ---- column phase: inverse radix N1, gradients, transposed short convolution
      uint4 radix_t[2][2];
      if (kFull) load_inverse_matrix<true>(radix_t, a.filter.tables, 0, 0, lane);
      __syncthreads();
      // Long complete in the fused kernel: makes the copies visible to this warp.
      mbarrier_wait(half != 0 ? bar_now : bar_x0y, half != 0 ? phase_x1v : phase_x0y);
      const GradientTile<T, kFull, kRagged> out{{a.dp}, here.b, kLogN1};
      {
        const int fresh = fresh_thread_index();
        const int warp = (fresh >> 5) & (kWarps - 1);
        const int lane = fresh & 31;
        const OutputAddress<kFull> output_at(base + (half != 0 ? 0 : 4 * kInput), warp, lane);
        const float unit = __uint_as_float(lds32(fir + 48));
        const TileScale<kFull> scale = TileScale<kFull>::known(own_scale);
        auto down = [&](int r) { return inverse_scale(scale.output(r, lane)) * unit; };
        const uint32_t load = ExchangeAddress<kFull>(exchange, warp, lane).load;
        const StepOperands<kFull> operands(load);
        if (half != 0) {
          gate_gradients<T, kFull, kRagged, kTail, true>(
              operands, radix_t, a.filter.tables, tails_of(tile), output_at, odd_buffer, fir,
              fir + 16, down, out, channels, d, par, seams, warp, lane);
        } else {
          gate_gradients<T, kFull, kRagged, kTail, false>(operands, radix_t, a.filter.tables, 0,
                                                          output_at, 0, fir + 32, fir + 32, down,
                                                          out, channels, d, par, seams, warp, lane);
          if (kTail && warp == 0) {  // read again: kept beside the gradients, it would spill
            if (!kFull) load_inverse_matrix<false>(radix_t, a.filter.tables, 0, 0, lane);
            hand_out_tail<kFull>(InverseOperand<kFull>(load), radix_t, a.tail, here.b, a.dy.batch,
                                 channels, d, kLogN1, down, lane);
          }
        }
      }
      half_barrier();  // its inputs are used up, its seams complete
      if (half != 0) {
        load_x1v(tile + 2, next(next(here)));
      } else {
        load_x0y(tile + 1, next(here));
      }
      // Last two times of every 32: one thread per [part][segment][row].
#pragma unroll
      for (int again = 0; again < 2; ++again) {
        if (half == 0 && again != 0) break;
        const int part = half + again;
        const int w = half_tid / kRows;
        const int row = half_tid % kRows;
        uint2 behind = make_uint2(0, 0);
        if (w < 7) {
          behind = lds64(seam<kRows>(seams, part, w + 1, row) + kSeamHalf<kRows>);
        } else if (((row + 1) & n1_mask) != 0) {
          behind = lds64(seam<kRows>(seams, part, 0, row + 1) + kSeamHalf<kRows>);
        } else if (kTail && out.ends(row)) {
          behind = tail_seam(a.tail, static_cast<int64_t>(out.batch(row)) * channels + d,
                             TailInShared(tails_of(tile), row >> kLogN1), part,
                             lds64(seam<kRows>(seams, part, w, row)));
        }
        const Fir f(fir + (part == 0 ? 32 : 16 * (part - 1)));
        finish_seam<T>(out, f, behind, part, part * channels + d, row, seams, w);
      }
    }
    // ---- end of this block's share of the channel; slot: unique since ranges are contiguous
    const int64_t slot = static_cast<int64_t>(d) + blockIdx.x;
    const float unit = radix_fix(kLogN1);
    float2* to = a.sums + slot * (sum_rows(kLogN1) * 256) + (tid >> 5) * 256 + (tid & 31);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      if (sum_rows(kLogN1) == 2 * kWarps) {  // the warp's rows have the same k1
        to[e * 32] =
            make_float2((sum_re[0][e] + sum_re[1][e]) * unit, (sum_im[0][e] + sum_im[1][e]) * unit);
      } else {
#pragma unroll
        for (int i = 0; i < 2; ++i)
          to[(2 * kWarps * i) * 256 + e * 32] =
              make_float2(sum_re[i][e] * unit, sum_im[i][e] * unit);
      }
    }
    __syncthreads();  // seams read: their buffer is free
    add_parameter_sums<kWarps>(
        par, reinterpret_cast<float*>(smem + At::kSeamOffset), tid,
        [&](int i, float v) { a.parameter_sums[slot * kParameterSums + i] = v; });
  }
#endif
}

template <class T, int kLogN1, bool kRagged, bool kTail>
void launch(const BackwardArgs<T>& a, int blocks, const CUtensorMap& p, const CUtensorMap& dy,
            cudaStream_t stream) {
  using At = Layout<kLogN1>;
  allow_shared_memory<mixer_backward<T, kLogN1, kRagged, kTail>>(At::kSharedBytes);
  mixer_backward<T, kLogN1, kRagged, kTail>
      <<<blocks, At::kThreads, At::kSharedBytes, stream>>>(a, p, dy);
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
