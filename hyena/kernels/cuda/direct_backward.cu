// Fused Hyena mixer with a short filter, backward.
//
//   g = dy q_x0;  du = transposed conv(g, h) + skip g;  c as in the forward
//   dq_x0 = dy c,  dq_x1 = du q_v,  dq_v = du q_x1;  dp = transposed short conv(dq)
//   dh[k] = sum g[t] z[t - k];  gradients of the short convolutions: sums dq p, dq
//
// Shapes    as in direct_forward.cu; dy (B, D, L), dp (B, 3D, L)
// Method    c and du are Toeplitz products (direct.cuh). dh: M_j[r][s] = sum_i g[16 i + r]
//           z[16 (i - j) + s] on the tensor cores, diagonals 16 j + r - s summed once per channel
// Mapping   a warp owns a tile: one row, kPieces x 128 times; it gates kHalo pieces before (z) and
//           behind (g) again, and two times more, because dp reads two dq behind. Eight warps of a
//           block take eight tiles of a channel; for dh warp w takes j = w, w + 8, .. of all eight.
//           One barrier per eight tiles: buffers of z and g take turns, the next eight are asked of
//           the L2. Blocks own contiguous ranges of (channel, eight tiles) and leave their shares
//           of a channel in slots.
// Budget    14 bytes per element; floor = bytes / measured copy rate
// Registers 128 (65,536 / 512)
// Numerics  z, g and h are rounded to fp16 once, float32 accumulation; dh adds tiles in units of
//           the loudest so far. Bits of dp depend on the row and the parameters alone.
// Bounds    any B, D, L; K <= 128 kHalo; rows 4-byte aligned, fastest 8
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp against float64
#include <algorithm>

#include "hyena/kernels/cuda/direct.h"
#include "hyena/kernels/cuda/direct_backward.cuh"
#include "hyena/kernels/cuda/slots.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kBlocksPerSm = 2;
static_assert(kWarps == kPieceBlocks, "the blocks of lags of a piece go to the warps");
static_assert(kThreads >= kDirectTaps, "one thread per lag at the end of a channel");

/// Bytes of a plane of z or g: the window, a block for two times behind it, and what the rows
/// beside that block read.
template <int kPieces, int kHalo>
constexpr int kPlane = (kHalo + kPieces + 2) * kPieceBytes;

template <int kPieces, int kHalo>
struct Shared {
  unsigned char z[2][kWarps][2 * kPlane<kPieces, kHalo>];  // from kHalo pieces before the tile
  unsigned char g[2][kWarps][2 * kPlane<kPieces, kHalo>];  // from the tile's first time
  int unit[2][kWarps];                                     // of products of g and z: log2
  float products[(kHalo * kPieceBlocks + 1) * kBlock * kBlock];
  float parameters[kWarps][kParameterSums];
};

template <class T>
struct DirectBackwardArgs {
  Tensor<const T> p;
  Tensor<const T> dy;
  Tensor<T> dp;
  ShortConv conv;
  DirectFilter filter;
  float* filter_sums;     // [channels + blocks][taps]
  float* parameter_sums;  // [channels + blocks][kParameterSums]
  int taps, blocks;       // of the filter: lags, blocks of lags
  int tiles;              // of a row
  bool wide, bulk;        // rows are 8-byte, 16-byte aligned
};

/// log2(1 / scale) of a power of two.
__device__ __forceinline__ int log2_inverse(float scale) {
  return 127 - (__float_as_int(scale) >> 23);
}

/// A tile's inputs as they came, of the tile alone, and what the two times behind it need.
template <int kPieces>
struct TileInputs {
  uint2 x1[kPieces], v[kPieces], x0[kPieces], dy[kPieces];
  uint32_t x1_before, v_before, x0_before;  // two times before, as lane 31 has them
  uint32_t dy_behind;                       // two times behind
  float q1_behind[2], qv_behind[2];
  float z_scale, g_scale;
};

/// Gates z and g of a tile into the warp's buffers.
template <class T, int kPieces, int kHalo>
__device__ __forceinline__ void gate(TileInputs<kPieces>& in, const DirectBackwardArgs<T>& a, int b,
                                     int d, int begin, const Coefficients& coefficients, uint32_t z,
                                     uint32_t g, int lane) {
  constexpr int kWindow = kHalo + kPieces;
  constexpr int kTile = kPieces * kPiece;
  const int length = a.dy.length;
  const int channels = a.dy.channels;
  const bool plain = a.wide && begin + kTile <= length;
  const bool behind = begin + kTile < length;
  const bool plain_behind = a.wide && begin + kTile + kHalo * kPiece <= length;
  const RowReader<T> x1{a.p.row(b, channels + d), length};
  const RowReader<T> v{a.p.row(b, 2 * channels + d), length};
  const RowReader<T> x0{a.p.row(b, d), length};
  const RowReader<T> dy{a.dy.row(b, d), length};
  constexpr int kPlaneBytes = kPlane<kPieces, kHalo>;
  z += 4 * lane;
  g += 4 * lane;

  uint2 halo_a[kHalo];
  uint2 halo_b[kHalo];
  uint32_t first_a = 0U;
  uint32_t first_b = 0U;
  x1.template pieces<kPieces>(in.x1, begin, plain, lane);
  v.template pieces<kPieces>(in.v, begin, plain, lane);
  if (begin > 0) {
    x1.template pieces<kHalo>(halo_a, begin - kHalo * kPiece, a.wide, lane);
    v.template pieces<kHalo>(halo_b, begin - kHalo * kPiece, a.wide, lane);
    first_a = x1.pair(begin - kHalo * kPiece - 2);
    first_b = v.pair(begin - kHalo * kPiece - 2);
  } else {
#pragma unroll
    for (int i = 0; i < kHalo; ++i)
      halo_a[i] = halo_b[i] = make_uint2(0U, 0U);
  }
  const uint32_t x1_behind = x1.pair(begin + kTile);
  const uint32_t v_behind = v.pair(begin + kTile);

  float most = 0.F;
  {
    const Fir fa = coefficients.fir(1);
    const Fir fb = coefficients.fir(2);
    float value[kWindow][4];
#pragma unroll
    for (int i = 0; i < kWindow; ++i) {
      const uint2 xa = i < kHalo ? halo_a[i] : in.x1[i - kHalo];
      const uint2 xb = i < kHalo ? halo_b[i] : in.v[i - kHalo];
      float q[4];
      short_conv<T>(value[i], two_before(xa.y, first_a, lane), xa, fa);
      short_conv<T>(q, two_before(xb.y, first_b, lane), xb, fb);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        value[i][j] *= q[j];
        if (i < kHalo && begin == 0) value[i][j] = 0.F;  // no bias before the row
        most = fmaxf(most, fabsf(value[i][j]));
      }
      first_a = xa.y;
      first_b = xb.y;
      if (i == kHalo - 1) {
        in.x1_before = first_a;
        in.v_before = first_b;
      }
    }
    short_conv_behind<T>(in.q1_behind, first_a, x1_behind, fa);
    short_conv_behind<T>(in.qv_behind, first_b, v_behind, fb);
    float last[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      last[j] = behind ? in.q1_behind[j] * in.qv_behind[j] : 0.F;
      most = fmaxf(most, fabsf(last[j]));
    }
    // Asked for only here, because registers are few.
    x0.template pieces<kPieces>(in.x0, begin, plain, lane);
    dy.template pieces<kPieces>(in.dy, begin, plain, lane);
    in.x0_before = x0.pair(begin - 2);
    in.z_scale = warp_scale(most);
#pragma unroll
    for (int i = 0; i < kWindow; ++i)
      store_halves(z + i * kPieceBytes, kPlaneBytes, value[i], in.z_scale);
    const float pad[4] = {lane == 0 ? last[0] : 0.F, lane == 0 ? last[1] : 0.F, 0.F, 0.F};
    if (lane < 4) store_halves(z + kWindow * kPieceBytes, kPlaneBytes, pad, in.z_scale);
  }

  {
    const Fir f0 = coefficients.fir(0);
    const uint32_t x0_last = x0.pair(begin + kTile + kHalo * kPiece);
    const uint32_t dy_last = dy.pair(begin + kTile + kHalo * kPiece);
    if (behind) {
      x0.template pieces<kHalo>(halo_a, begin + kTile, plain_behind, lane);
      dy.template pieces<kHalo>(halo_b, begin + kTile, plain_behind, lane);
    } else {
#pragma unroll
      for (int i = 0; i < kHalo; ++i)
        halo_a[i] = halo_b[i] = make_uint2(0U, 0U);
    }
    in.dy_behind = halo_b[0].x;
    float value[kWindow][4];
    uint32_t before = in.x0_before;
    most = 0.F;
#pragma unroll
    for (int i = 0; i < kWindow; ++i) {
      const uint2 x = i < kPieces ? in.x0[i] : halo_a[i - kPieces];
      const uint2 y = i < kPieces ? in.dy[i] : halo_b[i - kPieces];
      short_conv<T>(value[i], two_before(x.y, before, lane), x, f0);
      before = x.y;
      using E = Element<T>;
      const float factor[4] = {E::lo(y.x), E::hi(y.x), E::lo(y.y), E::hi(y.y)};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        value[i][j] *= factor[j];
        most = fmaxf(most, fabsf(value[i][j]));
      }
    }
    float last[2];
    short_conv_behind<T>(last, before, x0_last, f0);
    last[0] *= Element<T>::lo(dy_last);
    last[1] *= Element<T>::hi(dy_last);
    most = fmaxf(most, fmaxf(fabsf(last[0]), fabsf(last[1])));
    in.g_scale = warp_scale(most);
#pragma unroll
    for (int i = 0; i < kWindow; ++i)
      store_halves(g + i * kPieceBytes, kPlaneBytes, value[i], in.g_scale);
    const float pad[4] = {lane == 0 ? last[0] : 0.F, lane == 0 ? last[1] : 0.F, 0.F, 0.F};
    if (lane < 4) store_halves(g + kWindow * kPieceBytes, kPlaneBytes, pad, in.g_scale);
  }
}

/// dp of a tile, and its share of the parameters' gradients.
template <class T, int kPieces, int kHalo>
__device__ __forceinline__ void input_gradients_of(const TileInputs<kPieces>& in,
                                                   const DirectBackwardArgs<T>& a, int b, int d,
                                                   int begin, const Coefficients& coefficients,
                                                   float unit, uint32_t z, uint32_t g,
                                                   float (&par)[3][4], int lane) {
  using E = Element<T>;
  constexpr int kTile = kPieces * kPiece;
  const int channels = a.dy.channels;
  const bool plain = a.wide && begin + kTile <= a.dy.length;
  const bool behind = begin + kTile < a.dy.length;
  const uint32_t* words = a.filter.words + static_cast<int64_t>(d) * direct_words(kHalo);
  auto out = [&](int part) {
    return GradientRow<T>{a.dp.row(b, part * channels + d) + begin, a.dy.length - begin, a.wide,
                          plain};
  };
  {
    const Product<kPieces, kPlane<kPieces, kHalo>, true, true> c(z + kHalo * kPieceBytes, words,
                                                                 a.blocks, lane);
    const float down = inverse_scale(in.z_scale) * unit;
    const Fir f0 = coefficients.fir(0);
    float follow[2] = {0.F, 0.F};
    if (behind) {
      follow[0] = E::lo(in.dy_behind) * (c.next[0] * down);
      follow[1] = E::hi(in.dy_behind) * (c.next[1] * down);
    }
#pragma unroll
    for (int i = kPieces - 1; i >= 0; --i) {
      float f[6];
      widen<T>(f, two_before(in.x0[i].y, i > 0 ? in.x0[i - 1].y : in.x0_before, lane), in.x0[i]);
      const float y[4] = {E::lo(in.dy[i].x), E::hi(in.dy[i].x), E::lo(in.dy[i].y),
                          E::hi(in.dy[i].y)};
      float dq[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        dq[j] = y[j] * (c.value(i, j) * down);
      finish_input(out(0), i, dq, f, f0, follow, par[0], lane);
    }
  }
  {
    const Product<kPieces, kPlane<kPieces, kHalo>, false, true> du(g, words, a.blocks, lane);
    const float down = inverse_scale(in.g_scale) * unit;
    const Fir fa = coefficients.fir(1);
    const Fir fb = coefficients.fir(2);
    float follow_a[2] = {0.F, 0.F};
    float follow_b[2] = {0.F, 0.F};
    if (behind) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        follow_a[j] = du.next[j] * down * in.qv_behind[j];
        follow_b[j] = du.next[j] * down * in.q1_behind[j];
      }
    }
#pragma unroll
    for (int i = kPieces - 1; i >= 0; --i) {
      float f1[6];
      float fv[6];
      widen<T>(f1, two_before(in.x1[i].y, i > 0 ? in.x1[i - 1].y : in.x1_before, lane), in.x1[i]);
      widen<T>(fv, two_before(in.v[i].y, i > 0 ? in.v[i - 1].y : in.v_before, lane), in.v[i]);
      float da[4];
      float db[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float gradient = du.value(i, j) * down;
        da[j] = gradient * fb(fv + j);
        db[j] = gradient * fa(f1 + j);
      }
      finish_input(out(1), i, da, f1, fa, follow_a, par[1], lane);
      finish_input(out(2), i, db, fv, fb, follow_b, par[2], lane);
    }
  }
}

template <class T, int kPieces, int kHalo>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    direct_backward_kernel(const DirectBackwardArgs<T> a) {
  using Buffers = Shared<kPieces, kHalo>;
  constexpr int kTile = kPieces * kPiece;
  extern __shared__ __align__(16) unsigned char smem[];
  Buffers& shared = *reinterpret_cast<Buffers*>(smem);
  const int lane = threadIdx.x & 31;
  const int warp = warp_index();
  const int channels = a.dy.channels;
  const int rows = a.dy.batch * a.tiles;  // tiles of a channel
  const int groups = (rows + kWarps - 1) / kWarps;
  const int64_t total = static_cast<int64_t>(channels) * groups;
  const int first = static_cast<int>(total * blockIdx.x / gridDim.x);
  const int last = static_cast<int>(total * (blockIdx.x + 1) / gridDim.x);

  int d = first / groups;
  int group = first - d * groups;
  Coefficients coefficients(a.conv, d, channels, lane);
  float unit = a.filter.unit[d];
  FilterGradient<kPieces, kHalo, kPlane<kPieces, kHalo>> dh;
  dh.clear();
  float par[3][4] = {};
#pragma unroll 1
  for (int item = first; item < last; ++item) {
    const int turn = item & 1;
    const int row = group * kWarps + warp;
    const int b = row / a.tiles;
    const int begin = (row - b * a.tiles) * kTile;
    const uint32_t z = smem_address(shared.z[turn][warp]);
    const uint32_t g = smem_address(shared.g[turn][warp]);
    TileInputs<kPieces> in;
    if (row < rows) {
      gate<T, kPieces, kHalo>(in, a, b, d, begin, coefficients, z, g, lane);
      if (lane == 0) shared.unit[turn][warp] = log2_inverse(in.z_scale) + log2_inverse(in.g_scale);
    }
    __syncthreads();
    if (const int next = row + kWarps; a.bulk && next < rows && item + 1 < last && lane < 4) {
      const int at = next % a.tiles * kTile;  // one row per lane, to the L2
      if (at + kTile <= a.dy.length)
        bulk_prefetch((lane < 3 ? a.p.row(next / a.tiles, lane * channels + d)
                                : a.dy.row(next / a.tiles, d)) +
                          at,
                      kTile * sizeof(T));
    }
    dh.template add<sizeof(shared.g[0][0])>(
        smem_address(shared.g[turn]), smem_address(shared.z[turn]) + kHalo * kPieceBytes,
        shared.unit[turn][lane & (kWarps - 1)], min(kWarps, rows - group * kWarps), warp, a.blocks,
        lane);
    if (row < rows)
      input_gradients_of<T, kPieces, kHalo>(in, a, b, d, begin, coefficients, unit, z, g, par,
                                            lane);
    if (++group < groups && item + 1 < last) continue;

    // ---- the end of a channel, or of this block's share of it
    dh.store(shared.products, warp, a.blocks, lane);
#pragma unroll
    for (int i = 0; i < kParameterSums; ++i) {
      float& sum = par[i >> 2][i & 3];
#pragma unroll
      for (int o = 16; o != 0; o >>= 1)
        sum += __shfl_xor_sync(~0U, sum, o);
      if (lane == 0) shared.parameters[warp][i] = sum;
      sum = 0.F;
    }
    dh.clear();
    __syncthreads();
    const int64_t slot = d + static_cast<int>(blockIdx.x);
    const int tid = threadIdx.x;
    if (tid < a.taps) a.filter_sums[slot * a.taps + tid] = diagonal_sum(shared.products, tid);
    if (tid < kParameterSums) {
      float sum = 0.F;
#pragma unroll
      for (int w = 0; w < kWarps; ++w)
        sum += shared.parameters[w][tid];
      a.parameter_sums[slot * kParameterSums + tid] = sum;
    }
    if (item + 1 < last) {
      group = 0;
      ++d;
      coefficients = Coefficients(a.conv, d, channels, lane);
      unit = a.filter.unit[d];
    }
  }
}

struct FinishArgs {
  const float* filter_sums;
  const float* parameter_sums;
  CudaMixerGradients to;
  int channels, conv_taps, taps, groups, blocks;
};

/// One block per channel: adds its slots in order.
__global__ void __launch_bounds__(kThreads) finish_direct_gradients(const FinishArgs a) {
  const int d = blockIdx.x;
  const int k = threadIdx.x;
  const SlotRange slots(d, a.channels, a.groups, a.blocks);
  if (k < a.taps) {
    float sum = 0.F;
    for (int b = slots.first; b <= slots.last; ++b)
      sum += a.filter_sums[static_cast<int64_t>(d + b) * a.taps + k];
    a.to.dh_DK[static_cast<int64_t>(d) * a.taps + k] = sum;
    if (k == 0) a.to.dskip_D[d] = sum;
  }
  finish_parameters(a.parameter_sums, d, slots.first, slots.last, a.to, d, a.channels, a.conv_taps,
                    k);
}

std::size_t slots(const DirectProblem& m) {
  return m.channels() + static_cast<std::size_t>(m.multiprocessors * kBlocksPerSm);
}

template <class T, int kPieces, int kHalo>
void launch(const DirectProblem& m, const BackwardCall& call) {
  using Buffers = Shared<kPieces, kHalo>;
  constexpr int kTile = kPieces * kPiece;
  const CudaMixerShape& s = m.shape;
  const int tiles = static_cast<int>((s.length + kTile - 1) / kTile);
  const int groups = static_cast<int>((s.batch * tiles + kWarps - 1) / kWarps);
  // Every block must own tiles: a slot of one that does not would never be written.
  const int grid =
      static_cast<int>(std::min<int64_t>(m.multiprocessors * kBlocksPerSm, s.channels * groups));
  auto* const filter_sums = static_cast<float*>(call.workspace);
  const int taps = static_cast<int>(s.filter_length);
  float* const parameter_sums = filter_sums + slots(m) * static_cast<std::size_t>(taps);
  const DirectBackwardArgs<T> a{tensor_of(s, static_cast<const T*>(call.p), 3),
                                tensor_of(s, static_cast<const T*>(call.dy), 1),
                                tensor_of(s, static_cast<T*>(call.gradients.dp_BCL), 3),
                                {call.weight, call.bias, s.taps},
                                m.filter(call.spectrum),
                                filter_sums,
                                parameter_sums,
                                taps,
                                m.blocks,
                                tiles,
                                m.wide(call.p, call.dy, call.gradients.dp_BCL),
                                m.bulk(call.p, call.dy)};
  constexpr auto kKernel = direct_backward_kernel<T, kPieces, kHalo>;
  constexpr int kBytes = sizeof(Buffers);
  allow_shared_memory<kKernel>(kBytes);
  kKernel<<<static_cast<unsigned>(grid), kThreads, kBytes, call.stream>>>(a);
  check(cudaGetLastError(), "launch of the direct backward kernel");
  finish_direct_gradients<<<static_cast<unsigned>(s.channels), kThreads, 0, call.stream>>>(
      {filter_sums, parameter_sums, call.gradients, static_cast<int>(s.channels), s.taps, taps,
       groups, grid});
  check(cudaGetLastError(), "launch of the direct filter gradient kernel");
}

template <class T>
void dispatch(const DirectProblem& m, const BackwardCall& call) {
  const bool single = m.halo == 1;
  if (m.shape.length <= 2 * kPiece) {
    single ? launch<T, 2, 1>(m, call) : launch<T, 2, 2>(m, call);
  } else {
    single ? launch<T, 4, 1>(m, call) : launch<T, 4, 2>(m, call);
  }
}

}  // namespace

std::size_t direct_backward_workspace(const DirectProblem& m) {
  return slots(m) * (static_cast<std::size_t>(m.shape.filter_length) + kParameterSums) *
         sizeof(float);
}

void direct_backward(const DirectProblem& m, const BackwardCall& call) {
  if (m.shape.type == CudaElement::kBFloat16) {
    dispatch<__nv_bfloat16>(m, call);
  } else {
    dispatch<__half>(m, call);
  }
}

}  // namespace hyena::kernels::cuda
