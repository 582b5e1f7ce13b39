// Fused Hyena mixer with a short filter, forward: the long convolution as a Toeplitz product.
//
//   q = bias + short conv(p);  z = q_x1 q_v;  y = q_x0 * (causal conv(z, h) + skip z)
//
// Shapes    p (B, 3D, L) channels [x0 | x1 | v], y (B, D, L), 16-bit; filter as in direct.h
// Method    blocks of 16 lags: c[16 i + r] = sum_j sum_s h[16 j + r - s] z[16 (i - j) + s], rows i
//           on the tensor cores with fp16 operands, float32 accumulators (direct.cuh)
// Mapping   a warp owns a tile: one row, kPieces x 128 times, and gates kHalo pieces before it
//           again. Lane l holds times 4 l .. 4 l + 3 of each piece of every input and of the
//           output; shifts by blocks go through the warp's own shared memory. No barrier of the
//           block. Blocks own contiguous ranges of (channel, row, tile), so their warps share a
//           filter, which L1 keeps. A tile's rows are asked of the L2 a tile ahead.
// Budget    8 bytes per element; floor = bytes / measured copy rate
// Registers 96 (65,536 / 640)
// Numerics  before output rounding at most 5e-4 relative rms: z and h are rounded to fp16 once
//           (docs/math/cuda_numerics.md). The scale of z is that of the times the tile reads, so
//           bits depend on the row and the parameters alone; tiles begin at multiples of their
//           length.
// Bounds    any B, D, L; K <= 128 kHalo; rows 4-byte aligned, fastest 8
// Tested by tests/kernels/cuda/hyena_mixer_cuda_test.cpp against float64
#include <algorithm>

#include "hyena/kernels/cuda/direct.cuh"
#include "hyena/kernels/cuda/direct.h"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kBlocksPerSm = 5;

template <class T>
struct DirectArgs {
  Tensor<const T> p;
  Tensor<T> y;
  ShortConv conv;
  DirectFilter filter;
  int blocks;       // of lags
  int tiles;        // of a row
  bool wide, bulk;  // rows are 8-byte, 16-byte aligned
};

template <class T, int kPieces, int kHalo>
__global__ void __launch_bounds__(kThreads, kBlocksPerSm)
    direct_forward_kernel(const DirectArgs<T> a) {
  constexpr int kWindow = kHalo + kPieces;
  constexpr int kPlaneBytes = kWindow * kPieceBytes;
  constexpr int kTile = kPieces * kPiece;
  __shared__ __align__(16) unsigned char smem[kWarps][2 * kPlaneBytes];
  const int lane = threadIdx.x & 31;
  const int warp = warp_index();
  const uint32_t buffer = smem_address(smem[warp]);
  const uint32_t store_at = buffer + 4 * lane;
  const int channels = a.y.channels;
  const int rows = a.y.batch * a.tiles;  // tiles of a channel
  const int64_t total = static_cast<int64_t>(channels) * rows;
  const int first = static_cast<int>(total * blockIdx.x / gridDim.x) + warp;
  const int last = static_cast<int>(total * (blockIdx.x + 1) / gridDim.x);
  if (first >= last) return;

  int d = first / rows;
  int row = first - d * rows;
  Coefficients coefficients(a.conv, d, channels, lane);
  float unit = a.filter.unit[d];
#pragma unroll 1
  for (int item = first; item < last; item += kWarps, row += kWarps) {
    if (row >= rows) {
      d += row / rows;
      row %= rows;
      coefficients = Coefficients(a.conv, d, channels, lane);
      unit = a.filter.unit[d];
    }
    const int b = row / a.tiles;
    const int begin = (row - b * a.tiles) * kTile;
    const int length = a.y.length;
    const bool plain = a.wide && begin + kTile <= length;

    // ---- z of the tile and of the pieces before it
    float z[kWindow][4];
    float most = 0.F;
    {
      const RowReader<T> x1{a.p.row(b, channels + d), length};
      const RowReader<T> v{a.p.row(b, 2 * channels + d), length};
      uint2 xa[kWindow];
      uint2 xb[kWindow];
      uint32_t before_a = 0U;
      uint32_t before_b = 0U;
      x1.template pieces<kPieces>(xa + kHalo, begin, plain, lane);
      v.template pieces<kPieces>(xb + kHalo, begin, plain, lane);
      if (begin > 0) {
        x1.template pieces<kHalo>(xa, begin - kHalo * kPiece, a.wide, lane);
        v.template pieces<kHalo>(xb, begin - kHalo * kPiece, a.wide, lane);
        before_a = x1.pair(begin - kHalo * kPiece - 2);
        before_b = v.pair(begin - kHalo * kPiece - 2);
      } else {
#pragma unroll
        for (int i = 0; i < kHalo; ++i)
          xa[i] = xb[i] = make_uint2(0U, 0U);
      }
      const Fir fa = coefficients.fir(1);
      const Fir fb = coefficients.fir(2);
#pragma unroll
      for (int i = 0; i < kWindow; ++i) {
        float q[4];
        short_conv<T>(z[i], two_before(xa[i].y, i > 0 ? xa[i - 1].y : before_a, lane), xa[i], fa);
        short_conv<T>(q, two_before(xb[i].y, i > 0 ? xb[i - 1].y : before_b, lane), xb[i], fb);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          z[i][j] *= q[j];
          if (i < kHalo && begin == 0) z[i][j] = 0.F;  // no bias before the row
          most = fmaxf(most, fabsf(z[i][j]));
        }
      }
    }
    const float scale = warp_scale(most);
#pragma unroll
    for (int i = 0; i < kWindow; ++i)
      store_halves(store_at + i * kPieceBytes, kPlaneBytes, z[i], scale);

    if (const int next = row + kWarps; a.bulk && next < rows && item + kWarps < last && lane < 3) {
      const int at = next % a.tiles * kTile;  // of the next tile, one row per lane, to the L2
      if (at + kTile <= length)
        bulk_prefetch(a.p.row(next / a.tiles, lane * channels + d) + at, kTile * sizeof(T));
    }

    // ---- x0 arrives during the product
    const RowReader<T> x0{a.p.row(b, d), length};
    uint2 x[kPieces];
    x0.template pieces<kPieces>(x, begin, plain, lane);
    const uint32_t before = x0.pair(begin - 2);
    __syncwarp();
    const Product<kPieces, kPlaneBytes, true, false> c(
        buffer + kHalo * kPieceBytes,
        a.filter.words + static_cast<int64_t>(d) * direct_words(kHalo), a.blocks, lane);
    __syncwarp();  // the buffer is free

    // ---- y
    const float down = inverse_scale(scale) * unit;
    Fir f0 = coefficients.fir(0);
    f0.scale(down);
    T* const y = a.y.row(b, d) + begin + 4 * lane;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      float q[4];
      short_conv<T>(q, two_before(x[i].y, i > 0 ? x[i - 1].y : before, lane), x[i], f0);
#pragma unroll
      for (int j = 0; j < 4; ++j)
        q[j] *= c.value(i, j);
      const uint2 out = make_uint2(Element<T>::pack(q[0], q[1]), Element<T>::pack(q[2], q[3]));
      if (plain) {
        __stcs(reinterpret_cast<uint2*>(y + i * kPiece), out);
      } else {
        store4(y + i * kPiece, out.x, out.y, length - begin - i * kPiece - 4 * lane, a.wide);
      }
    }
  }
}

template <class T, int kPieces, int kHalo>
void launch(const DirectProblem& m, const ForwardCall& call) {
  const int tiles = static_cast<int>((m.shape.length + kPieces * kPiece - 1) / (kPieces * kPiece));
  const DirectArgs<T> a{tensor_of(m.shape, static_cast<const T*>(call.p), 3),
                        tensor_of(m.shape, static_cast<T*>(call.y), 1),
                        {call.weight, call.bias, m.shape.taps},
                        m.filter(call.spectrum),
                        m.blocks,
                        tiles,
                        m.wide(call.p, call.y),
                        m.bulk(call.p, call.p)};
  const int64_t items = m.shape.channels * m.shape.batch * tiles;
  const int64_t grid =
      std::min<int64_t>((items + kWarps - 1) / kWarps, m.multiprocessors * kBlocksPerSm);
  direct_forward_kernel<T, kPieces, kHalo>
      <<<static_cast<unsigned>(grid), kThreads, 0, call.stream>>>(a);
  check(cudaGetLastError(), "launch of the direct forward kernel");
}

template <class T>
void dispatch(const DirectProblem& m, const ForwardCall& call) {
  const bool single = m.halo == 1;
  if (m.shape.length <= 2 * kPiece) {
    single ? launch<T, 2, 1>(m, call) : launch<T, 2, 2>(m, call);
  } else if (m.shape.length <= 4 * kPiece) {
    single ? launch<T, 4, 1>(m, call) : launch<T, 4, 2>(m, call);
  } else {
    single ? launch<T, 8, 1>(m, call) : launch<T, 8, 2>(m, call);
  }
}

}  // namespace

void direct_forward(const DirectProblem& m, const ForwardCall& call) {
  if (m.shape.type == CudaElement::kBFloat16) {
    dispatch<__nv_bfloat16>(m, call);
  } else {
    dispatch<__half>(m, call);
  }
}

}  // namespace hyena::kernels::cuda
