// Long rows, third kernel of the backward: inverse transform over the C rows, then the gradients of
// the short convolutions' inputs and parameters.
//
//   from c:   dq_x0 = dy c                     from du:  dq_x1 = du q_v,  dq_v = du q_x1
//   dp[m] = w2 dq[m] + w1 dq[m+1] + w0 dq[m+2]
//
// Mapping   8 warps per tile, two blocks per SM, tiles in turn (split_analysis.cu). A warp also
//           transforms the first times of the column block to the right of its own, for the last
//           two times of dp.
// Budget    4 (+ 1 to 2 from the L2) and 4 bytes read, 2 or 4 written per point
// Numerics  sums over tiles in fixed order
#include <algorithm>

#include "hyena/kernels/cuda/backward.cuh"
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
constexpr int kNextOffset = kExchangeBytes;       // [re, im][row][16 bytes]
constexpr int kInputOffset = kNextOffset + 8192;  // two inputs
constexpr int kOuterOffset = kInputOffset + 2 * kInputBytes;
constexpr int kRadixOffset = kOuterOffset + 16384;  // radix_t, radix_t_next
constexpr int kEdgeOffset = kRadixOffset + 4096;    // [input][left, right][row]
constexpr int kScratchOffset = kEdgeOffset + 4096;  // 256 bytes
constexpr int kFirOffset = kScratchOffset + 256;
constexpr int kBarrierOffset = kFirOffset + 32;
constexpr int kSharedBytes = kBarrierOffset + 16;

/// What a warp needs of the column block to the right: its first chunk, times 0 and 1 of which are
/// in lanes 4 g.
struct NextBlock {
  uint32_t re[4], im[4];  // sums of kappa and kappa + 16, for even n1 / c; differences, for odd
  uint32_t radix_t;
  /// c or du at output row (i, r), times 0, 1: acc[2 r], acc[2 r + 1].
  __device__ __forceinline__ void multiply(float (&acc)[4], int i, int lane) const {
    uint32_t m[4];
    lds128(m, radix_t + (i * 32 + lane) * 16);
    mma_first(acc, m, re[2 * i], re[2 * i + 1]);
    lds128(m, radix_t + (64 + i * 32 + lane) * 16);
    mma(acc, m, im[2 * i], im[2 * i + 1]);
  }
};

__device__ __forceinline__ void swap_words(uint32_t& x, uint32_t& y) {
  const uint32_t z = x;
  x = y;
  y = z;
}

template <class T, bool kRagged>
struct GradientRows {
  Tensor<T> dp;
  int batch, first_column, columns, block;
  bool wide;

  /// dp of 2 x 4 values of dq (times 16 q + 4 t + j), row n1; `edge`: dq of the two times behind
  /// the block, in lanes 4 g. `seam`: takes the last two of dp unrounded, or null.
  __device__ __forceinline__ void store(const float (&dq)[2][4], const float (&edge)[2],
                                        const Fir& w, int channel, int n1, float* seam,
                                        int lane) const {
    const int t = lane & 3;
    const int source = (lane & 28) | ((t + 1) & 3);
    float next[2][2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      next[0][j] = __shfl_sync(~0U, t != 0 ? dq[0][j] : dq[1][j], source);
      next[1][j] = __shfl_sync(~0U, t != 0 ? dq[1][j] : edge[j], source);
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
      if (q == 1 && t == 3 && seam != nullptr) {
        seam[0] = y[2];
        seam[1] = y[3];
      }
    }
    // Pairs of lanes trade halves: 16-byte stores.
    const bool odd = (t & 1) != 0;
    const uint32_t r0 = __shfl_xor_sync(~0U, odd ? words[0][0] : words[1][0], 1);
    const uint32_t r1 = __shfl_xor_sync(~0U, odd ? words[0][1] : words[1][1], 1);
    const uint4 v = odd ? make_uint4(r0, r1, words[1][0], words[1][1])
                        : make_uint4(words[0][0], words[0][1], r0, r1);
    const int n = n1 * columns + first_column + 32 * block + (t & 1) * 16 + (t >> 1) * 8;
    T* to = dp.row(batch, channel) + n;
    if (kRagged) {
      store4(to, v.x, v.y, dp.length - n, wide);
      store4(to + 4, v.z, v.w, dp.length - n - 4, wide);
    } else {
      *reinterpret_cast<uint4*>(to) = v;
    }
  }
};

template <class T, bool kDu, bool kRagged>
__global__ void __launch_bounds__(kThreads, 2)
    split_gradients(const SplitGradientArgs<T> a, const __grid_constant__ CUtensorMap map_a,
                    const __grid_constant__ CUtensorMap map_b,
                    const __grid_constant__ CUtensorMap map_scratch,
                    const __grid_constant__ CUtensorMap map_next) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  using E = Element<T>;
  const SplitShape s = a.shape;
  const int tid = threadIdx.x;
  const int warp = tid >> 5;
  const int lane = tid & 31;
  const int g = lane >> 2;
  const int t = lane & 3;
  const int c = 1 << s.log_c;
  const uint32_t base = smem_address(smem);
  const uint32_t inputs = base + kInputOffset;
  const uint32_t edges = base + kEdgeOffset;
  const uint32_t bar = base + kBarrierOffset;
  const int channels = a.dp.channels / 3;
  const int tiles = 1 << s.log_tiles();
  const int total = (channels * a.dp.batch) << s.log_tiles();
  const int step = gridDim.x;

  copy_table(smem + kOuterOffset, a.filter.tables->outer, 1024, tid, kThreads);
  copy_table(smem + kRadixOffset, a.filter.tables->radix_t, 256, tid, kThreads);
  if (tid == 0) {
    mbarrier_init(bar, 1);
    mbarrier_init(bar + 8, kRagged ? kThreads : kThreads + 1);
  }
  fence_setup();
  __syncthreads();

  const int last_block = s.columns() / 32 - 1;
  const int edge_row = OutputEdges<-1>::row(tid, s.log_c);
  auto load_planes = [&](int item) {  // by thread 0
    if (item >= total) return;
    const SplitPlace at(item, s, a.dp.batch);
    load_split_planes(base, &map_scratch, at, s, bar, 32 * s.rows());
    int block = (at.first_column + s.tile_columns()) >> 5;  // to the right of the tile
    if (block > last_block) block = 0;                      // of the next n1
    for (int plane = 0; plane < 2; ++plane)
      tensor_load(base + kNextOffset + plane * 16 * s.rows(), &map_next,
                  4 * (block_position(block) + 8 * plane) + block_twist(block), block >> 3, 0,
                  at.row, bar);
  };
  auto load_inputs = [&](int item) {
    if (item >= total) return;
    const SplitPlace at(item, s, a.dp.batch);
    const int channel_a = a.part_a * channels + at.channel;
    const int channel_b = a.part_b * channels + at.channel;
    if (!kRagged && tid == 0) mbarrier_expect(bar + 8, 2 * kInputBytes);
    load_split_input<kRagged>(a.a, &map_a, at, channel_a, inputs, s, a.wide, bar + 8, tid);
    load_split_input<kRagged>(a.b, &map_b, at, channel_b, inputs + kInputBytes, s, a.wide, bar + 8,
                              tid);
    load_split_edge(a.a, at, channel_a, edges, s, edge_row, -2, tid);
    load_split_edge(a.b, at, channel_b, edges + 2048, s, edge_row, -2, tid);
    load_split_edge(a.a, at, channel_a, edges + 1024, s, edge_row, s.tile_columns(), tid);
    load_split_edge(a.b, at, channel_b, edges + 3072, s, edge_row, s.tile_columns(), tid);
    if (tid < 8)
      load_fir(base + kFirOffset + (tid & 4) * 4, a.conv, kDu && tid >= 4 ? channel_b : channel_a,
               tid & 3);
    async_copy_arrive(bar + 8);
  };

  const SplitOutputAddress in(inputs, s.log_c, warp, lane);
  int item = blockIdx.x;
  if (tid == 0) load_planes(item);
  load_inputs(item);
  for (int turn = 0; item < total; item += step, ++turn) {
    float par[8] = {};
    const SplitPlace at(item, s, a.dp.batch);
    const int channel_a = a.part_a * channels + at.channel;
    const int channel_b = a.part_b * channels + at.channel;
    const uint32_t exponent =
        row_exponent(a.exponents + static_cast<int64_t>(at.row) * tiles, tiles, lane);
    const float factor =
        inverse_scale(split_scale(exponent, s)) * split_unit(a.filter, at.channel, s);
    mbarrier_wait(bar, turn & 1);
    outer_radix<true>(base, base + kOuterOffset, s.log_c, warp, lane);
    for (int group = warp; group < 2 * c; group += 8) {  // the chunk to the right
      const uint32_t from =
          base + kNextOffset + (lane >> 4) * 16 * s.rows() + (16 * group + (lane & 15)) * 16;
      uint32_t words[4];
      ldmatrix_trans(words, from);
      const uint32_t x[2][2] = {{words[0], words[1]}, {words[2], words[3]}};
      uint32_t mr[4];
      uint32_t mi[4];
      outer_matrix<true>(mr, mi, base + kOuterOffset, group, lane);
      float out[2][1][4];
      outer_product<1>(out, mr, mi, x);
      stmatrix(from, pack_half(out[0][0][0], out[0][0][1]), pack_half(out[0][0][2], out[0][0][3]),
               pack_half(out[1][0][0], out[1][0][1]), pack_half(out[1][0][2], out[1][0][3]));
    }
    __syncthreads();
    const int local_block = warp >> s.log_c;
    const int block = (at.first_column >> 5) + local_block;
    const InverseOperand<true> operand(split_load_address(base, block, s.log_c, warp, lane));
    NextBlock next;
    {
      const bool wraps = block == last_block;
      const int b = (warp + (wraps ? 1 : 0)) & (c - 1);
      const bool shifted = wraps && b == 0;  // n1 / c changes its parity
      next.radix_t = base + kRadixOffset + (shifted ? 2048 : 0);
      const int row = (lane << s.log_c) + ((b ^ lane) & (c - 1));
      const bool inside = local_block + 1 < (8 >> s.log_c);
      const uint32_t from = inside ? split_load_address(base, block + 1, s.log_c, warp + c, lane)
                                   : base + kNextOffset + row * 16;
      ldmatrix_trans(next.re, from);
      ldmatrix_trans(next.im, from + (inside ? kPlaneBytes : 16 * s.rows()));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        butterfly(next.re[i], next.re[2 + i]);
        butterfly(next.im[i], next.im[2 + i]);
        if (shifted) {
          swap_words(next.re[i], next.re[2 + i]);
          swap_words(next.im[i], next.im[2 + i]);
        }
      }
    }
    uint4 radix_t[2][2];
    load_radix_t(radix_t, base + kRadixOffset, lane);
    mbarrier_wait(bar + 8, turn & 1);
    fence_async();
    __syncthreads();  // planes are in registers
    if (tid == 0) load_planes(item + step);
    const GradientRows<T, kRagged> out{a.dp,        at.batch,    at.first_column,
                                       s.columns(), local_block, a.wide};
    const Fir fa(base + kFirOffset);
    const Fir fb(base + kFirOffset + 16);
    const OutputEdges<-1> left_a(inputs, edges, s.log_c, warp, lane);
    const OutputEdges<1> right_a(inputs, edges + 1024, s.log_c, warp, lane);
    const OutputEdges<-1> left_b(inputs + kInputBytes, edges + 2048, s.log_c, warp, lane);
    const OutputEdges<1> right_b(inputs + kInputBytes, edges + 3072, s.log_c, warp, lane);
    const int64_t tensor_row = static_cast<int64_t>(at.batch) * channels + at.channel;
    if (!kDu && a.tail.c != nullptr && at.first_column == 0 && warp == 0)
      hand_out_tail(operand, radix_t, a.tail, tensor_row, factor, lane);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float acc[2][2][4];
      operand.multiply(acc, radix_t, i);
      float edge_acc[4];
      next.multiply(edge_acc, i, lane);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int n1 = SplitOutputAddress::row(i, r, g, s.log_c, warp);
        const int n0 = n1 * s.columns() + 32 * block;
        float da[2][4];
        float db[2][4];
        const uint2 xa[2] = {lds64(in.times(i, r, 0)), lds64(in.times(i, r, 1))};
        const uint2 xb[2] = {lds64(in.times(i, r, 0) + kInputBytes),
                             lds64(in.times(i, r, 1) + kInputBytes)};
        uint32_t before_a[2];
        uint32_t before_b[2] = {0, 0};
        times_before(before_a, xa, left_a.word[i][r], lane);
        if (kDu) times_before(before_b, xb, left_b.word[i][r], lane);
#pragma unroll
        for (int q = 0; q < 2; ++q) {
          float u[6];
          widen<T>(u, before_a[q], xa[q]);
          float v[6];
          widen<T>(v, before_b[q], xb[q]);
          float d[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            d[j] = acc[q][j >> 1][2 * r + (j & 1)] * factor;
            if (kRagged && n0 + 16 * q + 4 * t + j >= a.dp.length) d[j] = 0.F;
          }
          if (kDu && a.tail.c != nullptr && n0 + 16 * q + 4 * t < kTailMax)
            add_tail_gradient(d, TailInMemory{a.tail, tensor_row}, t);
          input_gradients<kDu>(da[q], db[q], d, u, v, fa, fb, par);
        }
        // dq of the two times behind the block, meant for lanes t = 0
        float edge_a[2];
        float edge_b[2];
        {
          const int end = lane | 3;  // has the block's own last two times
          const uint32_t own_a = __shfl_sync(~0U, xa[1].y, end);
          const uint32_t own_b = __shfl_sync(~0U, xb[1].y, end);
          const float u[4] = {E::lo(own_a), E::hi(own_a), E::lo(right_a.word[i][r]),
                              E::hi(right_a.word[i][r])};
          const float v[4] = {E::lo(own_b), E::hi(own_b), E::lo(right_b.word[i][r]),
                              E::hi(right_b.word[i][r])};
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            float d = edge_acc[2 * r + j] * factor;
            if (n0 + 32 + j >= a.dp.length) d = 0.F;
            edge_a[j] = d * (kDu ? fb(v + j) : v[j + 2]);
            edge_b[j] = d * fa(u + j);
          }
        }
        float* seam = nullptr;
        if (a.tail.c != nullptr && n0 + 32 == s.columns() * s.rows()) {
          if (kDu) {
            const float* dq = a.tail.dq + tensor_row * 4;
#pragma unroll
            for (int j = 0; j < 2; ++j) {
              edge_a[j] = __ldg(dq + j);
              edge_b[j] = __ldg(dq + 2 + j);
            }
          } else {
            seam = a.tail.seam + tensor_row * 2;
          }
        }
        out.store(da, edge_a, fa, channel_a, n1, seam, lane);
        if (kDu) out.store(db, edge_b, fb, channel_b, n1, nullptr, lane);
      }
    }
    __syncthreads();  // inputs are used up
    load_inputs(item + step);
    auto* scratch = reinterpret_cast<float*>(smem + kScratchOffset);
#pragma unroll
    for (int i = 0; i < (kDu ? 8 : 4); ++i) {
#pragma unroll
      for (int o = 16; o != 0; o >>= 1)
        par[i] += __shfl_xor_sync(~0U, par[i], o);
      if (lane == 0) scratch[warp * 8 + i] = par[i];
    }
    __syncthreads();
    if (tid < (kDu ? 8 : 4)) {
      float sum = 0.F;
      for (int w = 0; w < 8; ++w)
        sum += scratch[w * 8 + tid];
      a.parameter_sums[static_cast<int64_t>(item) * kParameterSums + (kDu ? 4 : 0) + tid] = sum;
    }
  }
#endif
}

template <class T, bool kDu, bool kRagged>
void launch(const SplitGradientArgs<T>& a, int multiprocessors, const CUtensorMap& map_a,
            const CUtensorMap& map_b, const CUtensorMap& map_scratch, const CUtensorMap& map_next,
            cudaStream_t stream) {
  allow_shared_memory<split_gradients<T, kDu, kRagged>>(kSharedBytes);
  split_gradients<T, kDu, kRagged><<<2 * multiprocessors, kThreads, kSharedBytes, stream>>>(
      a, map_a, map_b, map_scratch, map_next);
  check(cudaGetLastError(), "launch of the mixer's gradient kernel");
}

}  // namespace

template <class T>
void launch_split_gradients(const SplitGradientArgs<T>& a, bool from_du, bool ragged,
                            int multiprocessors, const CUtensorMap& map_a, const CUtensorMap& map_b,
                            const CUtensorMap& map_scratch, const CUtensorMap& map_next,
                            cudaStream_t stream) {
  auto run = [&]<bool kDu>() {
    ragged ? launch<T, kDu, true>(a, multiprocessors, map_a, map_b, map_scratch, map_next, stream)
           : launch<T, kDu, false>(a, multiprocessors, map_a, map_b, map_scratch, map_next, stream);
  };
  from_du ? run.template operator()<true>() : run.template operator()<false>();
}
template void launch_split_gradients(const SplitGradientArgs<__nv_bfloat16>&, bool, bool, int,
                                     const CUtensorMap&, const CUtensorMap&, const CUtensorMap&,
                                     const CUtensorMap&, cudaStream_t);
template void launch_split_gradients(const SplitGradientArgs<__half>&, bool, bool, int,
                                     const CUtensorMap&, const CUtensorMap&, const CUtensorMap&,
                                     const CUtensorMap&, cudaStream_t);

}  // namespace hyena::kernels::cuda
