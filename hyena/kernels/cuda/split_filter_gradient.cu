// Long rows, last kernel of the backward: dh from the rows of its spectrum, which the row kernels
// have transformed back over m; and the sums of the short convolutions' gradients over the tiles.
//
// Mapping   8 warps per tile, two blocks per SM
// Budget    4 bytes read, 4 written per point of a channel
// Numerics  every row k1 has its own power of two, made one here
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/row_scale.cuh"
#include "hyena/kernels/cuda/slots.cuh"
#include "hyena/kernels/cuda/split.h"
#include "hyena/kernels/cuda/split_copy.cuh"
#include "hyena/kernels/cuda/split_gate.cuh"
#include "hyena/kernels/cuda/split_tile.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kOuterOffset = kExchangeBytes;
constexpr int kRadixOffset = kOuterOffset + 16384;
constexpr int kBarrierOffset = kRadixOffset + 2048;
constexpr int kSharedBytes = kBarrierOffset + 16;

/// dh from rows of its spectrum; every row has its own scale.
__global__ void __launch_bounds__(kThreads, 2)
    split_filter_gradient(const SplitFilterGradientArgs a,
                          const __grid_constant__ CUtensorMap map_sums) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  const SplitShape s = a.shape;
  const int tid = threadIdx.x;
  const int warp = tid >> 5;
  const int lane = tid & 31;
  const uint32_t base = smem_address(smem);
  const uint32_t bar = base + kBarrierOffset;
  const int total = a.channels << s.log_tiles();
  copy_table(smem + kOuterOffset, a.tables->outer, 1024, tid, kThreads);
  copy_table(smem + kRadixOffset, a.tables->radix_t, 128, tid, kThreads);
  if (tid == 0) mbarrier_init(bar, 1);
  fence_setup();
  __syncthreads();
  auto load = [&](int item) {
    if (item < total) load_split_planes(base, &map_sums, SplitPlace(item, s, 1), s, bar, 0);
  };
  int item = blockIdx.x;
  if (tid == 0) load(item);
  for (int turn = 0; item < total; item += gridDim.x, ++turn) {
    const SplitPlace at(item, s, 1);
    const uint32_t* exponents = a.sum_exponents + static_cast<int64_t>(at.channel) * s.rows();
    const uint32_t most = row_exponent(exponents, s.rows(), lane);
    mbarrier_wait(bar, turn & 1);
    outer_radix<true>(base, base + kOuterOffset, s.log_c, warp, lane,
                      [&](uint32_t(&x)[2][4], int group) {
#pragma unroll
                        for (int half = 0; half < 2; ++half) {  // rows 2 t, 2 t + 1 (+ 8)
                          const uint32_t* e = exponents + 16 * group + 2 * (lane & 3) + 8 * half;
                          const uint32_t factor =
                              (half_power(most - e[0]) & 0xffffU) | (half_power(most - e[1]) << 16);
#pragma unroll
                          for (int part = 0; part < 2; ++part)
#pragma unroll
                            for (int n = 0; n < 2; ++n)
                              x[part][2 * n + half] = half_product(x[part][2 * n + half], factor);
                        }
                      });
    __syncthreads();
    const int block = (at.first_column >> 5) + (warp >> s.log_c);
    const InverseOperand<true> operand(split_load_address(base, block, s.log_c, warp, lane));
    uint4 radix_t[2][2];
    load_radix_t(radix_t, base + kRadixOffset, lane);
    fence_async();
    __syncthreads();
    if (tid == 0) load(item + gridDim.x);
    const float factor = __uint_as_float(static_cast<uint32_t>(127 + s.gain_exponent()) << 23) *
                         inverse_scale(split_scale(most, s));
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float acc[2][2][4];
      operand.multiply(acc, radix_t, i);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int n1 = SplitOutputAddress::row(i, r, lane >> 2, s.log_c, warp);
#pragma unroll
        for (int q = 0; q < 2; ++q) {
          const int n = n1 * s.columns() + 32 * block + 16 * q + 4 * (lane & 3);
          float v[4];
#pragma unroll
          for (int j = 0; j < 4; ++j)
            v[j] = acc[q][j >> 1][2 * r + (j & 1)] * factor;
          if (n == 0) a.to.dskip_D[at.channel] = v[0];
          store_floats(a.to.dh_DK + at.channel * a.filter_stride + n, v, a.filter_length - n);
        }
      }
    }
    if (at.first_column == 0) {
      const int tiles = a.batch << s.log_tiles();
      finish_parameters(a.parameter_sums, static_cast<int64_t>(at.channel) * tiles, 0, tiles - 1,
                        a.to, at.channel, a.channels, a.taps, tid);
    }
  }
#endif
}

}  // namespace

void launch_split_filter_gradient(const SplitFilterGradientArgs& a, int multiprocessors,
                                  const CUtensorMap& map_sums, cudaStream_t stream) {
  allow_shared_memory<split_filter_gradient>(kSharedBytes);
  split_filter_gradient<<<2 * multiprocessors, kThreads, kSharedBytes, stream>>>(a, map_sums);
  check(cudaGetLastError(), "launch of the mixer's filter gradient");
}

}  // namespace hyena::kernels::cuda
