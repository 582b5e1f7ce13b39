// Rows of 16384 to 65536 points, backward, second kernel: every row k1 of 256 points of z and g
// through its transform, the products with the filter's spectrum and back, in place; and the sum
// over the batch of conj(Z) G, back too.
//
// Method    twist, 16 x 16 points on the tensor cores (row.cuh)
// Mapping   4 warps, one row each; a block stays with its four rows for a range of channels and the
//           whole batch, so that twists and sums over the batch stay in registers
// Budget    8 bytes read, 8 written per point, and 4 read, 4 written per point of a channel
// Numerics  scales of tiles become one of the row; S in float32, one power of two per row
#include <algorithm>

#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/split_row.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRowBytes = 1024;  // 256 points, real and imaginary parts
constexpr int kUnitBytes = 4 * kRowBytes;
constexpr int kStages = 4;
constexpr int kInputs = 2;  // z and g
constexpr int kStageBytes = kInputs * kUnitBytes;
constexpr int kSharedBytes = kStages * kStageBytes + 2 * kUnitBytes;  // and sums, twice
constexpr int kBlocks = 4;                                            // per multiprocessor

__global__ void __launch_bounds__(kThreads, kBlocks) split_rows(const SplitRowsArgs a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char smem[];
  __shared__ __align__(16) uint4 constants[160 + 160];
  __shared__ __align__(8) uint64_t full[kStages];
  const SplitShape s = a.shape;
  const int tid = threadIdx.x;
  const int warp = tid >> 5;
  const int lane = tid & 31;
  const uint32_t base = smem_address(smem);
  const uint32_t wgmma_at = smem_address(constants);
  const uint32_t bars = smem_address(full);
  const int row = 4 * blockIdx.x + warp;  // kappa c + j
  const int d0 = static_cast<int>(static_cast<int64_t>(a.channels) * blockIdx.y / gridDim.y);
  const int d1 = static_cast<int>(static_cast<int64_t>(a.channels) * (blockIdx.y + 1) / gridDim.y);
  const int64_t first_unit = static_cast<int64_t>(d0) * a.batch;
  const int units = (d1 - d0) * a.batch;
  const int tiles = 1 << s.log_tiles();

  copy_table(constants, a.tables->wgmma_b, 320, tid, kThreads);
  if (tid == 0)
    for (int i = 0; i < kStages; ++i)
      mbarrier_init(bars + 8 * i, 1);
  fence_setup();
  __syncthreads();

  auto scratch = [&](int input, int unit) {
    return static_cast<char*>(a.data[input]) +
           ((first_unit + unit) * s.rows() + 4 * blockIdx.x) * kRowBytes;
  };
  auto load = [&](int unit) {  // by thread 0
    if (unit >= units) return;
    const int stage = unit % kStages;
    mbarrier_expect(bars + 8 * stage, kStageBytes);
#pragma unroll
    for (int i = 0; i < kInputs; ++i)
      bulk_copy(base + stage * kStageBytes + i * kUnitBytes, scratch(i, unit), kUnitBytes,
                bars + 8 * stage);
  };
  if (tid == 0)
    for (int i = 0; i < kStages - 1; ++i)
      load(i);

  RowData twist;
  row_twist(twist, split_frequency(row, s), s.log_points(), lane);
  const uint64_t desc = wgmma_descriptor(wgmma_at);
  RowConstants k;
  auto constants_again = [&] { load_row_constants(k, wgmma_at + 2560, lane); };
  const uint32_t point = warp * kRowBytes + point_offset(lane);
  const int tile_of_block = 3 - s.log_c;
  int d = d0;
  int b = 0;
  float sum_re[8];  // sum over the batch of conj(Z) G
  float sum_im[8];
  for (int unit = 0; unit < units; ++unit) {
    const int stage = unit % kStages;
    const uint32_t at = base + stage * kStageBytes + point;
    // Factors that bring the tiles of a row to its common scale.
    uint32_t factor[kInputs][2];
    uint32_t most[kInputs];
#pragma unroll
    for (int i = 0; i < kInputs; ++i) {
      const uint32_t* exponents = a.exponents[i] + (first_unit + unit) * tiles;
      const uint32_t mine = lane < tiles ? exponents[lane] : 0U;
      most[i] = __reduce_max_sync(~0U, mine);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const uint32_t own = __shfl_sync(~0U, mine, (2 * (lane & 3) + h) >> tile_of_block);
        factor[i][h] = half_power(most[i] - own);
      }
    }
    RowData filter;
    load_spectrum(filter, a.filter, d, row, s, lane);
    const uint32_t down = spectrum_factor(a.filter, d);
    mbarrier_wait(bars + 8 * stage, (unit / kStages) & 1);
    __syncwarp();
    auto transform = [&](int input, float(&re)[2][4], float(&im)[2][4]) {
      RowData x;
      load_row<512>(x, at + input * kUnitBytes);
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        x.re[q] = half_product(x.re[q], factor[input][q & 1]);
        x.im[q] = half_product(x.im[q], factor[input][q & 1]);
      }
      constants_again();
      row_forward(x, twist, k);
      wgmma_complex(re, im, x.re, x.im, desc + kForwardFirst, desc + kForwardSecond);
    };
    auto back = [&](RowData& x, uint32_t to) {
      float re[2][4];
      float im[2][4];
      constants_again();
      row_inverse(x, k);
      wgmma_complex(re, im, x.re, x.im, desc + kInverseFirst, desc + kInverseSecond);
      store_row<512>(re, im, twist, to);
    };
    float zr[2][4];
    float zi[2][4];
    RowData x;
    transform(0, zr, zi);
    const bool ends_channel = b + 1 == a.batch;
    const uint32_t sums_at = base + kStages * kStageBytes + (d & 1) * kUnitBytes;
    shrink(filter, down);
    row_product<false>(x, zr, zi, filter);
    float gr[2][4];
    float gi[2][4];
    transform(1, gr, gi);
    const float weight =
        inverse_scale(split_scale(most[0], s)) * inverse_scale(split_scale(most[1], s));
    add_product(sum_re, sum_im, zr, zi, gr, gi, weight, b == 0);
    back(x, at);
    row_product<true>(x, gr, gi, filter);
    back(x, at + kUnitBytes);
    if (ends_channel) {
      const uint32_t exponent = scaled_sum(x, sum_re, sum_im, s);
      if (lane == 0) a.sum_exponents[static_cast<int64_t>(d) * s.rows() + row] = exponent;
      back(x, sums_at + point);
    }
    fence_async();
    if (tid == 0) bulk_wait_read<0>();  // of the unit before: its stage is free
    __syncthreads();
    if (tid == 0) {
#pragma unroll
      for (int i = 0; i < kInputs; ++i)
        bulk_store(scratch(i, unit), base + stage * kStageBytes + i * kUnitBytes, kUnitBytes);
      if (ends_channel)
        bulk_store(static_cast<char*>(a.sums) +
                       (static_cast<int64_t>(d) * s.rows() + 4 * blockIdx.x) * kRowBytes,
                   sums_at, kUnitBytes);
      bulk_commit();
      load(unit + kStages - 1);
    }
    if (++b == a.batch) {
      b = 0;
      ++d;
    }
  }
  if (tid == 0) bulk_wait_read<0>();
#endif
}

}  // namespace

void launch_split_rows(const SplitRowsArgs& a, int multiprocessors, cudaStream_t stream) {
  allow_shared_memory<split_rows>(kSharedBytes);
  const int groups = a.shape.rows() / 4;
  const dim3 grid(groups, std::max(1, std::min(a.channels, kBlocks * multiprocessors / groups)));
  split_rows<<<grid, kThreads, kSharedBytes, stream>>>(a);
  check(cudaGetLastError(), "launch of the mixer's row kernel");
}

}  // namespace hyena::kernels::cuda
