// Fused Hyena mixer, forward, rows of 2 to 4 chunks of 8192 points: one pass over device memory.
//
//   y = q_x0 * right-angle inverse of C_c,   C_c = sum_{m <= c} U_{c-m} H_m          (chunked.h)
//
// Shapes    as forward.cu, 8192 < L <= 32,768 (up to 8 chunks by the code)
// Method    forward.cu, one chunk after the other. A lane owns the same frequencies of every chunk,
//           so the spectra of earlier chunks go to scratch and come back to the lane that wrote
//           them: no synchronisation.
// Mapping   one block per SM, two teams of 8 warps; a team owns whole rows
// Budget    8 bytes per element from device memory; from and to the L2, at n chunks, 2 (n - 1) for
//           the earlier chunks, 2 (n + 1) for the filter, 4 (n - 1) / n written
// Numerics  products in half2, sums in float32; each chunk has a scale of its own, their sum one
//           small enough that c + 1 chunks at their bound cannot overflow
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp (lengths above 8192)
#include "hyena/kernels/cuda/chunk_tile.cuh"
#include "hyena/kernels/cuda/forward.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {
namespace {

constexpr int kTeams = 2;
constexpr int kThreads = kTeams * kTeamThreads;
constexpr int kTeamBytes = 3 * kInputBytes + kExchangeBytes;
constexpr int kTwistOffset = kTeams * kTeamBytes;
constexpr int kWgmmaOffset = kTwistOffset + kSpectrumBytes;
constexpr int kMaximaOffset = kWgmmaOffset + 2560;
constexpr int kFactorOffset = kMaximaOffset + kTeams * kMaximaBytes;  // [8] of products, 1 / scale
constexpr int kBarrierOffset = kFactorOffset + kTeams * 64;
constexpr int kSharedBytes = kBarrierOffset + 16 * kTeams;

/// acc += factor * x h, the product in half precision.
__device__ __forceinline__ void add_product(float (&re)[2][4], float (&im)[2][4], const RowData& x,
                                            const RowData& h, float factor) {
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    uint32_t pr = x.re[w];
    uint32_t pi = x.im[w];
    multiply<false>(pr, pi, h.re[w], h.im[w]);
    const float2 r = __half22float2(as_half2(pr));
    const float2 i = __half22float2(as_half2(pi));
    const int q = w >> 1;
    const int e = 2 * (w & 1);
    re[q][e] = fmaf(factor, r.x, re[q][e]);
    re[q][e + 1] = fmaf(factor, r.y, re[q][e + 1]);
    im[q][e] = fmaf(factor, i.x, im[q][e]);
    im[q][e + 1] = fmaf(factor, i.y, im[q][e + 1]);
  }
}

/// A fragment that this thread wrote: not through the read-only path.
__device__ __forceinline__ void load_own(RowData& x, const uint4* from) {
  const uint4 re = __ldcg(from);
  const uint4 im = __ldcg(from + 32);
  x.re[0] = re.x;
  x.re[1] = re.y;
  x.re[2] = re.z;
  x.re[3] = re.w;
  x.im[0] = im.x;
  x.im[1] = im.y;
  x.im[2] = im.z;
  x.im[3] = im.w;
}

template <class T, bool kRagged>
__global__ void __launch_bounds__(kThreads, 1)
    chunks_forward(const SynthesisArgs<T> a, uint4* history,
                   const __grid_constant__ CUtensorMap map) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  const int tid = threadIdx.x;
  const int team = tid / kTeamThreads;
  const int team_tid = tid % kTeamThreads;
  const uint32_t base = smem_address(smem);
  const uint32_t in = base + team * kTeamBytes;
  const uint32_t exchange = in + 3 * kInputBytes;
  const uint32_t maxima = base + kMaximaOffset + team * kMaximaBytes;
  const uint32_t factors = base + kFactorOffset + team * 64;
  const uint32_t bar_x1v = base + kBarrierOffset + 16 * team;
  const uint32_t bar_x0 = bar_x1v + 8;

  for (int i = tid; i < kSpectrumVectors; i += kThreads)
    reinterpret_cast<uint4*>(smem + kTwistOffset)[i] = a.filter.tables->twist[i];
  for (int i = tid; i < 160; i += kThreads)
    reinterpret_cast<uint4*>(smem + kWgmmaOffset)[i] = a.filter.tables->wgmma_b[i];
  if (tid == 0)
    for (int i = 0; i < 2 * kTeams; ++i)
      mbarrier_init(base + kBarrierOffset + 8 * i, kRagged ? kTeamThreads : 1);
  fence_setup();
  __syncthreads();

  const int chunks = a.group.chunks;
  const int channels = a.y.channels;
  const int rows = a.group.channel_count * a.group.batch;
  const int step = gridDim.x * kTeams;
  const int team_index = blockIdx.x * kTeams + team;
  auto load = [&](int part, int buffer, const ChunkPlace& w, uint32_t bar) {
    const uint32_t to = in + buffer * kInputBytes;
    const int channel = part * channels + w.channel;
    if (kRagged) {
      copy_tile<kTeamThreads>(to, a.p, w.batch, channel, w.start(), 5, a.wide, team_tid);
    } else {
      tensor_copy(to, &map, w.chunk * kTileRows, w.batch, channel, bar);
    }
  };
  auto load_x1v = [&](int row, int chunk) {
    if (row >= rows || !(kRagged || team_tid == 0)) return;
    const ChunkPlace w(a.group, row * chunks + chunk);
    if (!kRagged) mbarrier_expect(bar_x1v, 2 * kInputBytes);
    load(1, 0, w, bar_x1v);
    load(2, 1, w, bar_x1v);
    if (kRagged) {
      async_copy_arrive(bar_x1v);
    } else {
      tensor_prefetch(&map, w.chunk * kTileRows, w.batch, w.channel);
    }
  };
  auto load_x0 = [&](const ChunkPlace& w) {
    if (!(kRagged || team_tid == 0)) return;
    if (!kRagged) mbarrier_expect(bar_x0, kInputBytes);
    load(0, 2, w, bar_x0);
    if (kRagged) async_copy_arrive(bar_x0);
  };
  load_x1v(team_index, 0);
  const uint64_t desc = wgmma_descriptor(base + kWgmmaOffset);
  uint4* const own = history + static_cast<int64_t>(team_index) * (chunks - 1) * kSpectrumVectors;
  uint32_t phase = 0;
  for (int row = team_index; row < rows; row += step) {
    float inverse_scales = 0.F;  // of chunk `lane`, in warp 0
    for (int c = 0; c < chunks; ++c) {
      const ChunkPlace w(a.group, row * chunks + c);
      // ---- column phase
      {
        const int fresh = fresh_thread_index();
        const int warp = (fresh & (kTeamThreads - 1)) >> 5;
        const int lane = fresh & 31;
        const Fir fa = channel_fir(a.conv, channels + w.channel);
        const Fir fb = channel_fir(a.conv, 2 * channels + w.channel);
        uint32_t edge_a = 0;
        uint32_t edge_b = 0;
        if (team_tid == 0) {
          edge_a = chunk_edge(a.p, channels + w.channel, w);
          edge_b = chunk_edge(a.p, 2 * channels + w.channel, w);
        }
        mbarrier_wait(bar_x1v, phase);
        float z[4][2][4];
        gate_tile<T, true, true>(
            z, GateAddress<true>(in, warp, lane), 0, fa, fb,
            [&](int s) { return s == 0 && team_tid == 0; }, edge_a, edge_b);
        TileScale<true>::publish(maxima, z, 5, warp, lane);
        uint4 radix[4];
#pragma unroll
        for (int q = 0; q < 4; ++q)
          radix[q] = ldg128(&a.filter.tables->radix[q * 32 + lane]);
        team_barrier(team + 1);
        const TileScale<true> scale(maxima, 5, lane);
        load_x0(w);
        c + 1 < chunks ? load_x1v(row, c + 1) : load_x1v(row + step, 0);
        uint32_t zb[4][4];
#pragma unroll
        for (int s = 0; s < 4; ++s)
#pragma unroll
          for (int j = 0; j < 4; ++j)
            zb[j][s] = pack_half(z[s][0][j] * scale.value, z[s][1][j] * scale.value);
        radix_forward<true>(zb, radix, ExchangeAddress(exchange, warp, lane).store);
        if (warp == 0) {
          if (lane == c) inverse_scales = inverse_scale(scale.value);
          const float h = lane <= c ? __ldg(a.filter.scale + w.channel * chunks + lane) : 0.F;
          const float s = lane <= c ? inverse_scales : 0.F;
          const float most = __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(h))) *
                             __uint_as_float(__reduce_max_sync(~0U, __float_as_uint(s)));
          const int log_count = 32 - __clz(c);  // 2^log_count >= c + 1
          const float unit =
              fminf(fmaxf(most, 0x1p-100F), 0x1p100F) * __uint_as_float((127U + log_count) << 23);
          const float other = __shfl_sync(~0U, s, max(c - lane, 0));
          if (lane <= c)
            sts32(factors + 4 * lane, __float_as_uint(other * h * inverse_scale(unit)));
          if (lane == 0) sts32(factors + 32, __float_as_uint(unit));
        }
      }
      RowConstants k;
      load_row_constants(k, a.filter.tables, tid & 31);
      team_barrier(team + 1);

      // ---- row phase
      {
        const int fresh = fresh_thread_index();
        const int warp = (fresh & (kTeamThreads - 1)) >> 5;
        const int lane = fresh & 31;
        const uint32_t row_at = ExchangeAddress::row(exchange, warp, lane);
        const int offset = warp * 64 + lane;
        const uint4* h_at = a.filter.spectrum +
                            static_cast<int64_t>(w.channel) * chunks * kSpectrumVectors + offset;
#pragma unroll 1
        for (int i = 0; i < 4; ++i) {
          const uint32_t at = row_at + i * 4096;
          const uint32_t table = base + kTwistOffset + (offset << 4) + i * 8192;
          RowData x;
          RowData h;
          float cr[2][4];
          float ci[2][4];
          load_row(x, at);
          load_fragment(h, h_at + i * 512);
          {
            RowData tw;
            lds128(tw.re, table);
            lds128(tw.im, table + 512);
            row_forward(x, tw, k);
          }
          wgmma_complex(cr, ci, x.re, x.im, desc + kForwardFirst, desc + kForwardSecond);
#pragma unroll
          for (int q = 0; q < 2; ++q)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              x.re[2 * q + r] = pack_half(cr[q][2 * r], cr[q][2 * r + 1]);
              x.im[2 * q + r] = pack_half(ci[q][2 * r], ci[q][2 * r + 1]);
            }
          if (c + 1 < chunks) {
            uint4* to = own + c * kSpectrumVectors + i * 512 + offset;
            to[0] = make_uint4(x.re[0], x.re[1], x.re[2], x.re[3]);
            to[32] = make_uint4(x.im[0], x.im[1], x.im[2], x.im[3]);
          }
#pragma unroll
          for (int q = 0; q < 2; ++q)
#pragma unroll
            for (int j = 0; j < 4; ++j)
              cr[q][j] = ci[q][j] = 0.F;
#pragma unroll 1
          for (int m = 0; m < c; ++m) {  // the next operands arrive during the product
            RowData next_x;
            RowData next_h;
            load_own(next_x, own + (c - m - 1) * kSpectrumVectors + i * 512 + offset);
            load_fragment(next_h, h_at + (m + 1) * kSpectrumVectors + i * 512);
            add_product(cr, ci, x, h, __uint_as_float(lds32(factors + 4 * m)));
            x = next_x;
            h = next_h;
          }
          add_product(cr, ci, x, h, __uint_as_float(lds32(factors + 4 * c)));
#pragma unroll
          for (int q = 0; q < 2; ++q)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              x.re[2 * q + r] = pack_half(cr[q][2 * r], cr[q][2 * r + 1]);
              x.im[2 * q + r] = pack_half(ci[q][2 * r], ci[q][2 * r + 1]);
            }
          row_inverse(x, k);
          wgmma_complex(cr, ci, x.re, x.im, desc + kInverseFirst, desc + kInverseSecond);
          RowData tw;
          lds128(tw.re, table);
          lds128(tw.im, table + 512);
          store_row(cr, ci, tw, at);
        }
      }

      // ---- column phase
      {
        const int fresh = fresh_thread_index();
        const int warp = (fresh & (kTeamThreads - 1)) >> 5;
        const int lane = fresh & 31;
        uint4 radix_t[2][2];
#pragma unroll
        for (int q = 0; q < 4; ++q)
          radix_t[q >> 1][q & 1] = ldg128(&a.filter.tables->radix_t[q * 32 + lane]);
        Fir fir = channel_fir(a.conv, w.channel);
        const uint32_t edge = team_tid == 0 ? chunk_edge(a.p, w.channel, w) : 0U;
        team_barrier(team + 1);
        fir.scale(__uint_as_float(lds32(factors + 32)) * radix_fix(5));
        const InverseOperand<true> operand(ExchangeAddress(exchange, warp, lane).load);
        mbarrier_wait(bar_x0, phase);
        phase ^= 1;
        gate_output<T, true, kRagged>(
            operand, radix_t, OutputAddress<true>(in + 2 * kInputBytes, warp, lane), fir, nullptr,
            edge, a.y, w.batch, w.channel, w.start(), 5, a.wide, warp, lane);
        __syncwarp();
      }
    }
  }
#endif
}

template <class T, bool kRagged>
void launch(const SynthesisArgs<T>& a, int blocks, uint4* history, const CUtensorMap& map,
            cudaStream_t stream) {
  allow_shared_memory<chunks_forward<T, kRagged>>(kSharedBytes);
  chunks_forward<T, kRagged><<<blocks, kThreads, kSharedBytes, stream>>>(a, history, map);
  check(cudaGetLastError(), "launch of the chunked forward kernel");
}

}  // namespace

template <class T>
void launch_chunks_forward(const SynthesisArgs<T>& a, bool ragged, int blocks, uint4* history,
                           const CUtensorMap& map, cudaStream_t stream) {
  ragged ? launch<T, true>(a, blocks, history, map, stream)
         : launch<T, false>(a, blocks, history, map, stream);
}
template void launch_chunks_forward(const SynthesisArgs<__nv_bfloat16>&, bool, int, uint4*,
                                    const CUtensorMap&, cudaStream_t);
template void launch_chunks_forward(const SynthesisArgs<__half>&, bool, int, uint4*,
                                    const CUtensorMap&, cudaStream_t);

std::size_t chunks_forward_history(int blocks, int chunks) {
  return static_cast<std::size_t>(blocks * kTeams) * static_cast<std::size_t>(chunks - 1) *
         kSpectrumBytes;
}

}  // namespace hyena::kernels::cuda
