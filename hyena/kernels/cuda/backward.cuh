// Last phase of the backward: from c and du to the gradients of the short convolutions' inputs.
//
//   dq_x0 = dy c,  dq_x1 = du q_v,  dq_v = du q_x1
//   dp[m] = w2 dq[m] + w1 dq[m+1] + w0 dq[m+2]                 (transposed short convolution)
//
// Right neighbours come from the next lane; the last two of a warp's 32 times lack theirs: the warp
// leaves partial sums and its own first two dq in the seam buffer, which is finished after a
// barrier of the half-block.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/column.cuh"
#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/tail.cuh"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

// float2 of [part][segment of 32 times][row]: partial sums, then the first two dq.
template <int kRows>
constexpr int kSeamHalf = 3 * 8 * kRows * 8;
template <int kRows>
constexpr int kSeamBytes = 2 * kSeamHalf<kRows>;

template <int kRows>
__device__ __forceinline__ uint32_t seam(uint32_t buffer, int part, int segment, int row) {
  return buffer + ((part * 8 + segment) * kRows + row) * 8;
}

/// Where gradients go: elements n .. of a row, as many as exist.
template <class T, bool kRagged>
struct GradientWriter {
  Tensor<T> dp;
  __device__ __forceinline__ void put8(int batch, int channel, int n, uint4 v) const {
    T* to = dp.row(batch, channel) + n;
    if (kRagged) {
      store4(to, v.x, v.y, dp.length - n, false);
      store4(to + 4, v.z, v.w, dp.length - n - 4, false);
    } else {
      __stcs(reinterpret_cast<uint4*>(to), v);  // not read again: leaves the L2 to the inputs
    }
  }
  __device__ __forceinline__ void put2(int batch, int channel, int n, uint32_t v) const {
    T* to = dp.row(batch, channel) + n;
    if (kRagged) {
      store4(to, v, 0U, min(dp.length - n, 2), false);
    } else {
      *reinterpret_cast<uint32_t*>(to) = v;
    }
  }
};

/// ... of a tile of batch rows from b0.
template <class T, bool kFull, bool kRagged>
struct GradientTile : GradientWriter<T, kRagged> {
  static constexpr int kRows = Tile<kFull>::kRows;
  int b0, log_n1;

  __device__ __forceinline__ int batch(int row) const { return b0 + (row >> log_n1); }
  __device__ __forceinline__ int time(int row) const { return (row & ((1 << log_n1) - 1)) * 256; }
  /// Whether a batch row begins, or ends, in this row of the tile.
  __device__ __forceinline__ bool starts(int row) const {
    return time(row) == 0 && batch(row) < this->dp.batch;
  }
  __device__ __forceinline__ bool ends(int row) const {
    return ((row + 1) & ((1 << log_n1) - 1)) == 0 && batch(row) < this->dp.batch;
  }
  __device__ __forceinline__ void store8(int channel, int row, int offset, uint4 v) const {
    if (kFull || batch(row) < this->dp.batch)
      this->put8(batch(row), channel, time(row) + offset, v);
  }
  __device__ __forceinline__ void store2(int channel, int row, int offset, uint32_t v) const {
    if (kFull || batch(row) < this->dp.batch)
      this->put2(batch(row), channel, time(row) + offset, v);
  }
};

/// dp of 2 x 4 values of dq (times 16 q + 4 t + j of 32), row `row`.
template <class T, class Out>
__device__ __forceinline__ void transposed_fir(const Out& out, const float (&dq)[2][4],
                                               const Fir& w, int part, int channel, int row,
                                               uint32_t seams, int segment, int lane) {
  const int t = lane & 3;
  float next[2][2];
  const int source = (lane & 28) | ((t + 1) & 3);
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    next[0][j] = __shfl_sync(~0U, t != 0 ? dq[0][j] : dq[1][j], source);
    next[1][j] = __shfl_sync(~0U, dq[1][j], source);
    if (t == 3) next[1][j] = 0.F;
  }
  uint32_t words[2][2];
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    const float e[6] = {dq[q][0], dq[q][1], dq[q][2], dq[q][3], next[q][0], next[q][1]};
    float y[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      y[j] = fmaf(w.w0, e[j + 2], fmaf(w.w1, e[j + 1], w.w2 * e[j]));
    words[q][0] = Element<T>::pack(y[0], y[1]);
    words[q][1] = Element<T>::pack(y[2], y[3]);
    if (q == 1 && t == 3)
      sts64(seam<Out::kRows>(seams, part, segment, row), __float_as_uint(y[2]),
            __float_as_uint(y[3]));
  }
  if (t == 0)
    sts64(seam<Out::kRows>(seams, part, segment, row) + kSeamHalf<Out::kRows>,
          __float_as_uint(dq[0][0]), __float_as_uint(dq[0][1]));
  // Pairs of lanes trade halves: 16-byte stores. The seam's two times are overwritten later.
  const bool odd = (t & 1) != 0;
  const uint32_t r0 = __shfl_xor_sync(~0U, odd ? words[0][0] : words[1][0], 1);
  const uint32_t r1 = __shfl_xor_sync(~0U, odd ? words[0][1] : words[1][1], 1);
  out.store8(channel, row, 32 * segment + (t & 1) * 16 + (t >> 1) * 8,
             odd ? make_uint4(r0, r1, words[1][0], words[1][1])
                 : make_uint4(words[0][0], words[0][1], r0, r1));
}

/// dq of four adjacent times from d, the gradient of c or du there, and the inputs a, b with two
/// times before them: da = d q_b (kDu) or d b, db = d q_a. `par` accumulates sum dq p (3 taps) and
/// sum dq of one or two channels.
template <bool kDu>
__device__ __forceinline__ void input_gradients(float (&da)[4], float (&db)[4], const float (&d)[4],
                                                const float (&a)[6], const float (&b)[6],
                                                const Fir& fa, const Fir& fb, float (&par)[8]) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    da[j] = d[j] * (kDu ? fb(b + j) : b[j + 2]);
    if (kDu) {
      db[j] = d[j] * fa(a + j);
      par[4] = fmaf(db[j], b[j], par[4]);
      par[5] = fmaf(db[j], b[j + 1], par[5]);
      par[6] = fmaf(db[j], b[j + 2], par[6]);
      par[7] += db[j];
    }
    par[0] = fmaf(da[j], a[j], par[0]);
    par[1] = fmaf(da[j], a[j + 1], par[1]);
    par[2] = fmaf(da[j], a[j + 2], par[2]);
    par[3] += da[j];
  }
}

/// The last two times of every warp's 32 in row `row`, whose partial sums wait in the seams, with
/// dq of the two times behind them.
template <class T, class Out>
__device__ __forceinline__ void finish_seam(const Out& out, const Fir& f, uint2 behind, int part,
                                            int channel, int row, uint32_t seams, int segment) {
  const uint2 partial = lds64(seam<Out::kRows>(seams, part, segment, row));
  const float n0 = __uint_as_float(behind.x);
  const float n1 = __uint_as_float(behind.y);
  const float y0 = fmaf(f.w0, n0, __uint_as_float(partial.x));
  const float y1 = fmaf(f.w0, n1, fmaf(f.w1, n0, __uint_as_float(partial.y)));
  out.store2(channel, row, 32 * segment + 30, Element<T>::pack(y0, y1));
}

/// The whole last phase of one half-block: half 0 makes dq_x0 from c, half 1 dq_x1 and dq_v from
/// du.
/// `tails`: rows of the tile in shared memory (kTail). `in`: the pair of inputs (x0, dy) or (x1,
/// v), plus `offset`. `down(r)`: factor of c or du.
template <class T, bool kFull, bool kRagged, bool kTail, bool kDu, class Down>
__device__ __forceinline__ void gate_gradients(
    const StepOperands<kFull>& operands, uint4 (&radix_t)[2][2], const Tables* tables,
    uint32_t tails, const OutputAddress<kFull>& in, uint32_t offset, uint32_t fir_a, uint32_t fir_b,
    Down down, const GradientTile<T, kFull, kRagged>& out, int channels, int channel,
    float (&par)[8], uint32_t seams, int warp, int lane) {
  using In = OutputAddress<kFull>;
  const int g = lane >> 2;
  const int t = lane & 3;
  auto step = [&](const InverseOperand<kFull>& operand, int i) {
    float acc[2][2][4];
    operand.multiply(acc, radix_t, i);
    const int segment = Tile<kFull>::segment(warp, i);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = In::row(i, r, g);
      const Fir fa(fir_a);
      const Fir fb(kDu ? fir_b : fir_a);
      const float factor = down(r);
      float da[2][4];
      float db[2][4];
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        const bool edge = q == 0 && In::starts(i, r, out.log_n1, warp, lane);
        const uint2 xa = lds64(in.times(i, r, q) + offset);
        const uint2 xb = lds64(in.times(i, r, q) + offset + In::kInputBytes);
        uint32_t ha = lds32(in.halo(i, r, q) + offset);
        if (edge) ha = 0U;
        float a[6];
        widen<T>(a, ha, xa);
        float d[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          d[j] = acc[q][j >> 1][2 * r + (j & 1)] * factor;
          if (kRagged && out.time(row) + 32 * segment + 16 * q + 4 * t + j >= out.dp.length)
            d[j] = 0.F;
        }
        if (kTail && kDu && q == 0 && segment == 0 && t < 2 && out.starts(row))
          add_tail_gradient(d, TailInShared(tails, row >> out.log_n1), t);
        uint32_t hb = 0;
        if (kDu) {
          hb = lds32(in.halo(i, r, q) + offset + In::kInputBytes);
          if (edge) hb = 0U;
        }
        float b[6];
        widen<T>(b, hb, xb);
        input_gradients<kDu>(da[q], db[q], d, a, b, fa, fb, par);
      }
      constexpr int kPart = kDu ? 1 : 0;
      transposed_fir<T>(out, da, fa, kPart, kPart * channels + channel, row, seams, segment, lane);
      if (kDu) transposed_fir<T>(out, db, fb, 2, 2 * channels + channel, row, seams, segment, lane);
    }
  };
  if constexpr (kFull) {
    step(operands(0), 0);
    step(operands(1), 1);
  } else {
    // Two blocks share the instruction cache out of step: with this unrolled, 1.07 of 7.9 warps
    // wait for instructions, .14 as it is (2K, 2026-11-28, H100).
#pragma unroll 1
    for (int i = 0; i < 2; ++i) {
      load_inverse_matrix<false>(radix_t, tables, warp, i, lane);
      step(operands(i), i);
    }
  }
}

/// Partial sums of one block over its share of a channel: short-conv gradients [x0, x1, v][taps,
/// bias], and (fused kernels) the spectrum of dh in fragment order.
constexpr int kParameterSums = 12;

/// Sums `par` over the warps in fixed order: store(i, sum), i < kParameterSums. All warps of two
/// halves of kWarps; `scratch`: 512 bytes of shared memory that nobody else uses until the next
/// barrier.
template <int kWarps = 8, class Store>
__device__ __forceinline__ void add_parameter_sums(float (&par)[8], float* scratch, int tid,
                                                   Store store) {
#pragma unroll
  for (int i = 0; i < 8; ++i)
#pragma unroll
    for (int o = 16; o != 0; o >>= 1)
      par[i] += __shfl_xor_sync(~0U, par[i], o);
  __syncthreads();
  if ((tid & 31) == 0)
#pragma unroll
    for (int i = 0; i < 8; ++i)
      scratch[(tid >> 5) * 8 + i] = par[i];
  __syncthreads();
  if (tid < kParameterSums) {
    float sum = 0.F;
    for (int w = 0; w < kWarps; ++w)
      sum += scratch[(tid < 4 ? w : kWarps + w) * 8 + (tid < 4 ? tid : tid - 4)];
    store(tid, sum);
  }
}

}  // namespace hyena::kernels::cuda
