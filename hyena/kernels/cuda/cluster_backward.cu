// Rows of 16384 to 65536 points, backward, in one pass: a cluster of c = 2, 4 or 8 blocks holds a
// row (cluster.cuh). All gradients.
//
//   columns, half 0   z = q_x1 q_v, radix 32
//   columns, half 1   g = dy q_x0, radix 32
//   rows              exchange, radix c; 256 points of two k1 per warp: S += conj(Z) G, then Z H
//                     and G conj(H), back; radix c, exchange
//   columns, half 0   c, dq_x0, dp_x0
//   columns, half 1   du, dq_x1, dq_v, dp_x1, dp_v
//
// and behind the last row of a channel S back to dh.
//
// Mapping   16 warps per block, one block per SM. A cluster owns whole channels, so that S stays in
//           32 float32 registers per lane, summed in batch order. Rows overlap as in
//           cluster_forward.cu. The column phases read x1, v, x0 and dy twice: from shared memory,
//           where they arrive a row ahead, and from the L2.
// Budget    14 bytes per point of device memory, 16 (c - 1) / c between multiprocessors, 8 of the
//           inputs, 8 of spectrum and twist from the L2
// Registers 128 (65,536 / 512); shared memory 226 KiB
// Numerics  as split.h; equal bits on equal devices
#include "hyena/kernels/cuda/cluster_gradients.cuh"
#include "hyena/kernels/cuda/cluster_launch.h"
#include "hyena/kernels/cuda/cluster_radix.cuh"
#include "hyena/kernels/cuda/slots.cuh"
#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 2 * kClusterThreads;
constexpr int kSignalBytes = 3 * kExchangeBytes;  // planes of two rows, rows
constexpr int kEdgeOffset = 2 * kSignalBytes;     // x1; of v kInputBytes behind
constexpr int kX0EdgeOffset = kEdgeOffset + 128;
constexpr int kRadixOffset = kX0EdgeOffset + 128;        // there and back
constexpr int kWgmmaOffset = kRadixOffset + 8192;        // wgmma_b, row constants
constexpr int kFirOffset = kWgmmaOffset + 5120;          // two channels: [x1, v, x0][4], factors
constexpr int kMaximaOffset = kFirOffset + 2 * 64;       // of both halves
constexpr int kExponentOffset = kMaximaOffset + 2 * 64;  // [z, g, S][tau]
constexpr int kMostOffset = kExponentOffset + 3 * 32;    // of rows of z and g
constexpr int kBarrierOffset = kMostOffset + 8;          // inputs, rows, planes, seams, read; S
constexpr int kSeamOffset = kEdgeOffset + kInputBytes + 128;
constexpr int kBehindOffset = kSeamOffset + kSeamBytes<kTileRows>;  // [part][row] dq of the next n1
constexpr int kParameterOffset = kBehindOffset + 3 * kTileRows * 8;  // [tau][kParameterSums]
constexpr int kSharedBytes = kParameterOffset + 8 * kParameterSums * 4;
static_assert(kBarrierOffset + 88 <= kEdgeOffset + kInputBytes);
static_assert(kSharedBytes <= 232448, "227 KiB of shared memory per block");

/// One half of a block: where its data lies. Made anew in every phase, so that addresses need not
/// stay in registers.
struct HalfBlock {
  uint32_t base;
  int half, tid;
  __device__ __forceinline__ explicit HalfBlock(uint32_t smem) : base(smem) {
    const int fresh = fresh_thread_index();
    half = fresh >> 8;
    tid = fresh & 255;
  }
  __device__ __forceinline__ int warp() const { return tid >> 5; }
  __device__ __forceinline__ int lane() const { return tid & 31; }
  __device__ __forceinline__ void barrier() const { team_barrier(half + 1); }
  __device__ __forceinline__ uint32_t edges() const {
    return base + (half == 0 ? kEdgeOffset : kX0EdgeOffset);
  }
  /// Also where the inputs of this turn arrive.
  __device__ __forceinline__ uint32_t planes(uint32_t turn) const {
    return base + half * kSignalBytes + (turn & 1) * kExchangeBytes;
  }
  __device__ __forceinline__ uint32_t rows() const {
    return base + half * kSignalBytes + 2 * kExchangeBytes;
  }
  __device__ __forceinline__ uint32_t maxima() const { return base + kMaximaOffset + half * 64; }
  __device__ __forceinline__ uint32_t exponents() const {
    return base + kExponentOffset + half * 32;
  }
  __device__ __forceinline__ uint32_t most() const { return base + kMostOffset + half * 4; }
  __device__ __forceinline__ uint32_t bar_inputs() const {
    return base + kBarrierOffset + half * 8;
  }
  __device__ __forceinline__ uint32_t bar_rows() const { return bar_inputs() + 16; }
  __device__ __forceinline__ uint32_t bar_planes() const { return bar_inputs() + 32; }
  __device__ __forceinline__ uint32_t bar_seams() const { return bar_inputs() + 48; }
  __device__ __forceinline__ uint32_t bar_read() const { return bar_inputs() + 64; }
};

template <class T, int kLogC, bool kRagged, bool kTail>
__global__ void __launch_bounds__(kThreads, 1)
    cluster_backward(const ClusterBackwardArgs<T> a, const __grid_constant__ CUtensorMap map_p,
                     const __grid_constant__ CUtensorMap map_dy) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  constexpr int kC = 1 << kLogC;
  const SplitShape s = a.shape;
  const int channels = a.dy.channels;
  const int batches = a.dy.batch;
  const uint32_t base = smem_address(smem);
  const uint32_t seams = base + kSeamOffset;
  const uint32_t bar_sums = base + kBarrierOffset + 80;
  const ClusterPlace<kLogC> place{static_cast<int>(cluster_rank())};
  const int clusters = gridDim.x >> kLogC;
  const int first = blockIdx.x >> kLogC;
  auto expect_rows = [&](const HalfBlock& h) {
    mbarrier_expect(h.bar_rows(), kExchangedBytes<kLogC> + 4 * kC);
  };
  auto expect_planes = [&](const HalfBlock& h) {
    mbarrier_expect(h.bar_planes(), kExchangedBytes<kLogC>);
  };
  // The last row of the last block has nothing behind it.
  auto expect_seams = [&](const HalfBlock& h) {
    mbarrier_expect(h.bar_seams(), (h.half + 1) * 8 * (place.rank == kC - 1 ? 31 : 32));
  };
  auto fir_of = [&](uint32_t channel_turn) { return base + kFirOffset + (channel_turn & 1) * 64; };
  // By 14 threads: taps, the factors of the spectrum and of what comes back.
  auto load_channel = [&](int d, uint32_t channel_turn) {
    const int tid = threadIdx.x;
    if (tid >= 14 || d >= channels) return;
    uint32_t value;
    if (tid < 12) {
      const int part = tid < 4 ? 1 : tid < 8 ? 2 : 0;
      value = __float_as_uint(a.conv.value(part * channels + d, tid & 3));
    } else {
      value =
          tid == 12 ? spectrum_factor(a.filter, d) : __float_as_uint(split_unit(a.filter, d, s));
    }
    sts32(fir_of(channel_turn) + 4 * tid, value);
  };

  copy_table(smem + kRadixOffset, a.radix + place.rank * 512, 512, threadIdx.x, kThreads);
  copy_table(smem + kWgmmaOffset, a.tables->wgmma_b, 320, threadIdx.x, kThreads);
  if (threadIdx.x < 3 * kTileRows) sts64(base + kBehindOffset + 8 * threadIdx.x, 0U, 0U);
  load_channel(first, 0);
  {
    const HalfBlock h(base);
    if (h.tid == 0) {
      mbarrier_init(h.bar_inputs(), kRagged ? kClusterThreads : kClusterThreads + 1);
      mbarrier_init(h.bar_rows(), 1);
      mbarrier_init(h.bar_planes(), 1);
      mbarrier_init(h.bar_seams(), 1);
      mbarrier_init(h.bar_read(), kClusterThreads / 32);
      expect_rows(h);
      expect_planes(h);
      expect_seams(h);
      if (h.half == 0) mbarrier_init(bar_sums, 1);
    }
  }
  fence_setup();
  cluster_barrier();

  // Each half fetches what it gates.
  auto load_inputs = [&](const HalfBlock& h, int d, int b, uint32_t turn) {
    if (d >= channels) return;
    if (turn > 1 && (kRagged || h.tid == 0)) mbarrier_wait(h.bar_read(), turn & 1);
    if (!kRagged && h.tid == 0) mbarrier_expect(h.bar_inputs(), 2 * kInputBytes);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t to = h.planes(turn) + i * kInputBytes;
      if (h.half == 1 && i == 1) {
        load_cluster_input<kLogC, kRagged>(a.dy, &map_dy, b, d, place, to, a.wide, h.bar_inputs(),
                                           h.tid);
      } else {
        const int channel = h.half == 0 ? (1 + i) * channels + d : d;
        load_cluster_input<kLogC, kRagged>(a.p, &map_p, b, channel, place, to, a.wide,
                                           h.bar_inputs(), h.tid);
        load_cluster_edge<kLogC>(a.p, b, channel, place, h.edges() + i * kInputBytes, h.tid);
      }
    }
    async_copy_arrive(h.bar_inputs());
  };
  /// z or g, radix 32.
  auto columns = [&](int d, int b, uint32_t turn, uint32_t fir) {
    const int64_t tensor_row = static_cast<int64_t>(b) * channels + d;
    const HalfBlock h(base);
    mbarrier_wait(h.bar_inputs(), turn & 1);
    __syncwarp();
    const ClusterGateAddress gate_at(h.planes(turn), h.edges(), h.warp(), h.lane());
    float z[4][2][4];
    auto starts = [](int) { return false; };
    if (h.half != 0) {
      const Fir f(fir + 32);
      gate_tile<T, false>(z, gate_at, 0, f, f, starts);
    } else {
      gate_tile<T, true>(z, gate_at, 0, Fir(fir), Fir(fir + 16), starts);
    }
    const bool tail = kTail && h.half != 0 && h.warp() == 0 && place.rank == 0;
    TileScale<true>::publish(h.maxima(), z, 5, h.warp(), h.lane(), [&](int i) {
      return tail && i == 0 ? tail_most(TailInMemory{a.tail, tensor_row}) : 0.F;
    });
    h.barrier();  // the inputs are in registers
    const float up = split_scale(tile_exponent(h.maxima()), s);
    uint32_t zb[4][4];
    scaled_operands(zb, z, up);
    radix_columns<kLogC>(
        zb, base + kRadixOffset, ExchangeAddress<>(h.planes(turn), h.warp(), h.lane()).store,
        h.rows() - h.planes(turn), place.rank, h.lane(), [&](float(&x)[4][4], int) {
          if (!tail || (h.lane() & 3) != 0) return;
          const float gain = 0.125F / (1 << ((kLogC + 1) / 2));
          add_tail(x, 0, TailInMemory{a.tail, tensor_row}, up * gain);
          add_tail(x, 1, TailInMemory{a.tail, tensor_row}, up * gain);
        });
    fence_async();
    h.barrier();
  };
  /// By warp 0 of a half: what `columns` left.
  auto send = [&](const HalfBlock& h, uint32_t turn) {
    exchange_slices<kLogC>(h.planes(turn), h.rows(), h.bar_rows(), place.rank, h.lane());
    if (h.lane() < kC)
      remote_store(remote_address(h.exponents() + 4 * place.rank, h.lane()),
                   tile_exponent(h.maxima()), remote_address(h.bar_rows(), h.lane()));
  };

  load_inputs(HalfBlock(base), first, 0, 0);
  columns(first, 0, 0, fir_of(0));
  {
    const HalfBlock h(base);
    if (h.warp() == 0) send(h, 0);
  }
  const uint64_t desc = wgmma_descriptor(base + kWgmmaOffset);
  uint32_t turn = 0;
  uint32_t channel_turn = 0;
  for (int d = first; d < channels; d += clusters, ++channel_turn) {
    load_channel(d + clusters, channel_turn + 1);
    float sum_re[2][8];  // sum over the batch of conj(Z) G for the two rows of this warp
    float sum_im[2][8];
    float par[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum_re[0][i] = sum_re[1][i] = sum_im[0][i] = sum_im[1][i] = 0.F;
      par[i] = 0.F;
    }
    for (int b = 0; b < batches; ++b, ++turn) {
      const uint32_t phase = turn & 1;
      const bool ends_channel = b + 1 == batches;
      const int next_d = ends_channel ? d + clusters : d;
      {
        const HalfBlock h(base);
        if constexpr (kPrefetchRows<kLogC>) {
          const int fresh = fresh_thread_index();
          prefetch_row(a.twists, a.filter, d, WarpRow<kLogC>(fresh >> 5, place).row, s, fresh & 31);
        }
        mbarrier_wait(h.bar_rows(), phase);
        __syncwarp();
        if (h.tid == 0) expect_rows(h);
        load_inputs(h, next_d, ends_channel ? 0 : b + 1, turn + 1);
        const TileFactors<kC> factors(h.exponents());
        if (h.tid == 0) sts32(h.most(), factors.most);
        radix_slices<kLogC>(h.rows(), factors, h.tid);
        __syncthreads();
      }

      // ---- rows: 256 points of one k1 per warp, twice, z and g together
      RowConstants k;  // reloaded, not kept across the wgmma peaks
      auto constants = [&](int lane) { load_row_constants(k, base + kWgmmaOffset + 2560, lane); };
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int fresh = fresh_thread_index();
        const int lane = fresh & 31;
        const WarpRow<kLogC> at((fresh >> 5) + 16 * i, place);
        const uint32_t points = at.points(base + 2 * kExchangeBytes, lane);
        if (kPrefetchRows<kLogC> && i == 0)
          prefetch_row(a.twists, a.filter, d, WarpRow<kLogC>((fresh >> 5) + 16, place).row, s,
                       lane);
        RowData c;
        RowData u;
        float zr[2][4], zi[2][4], gr[2][4], gi[2][4];
        {
          RowData tw;
          load_fragment(tw, a.twists + at.row * 64 + lane);
          constants(lane);
          load_row(c, points);
          load_row(u, points + kSignalBytes);
          row_forward<kHalfRows<kLogC>>(c, tw, k);
          row_forward<kHalfRows<kLogC>>(u, tw, k);
        }
        RowData h;
        load_spectrum(h, a.filter, d, at.row, s, lane);
        wgmma_complex_pair(zr, zi, c.re, c.im, gr, gi, u.re, u.im, desc + kForwardFirst,
                           desc + kForwardSecond);
        constants(lane);
        const float weight = inverse_scale(split_scale(lds32(base + kMostOffset), s)) *
                             inverse_scale(split_scale(lds32(base + kMostOffset + 4), s));
        add_product(sum_re[i], sum_im[i], zr, zi, gr, gi, weight, false);
        shrink(h, lds32(fir_of(channel_turn) + 48));
        row_product<false>(c, zr, zi, h);
        row_product<true>(u, gr, gi, h);
        row_inverse<kHalfRows<kLogC>>(c, k);
        row_inverse<kHalfRows<kLogC>>(u, k);
        RowData tw;
        load_fragment(tw, a.twists + at.row * 64 + lane);
        wgmma_complex_pair(zr, zi, c.re, c.im, gr, gi, u.re, u.im, desc + kInverseFirst,
                           desc + kInverseSecond);
        store_row(zr, zi, tw, points);
        store_row(gr, gi, tw, points + kSignalBytes);
      }
      __syncthreads();
      {
        const HalfBlock h(base);
        radix_slices_back<kLogC>(h.rows(), h.rows() - h.planes(turn), place.rank, h.tid);
        fence_async();
        h.barrier();
        if (h.warp() == 0)
          exchange_slices<kLogC>(h.rows(), h.planes(turn), h.bar_planes(), place.rank, h.lane());
      }

      // ---- columns of the next row, while this one comes back
      const uint32_t fir = fir_of(channel_turn);
      const ClusterGradients<T, kLogC, kRagged> out{{a.dp}, b, place};
      if (next_d < channels)
        columns(next_d, ends_channel ? 0 : b + 1, turn + 1,
                fir_of(ends_channel ? channel_turn + 1 : channel_turn));

      // ---- inverse radix 32, gradients, transposed short convolution
      {
        const HalfBlock h(base);
        const int lane = h.lane();
        const T* const row_a = a.p.row(b, h.half * channels + d);
        const T* const row_b = h.half != 0 ? a.p.row(b, 2 * channels + d) : a.dy.row(b, d);
        InputPair<T, kRagged> next;
        next.load(row_a, row_b, place.time(lane >> 2) + 32 * h.warp() + 4 * (lane & 3), a.dp.length,
                  a.wide, lane);
        const float factor =
            inverse_scale(split_scale(lds32(h.most()), s)) * __uint_as_float(lds32(fir + 52));
        mbarrier_wait(h.bar_planes(), phase);
        __syncwarp();
        if (h.tid == 0) expect_planes(h);
        if (h.warp() == 0 && next_d < channels) send(h, turn + 1);
        const uint32_t operand = ExchangeAddress<>(h.planes(turn), h.warp(), lane).load;
        const uint32_t matrix = base + kRadixOffset + 4096;
        if (h.half != 0) {
          cluster_gradients<T, kLogC, kRagged, kTail, true>(
              operand, matrix, a.tail, next, row_a, row_b, a.wide, fir, fir + 16, factor, out,
              channels, d, par, seams, h.warp(), lane);
        } else {
          if (kTail && place.rank == 0 && h.warp() == 0)
            hand_out_tail(ColumnOperand(operand), matrix, a.tail,
                          static_cast<int64_t>(b) * channels + d, factor, lane);
          cluster_gradients<T, kLogC, kRagged, kTail, false>(
              operand, matrix, a.tail, next, row_a, row_b, a.wide, fir + 32, fir + 32, factor, out,
              channels, d, par, seams, h.warp(), lane);
        }
        __syncwarp();
        if (lane == 0) mbarrier_arrive(h.bar_read());
        h.barrier();  // the seams of this half are complete
      }
      {
        // One thread per [part][warp][row]. What follows a row begins one of the next block, in
        // the first block one row on.
        const HalfBlock h(base);
        const int w = h.warp();
        const int row = h.lane();
        const int to = (place.rank + kC - 1) & (kC - 1);
        const int to_row = place.rank != 0 ? row : row - 1;
        if (w == 0 && to_row >= 0)
          for (int part = h.half; part <= 2 * h.half; ++part)
            remote_store(remote_address(base + kBehindOffset + (part * kTileRows + to_row) * 8, to),
                         lds64(seam<kTileRows>(seams, part, 0, row) + kSeamHalf<kTileRows>),
                         remote_address(h.bar_seams(), to));
        if (w == 7) {
          mbarrier_wait(h.bar_seams(), phase);
          __syncwarp();
          if (row == 0) expect_seams(h);
        }
        for (int part = h.half; part <= 2 * h.half; ++part) {
          uint2 behind =
              lds64(w < 7 ? seam<kTileRows>(seams, part, w + 1, row) + kSeamHalf<kTileRows>
                          : base + kBehindOffset + (part * kTileRows + row) * 8);
          if (kTail && w == 7 && row == 31 && place.rank == kC - 1) {
            const int64_t tensor_row = static_cast<int64_t>(b) * channels + d;
            behind = tail_seam(a.tail, tensor_row, TailInMemory{a.tail, tensor_row}, part,
                               lds64(seam<kTileRows>(seams, part, w, row)));
          }
          finish_seam<T>(out, Fir(fir + (part == 0 ? 32 : 16 * (part - 1))), behind, part,
                         part * channels + d, row, seams, w);
        }
      }
    }

    // ---- S back to dh, through the planes of the last row: those of z as rows
    const uint32_t from = base + ((turn - 1) & 1) * kExchangeBytes;
    const uint32_t planes = from + kSignalBytes;
    const HalfBlock h(base);
    const int lane = h.lane();
    const int warp16 = 8 * h.half + h.warp();
    const int tid = kClusterThreads * h.half + h.tid;
    float largest = 0.F;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int e = 0; e < 8; ++e)
        largest = fmaxf(largest, fmaxf(fabsf(sum_re[i][e]), fabsf(sum_im[i][e])));
    const uint32_t bits = __reduce_max_sync(~0U, __float_as_uint(largest));
    __syncthreads();  // seams are finished: their buffer is free
    if (lane == 0) sts8(h.maxima() + h.warp(), bits >> 23);
    add_parameter_sums(par, reinterpret_cast<float*>(smem + kSeamOffset), tid, [&](int i, float v) {
      cluster_store(
          remote_address(base + kParameterOffset + (place.rank * kParameterSums + i) * 4, 0),
          __float_as_uint(v));
    });
    const uint32_t sum_exponents = base + kExponentOffset + 64;
    if (tid < kC)
      cluster_store(
          remote_address(sum_exponents + 4 * place.rank, tid),
          max(tile_exponent(base + kMaximaOffset), tile_exponent(base + kMaximaOffset + 64)));
    cluster_barrier();  // the planes of the last row are free in all blocks
    if (place.rank == 0 && tid < kParameterSums) {
      float sum = 0.F;
      for (int tau = 0; tau < kC; ++tau)
        sum += __uint_as_float(lds32(base + kParameterOffset + (tau * kParameterSums + tid) * 4));
      store_parameter(a.to, sum, tid, d, channels, a.conv.taps);
    }
    uint32_t most = 0;
    for (int tau = 0; tau < kC; ++tau)
      most = max(most, lds32(sum_exponents + 4 * tau));
    const float scale = split_scale(most, s);
    RowConstants k;
    load_row_constants(k, base + kWgmmaOffset + 2560, lane);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const WarpRow<kLogC> at(warp16 + 16 * i, place);
      RowData x;
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        x.re[q] = pack_half(sum_re[i][2 * q] * scale, sum_re[i][2 * q + 1] * scale);
        x.im[q] = pack_half(sum_im[i][2 * q] * scale, sum_im[i][2 * q + 1] * scale);
      }
      RowData tw;
      load_fragment(tw, a.twists + at.row * 64 + lane);
      float re[2][4];
      float im[2][4];
      row_inverse(x, k);
      wgmma_complex(re, im, x.re, x.im, desc + kInverseFirst, desc + kInverseSecond);
      store_row(re, im, tw, at.points(from, lane));
    }
    __syncthreads();
    if (h.half == 0) {
      if (tid == 0) mbarrier_expect(bar_sums, kExchangedBytes<kLogC>);
      radix_slices_back<kLogC>(from, static_cast<int>(from - planes), place.rank, tid);
      fence_async();
      h.barrier();
      if (tid < 32) exchange_slices<kLogC>(from, planes, bar_sums, place.rank, tid);
      mbarrier_wait(bar_sums, channel_turn & 1);
      __syncwarp();
      const ColumnOperand operand(ExchangeAddress<>(planes, h.warp(), lane).load);
      const float factor = __uint_as_float(static_cast<uint32_t>(127 + s.gain_exponent()) << 23) *
                           inverse_scale(scale);
      float* const dh = a.to.dh_DK + d * a.filter_stride;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float acc[2][2][4];
        operand.multiply(acc, base + kRadixOffset + 4096, i, lane);
#pragma unroll
        for (int r = 0; r < 2; ++r)
#pragma unroll
          for (int q = 0; q < 2; ++q) {
            const int n =
                place.time(16 * i + 8 * r + (lane >> 2)) + 32 * h.warp() + 16 * q + 4 * (lane & 3);
            const float v[4] = {acc[q][0][2 * r] * factor, acc[q][0][2 * r + 1] * factor,
                                acc[q][1][2 * r] * factor, acc[q][1][2 * r + 1] * factor};
            if (n == 0) a.to.dskip_D[d] = v[0];
            store_floats(dh + n, v, a.filter_length - n);
          }
      }
    }
    __syncthreads();  // the planes may take the inputs of the row after the next
  }
  cluster_barrier();  // nobody leaves while its memory is read
#endif
}

template <class T, int kLogC, bool kRagged, bool kTail>
void launch(const ClusterBackwardArgs<T>& a, const CUtensorMap& map_p, const CUtensorMap& map_dy,
            cudaStream_t stream) {
  launch_clusters<cluster_backward<T, kLogC, kRagged, kTail>>(
      1 << kLogC, a.dy.channels, kThreads, kSharedBytes, stream, a, map_p, map_dy);
}

}  // namespace

template <class T>
void launch_cluster_backward(const ClusterBackwardArgs<T>& a, bool ragged, const CUtensorMap& map_p,
                             const CUtensorMap& map_dy, cudaStream_t stream) {
  // Rows without a tail keep the registers that its code costs.
  auto run = [&]<int kLogC, bool kTail>() {
    ragged ? launch<T, kLogC, true, kTail>(a, map_p, map_dy, stream)
           : launch<T, kLogC, false, kTail>(a, map_p, map_dy, stream);
  };
  auto with = [&]<int kLogC>() {
    a.tail.c != nullptr ? run.template operator()<kLogC, true>()
                        : run.template operator()<kLogC, false>();
  };
  switch (a.shape.log_c) {
    case 1:
      return with.template operator()<1>();
    case 2:
      return with.template operator()<2>();
    default:
      return with.template operator()<3>();
  }
}
template void launch_cluster_backward(const ClusterBackwardArgs<__nv_bfloat16>&, bool,
                                      const CUtensorMap&, const CUtensorMap&, cudaStream_t);
template void launch_cluster_backward(const ClusterBackwardArgs<__half>&, bool, const CUtensorMap&,
                                      const CUtensorMap&, cudaStream_t);

}  // namespace hyena::kernels::cuda
