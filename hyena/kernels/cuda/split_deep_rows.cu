// Long rows beyond C = 256: every row k1 has 256 rho points, rho = 2 to 16. As split_rows.cu, with
// one more radix: over the parts mu of a row (m = 256 mu + m'), to frequencies k1 + C j, each of
// which is then a row of 256 points.
//
//   y[j][m'] = sum_mu x[256 mu + m'] exp(-2 pi i mu (k1 - 1/4 + C j) / (C rho))
//
// Method    a complex 16 x 16 matrix on the tensor cores, which holds 16 / rho rows k1
// Mapping   8 warps and 16 rows of 256 points (16 / rho rows k1) per block, which keeps them for a
//           range of channels and the whole batch. A warp owns 32 columns in the radix, two rows
//           otherwise.
// Budget    as split_rows.cu
#include <algorithm>

#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/split_row.cuh"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 16;
constexpr int kRowBytes = 1024;
constexpr int kRowPitch = kRowBytes + 16;  // a column of 8 rows lies in different banks
constexpr int kUnitBytes = kRows * kRowPitch;
constexpr int kTwistBytes = kRows * kRowBytes;

template <Rows kMode>
constexpr int kInputs = kMode == Rows::kBackward ? 2 : 1;
template <Rows kMode>
constexpr int kStages = kMode == Rows::kBackward ? 2 : 3;
template <Rows kMode>
constexpr int kBlocks = kMode == Rows::kBackward ? 2 : 3;  // per multiprocessor
template <Rows kMode>
constexpr int kStageBytes = kInputs<kMode>* kUnitBytes;
template <Rows kMode>
constexpr int kTwistOffset = kStages<kMode>* kStageBytes<kMode>;
template <Rows kMode>
constexpr int kSharedBytes = kTwistOffset<kMode> + (kMode == Rows::kForward ? 0 : kTwistBytes) +
                             (kMode == Rows::kBackward ? kUnitBytes : 0);

/// Word `q` of the radix's A operand, its real or imaginary part, or that of the inverse.
__device__ uint32_t deep_radix_word(int q, int part, bool inverse, int first_row,
                                    const SplitShape& s, int lane) {
  const int rho = 1 << s.log_rho;
  const float gain = 1.F / static_cast<float>(1 << ((s.log_rho + 1) / 2));
  float v[2];
#pragma unroll
  for (int e = 0; e < 2; ++e) {
    const int out = (lane >> 2) + 8 * (q & 1);
    const int in = 2 * (lane & 3) + 8 * (q >> 1) + e;
    const int mu = (inverse ? out : in) & (rho - 1);
    const int j = (inverse ? in : out) & (rho - 1);
    const int k1 = split_frequency(first_row + (out >> s.log_rho), s);
    const int turns = mu * (4 * (k1 + s.rows() * j) - 1);  // of 4 C rho, below 2^24
    float re;
    float im;
    sincospif(-2.F * static_cast<float>(turns) / static_cast<float>(4 * s.rows() * rho), &im, &re);
    const bool same = (out >> s.log_rho) == (in >> s.log_rho);
    v[e] = !same ? 0.F : gain * (part == 0 ? re : inverse ? -im : im);
  }
  return pack_half(v[0], v[1]);
}

/// What a lane needs of the exponents of a row's tiles: the largest among its share of them, and
/// those of its column block in rows 2 t, 2 t + 1 (+ 8).
template <int kN>
struct TileExponents {
  uint32_t largest[kN], own[kN][2][2];
  __device__ __forceinline__ TileExponents(const SplitRowsArgs& a, int64_t unit, int block, int rho,
                                           int tiles, int lane) {
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      const uint32_t* exponents = a.exponents[i] + unit * tiles;
      largest[i] = 0;
      for (int j = lane; j < tiles; j += 32)
        largest[i] = max(largest[i], __ldg(exponents + j));
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          own[i][half][e] =
              __ldg(exponents + 8 * ((2 * (lane & 3) + 8 * half + e) & (rho - 1)) + block);
    }
  }
};

template <Rows kMode>
__global__ void __launch_bounds__(kThreads, kBlocks<kMode>) split_deep_rows(const SplitRowsArgs a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kN = kInputs<kMode>;
  extern __shared__ __align__(1024) unsigned char smem[];
  __shared__ __align__(16) uint4 constants[160 + 160];
  __shared__ __align__(16) uint4 radix[2][2][32];  // [inverse][re, im][lane]
  __shared__ __align__(8) uint64_t full[kStages<kMode>];
  __shared__ uint32_t sum_exponent[kRows];
  const SplitShape s = a.shape;
  const int tid = threadIdx.x;
  const int warp = tid >> 5;
  const int lane = tid & 31;
  const int rho = 1 << s.log_rho;
  const uint32_t base = smem_address(smem);
  const uint32_t wgmma_at = smem_address(constants);
  const uint32_t row_at = wgmma_at + 2560 + lane * 16;
  const uint32_t bars = smem_address(full);
  const uint32_t twists = base + kTwistOffset<kMode>;
  const uint32_t sums = twists + kTwistBytes;
  const int first_row = kRows * blockIdx.x;     // of 256 points
  const int first_k1 = first_row >> s.log_rho;  // scratch row kappa c + j
  const int64_t rows = static_cast<int64_t>(s.rows()) << s.log_rho;
  const int d0 = static_cast<int>(static_cast<int64_t>(a.channels) * blockIdx.y / gridDim.y);
  const int d1 = static_cast<int>(static_cast<int64_t>(a.channels) * (blockIdx.y + 1) / gridDim.y);
  const int64_t first_unit = static_cast<int64_t>(d0) * a.batch;
  const int units = (d1 - d0) * a.batch;
  const int tiles = 1 << s.log_tiles();

  copy_table(constants, a.tables->wgmma_b, 320, tid, kThreads);
  if (tid < 128) {
    const bool inverse = tid >= 64;
    const int part = (tid >> 5) & 1;
    uint32_t w[4];
#pragma unroll
    for (int q = 0; q < 4; ++q)
      w[q] = deep_radix_word(q, part, inverse, first_k1, s, lane);
    radix[inverse][part][lane] = make_uint4(w[0], w[1], w[2], w[3]);
  }
  auto frequency_of = [&](int r) {  // of row r of this block
    return split_frequency(first_k1 + (r >> s.log_rho), s) + s.rows() * (r & (rho - 1));
  };
  RowData kept[2];  // the forward keeps its twists in registers
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = warp + 8 * i;
    row_twist(kept[i], frequency_of(r), s.log_points(), lane);
    if (kMode != Rows::kForward) {
      auto* to = reinterpret_cast<uint4*>(smem + kTwistOffset<kMode> + r * kRowBytes) + lane;
      to[0] = make_uint4(kept[i].re[0], kept[i].re[1], kept[i].re[2], kept[i].re[3]);
      to[32] = make_uint4(kept[i].im[0], kept[i].im[1], kept[i].im[2], kept[i].im[3]);
    }
  }
  if (tid == 0)
    for (int i = 0; i < kStages<kMode>; ++i)
      mbarrier_init(bars + 8 * i, 1);
  fence_setup();
  __syncthreads();

  auto scratch = [&](int input, int unit) {
    return static_cast<char*>(a.data[input]) + ((first_unit + unit) * rows + first_row) * kRowBytes;
  };
  // Rows go one by one, each to its place in the pitch: lanes 0 and 1 of every warp have one each.
  const int my_row = warp + 8 * lane;
  auto load = [&](int unit) {
    if (unit >= units || lane > 1) return;
    const int stage = unit % kStages<kMode>;
    if (tid == 0) mbarrier_expect(bars + 8 * stage, kN * kRows * kRowBytes);
#pragma unroll
    for (int i = 0; i < kN; ++i)
      bulk_copy(base + stage * kStageBytes<kMode> + i * kUnitBytes + my_row * kRowPitch,
                scratch(i, unit) + my_row * kRowBytes, kRowBytes, bars + 8 * stage);
  };
  constexpr int kAhead = kMode == Rows::kBackward ? kStages<kMode> : kStages<kMode> - 1;
  for (int i = 0; i < kAhead; ++i)
    load(i);

  const uint64_t desc = wgmma_descriptor(wgmma_at);
  RowConstants k;
  auto constants_again = [&] {
    lds128(k.re, row_at);
    lds128(k.im, row_at + 512);
    lds128(k.minus_im, row_at + 1024);
    lds128(k.twiddle_re, row_at + 1536);
    lds128(k.twiddle_im, row_at + 2048);
  };
  auto get_twist = [&](RowData& w, int i) {
    if constexpr (kMode == Rows::kForward) {
      w = kept[i];
    } else {
      const uint32_t from = twists + (warp + 8 * i) * kRowBytes + lane * 16;
      lds128(w.re, from);
      lds128(w.im, from + 512);
    }
  };
  // This warp's 32 columns: a block of scratch, whatever its times.
  const uint32_t column = (lane & 15) * kRowPitch + warp * 64 + (lane >> 4) * 16;
  const int block = block_position(warp);  // the positions' order is its own inverse
  /// The radix over all 16 rows; rows 2 t, 2 t + 1 (+ 8) are multiplied by `factor` first.
  auto deep_radix = [&](uint32_t unit_at, bool inverse, const uint32_t(&factor)[2]) {
    uint32_t mr[4];
    uint32_t mi[4];
    lds128(mr, smem_address(&radix[inverse][0][lane]));
    lds128(mi, smem_address(&radix[inverse][1][lane]));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint32_t at = unit_at + column + 32 * half;
      uint32_t x[2][4];
      ldmatrix_trans(x[0], at);
      ldmatrix_trans(x[1], at + 512);
#pragma unroll
      for (int part = 0; part < 2; ++part)
#pragma unroll
        for (int q = 0; q < 4; ++q)
          x[part][q] = half_product(x[part][q], factor[q & 1]);
      float out[2][2][4];
      outer_product<2>(out, mr, mi, x);
#pragma unroll
      for (int part = 0; part < 2; ++part)
        stmatrix(at + part * 512, pack_half(out[part][0][0], out[part][0][1]),
                 pack_half(out[part][0][2], out[part][0][3]),
                 pack_half(out[part][1][0], out[part][1][1]),
                 pack_half(out[part][1][2], out[part][1][3]));
    }
  };
  const uint32_t one[2] = {0x3c003c00U, 0x3c003c00U};
  const uint32_t point = warp * kRowPitch + point_offset(lane);  // row `warp`; the next: + 8 rows
  int d = d0;
  int b = 0;
  float sum_re[2][8];
  float sum_im[2][8];
  TileExponents<kN> next(a, first_unit, block, rho, tiles, lane);
  for (int unit = 0; unit < units; ++unit) {
    const int stage = unit % kStages<kMode>;
    const uint32_t unit_at = base + stage * kStageBytes<kMode>;
    uint32_t factor[kN][2];
    uint32_t most[kN];
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      most[i] = __reduce_max_sync(~0U, next.largest[i]);
#pragma unroll
      for (int half = 0; half < 2; ++half)
        factor[i][half] = (half_power(most[i] - next.own[i][half][0]) & 0xffffU) |
                          (half_power(most[i] - next.own[i][half][1]) << 16);
    }
    if (unit + 1 < units)
      next = TileExponents<kN>(a, first_unit + unit + 1, block, rho, tiles, lane);
    mbarrier_wait(bars + 8 * stage, (unit / kStages<kMode>)&1);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kN; ++i)
      deep_radix(unit_at + i * kUnitBytes, false, factor[i]);
    __syncthreads();
    const bool ends_channel = b + 1 == a.batch;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const uint32_t at = unit_at + point + i * 8 * kRowPitch;
      auto transform = [&](int input, float(&re)[2][4], float(&im)[2][4]) {
        RowData x;
        RowData twist;
        get_twist(twist, i);
        load_row<512>(x, at + input * kUnitBytes);
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
        RowData twist;
        get_twist(twist, i);
        store_row<512>(re, im, twist, to);
      };
      const int row = first_row + warp + 8 * i;
      RowData filter;
      uint32_t down = 0;
      if (kMode != Rows::kFilter) {
        load_spectrum(filter, a.filter, d, row, s, lane);
        down = spectrum_factor(a.filter, d);
      }
      float zr[2][4];
      float zi[2][4];
      transform(0, zr, zi);
      if constexpr (kMode == Rows::kFilter) {
        store_spectrum(a.spectrum, d, row, s, split_scale(most[0], s), zr, zi, lane);
      } else {
        RowData x;
        shrink(filter, down);
        row_product<false>(x, zr, zi, filter);
        if constexpr (kMode == Rows::kBackward) {
          float gr[2][4];
          float gi[2][4];
          transform(1, gr, gi);
          const float weight =
              inverse_scale(split_scale(most[0], s)) * inverse_scale(split_scale(most[1], s));
          add_product(sum_re[i], sum_im[i], zr, zi, gr, gi, weight, b == 0);
          back(x, at);
          row_product<true>(x, gr, gi, filter);
          back(x, at + kUnitBytes);
        } else {
          back(x, at);
        }
      }
    }
    if constexpr (kMode == Rows::kBackward) {
      if (ends_channel) {
        if (lane <= 1) bulk_wait_read<0>();  // the sums of the channel before have left
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          RowData x;
          const uint32_t exponent = scaled_sum(x, sum_re[i], sum_im[i], s);
          if (lane == 0) sum_exponent[warp + 8 * i] = exponent;
          float re[2][4];
          float im[2][4];
          constants_again();
          row_inverse(x, k);
          wgmma_complex(re, im, x.re, x.im, desc + kInverseFirst, desc + kInverseSecond);
          RowData twist;
          get_twist(twist, i);
          store_row<512>(re, im, twist, sums + point + i * 8 * kRowPitch);
        }
      }
    }
    __syncthreads();
    if constexpr (kMode != Rows::kFilter) {
#pragma unroll
      for (int i = 0; i < kN; ++i)
        deep_radix(unit_at + i * kUnitBytes, true, one);
      if constexpr (kMode == Rows::kBackward) {
        if (ends_channel) {  // the parts of one k1 get one scale
          uint32_t together[2];
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const int r = 2 * (lane & 3) + 8 * half;
            uint32_t largest = 0;
            for (int j = 0; j < rho; ++j)
              largest = max(largest, sum_exponent[(r & ~(rho - 1)) + j]);
            together[half] = (half_power(largest - sum_exponent[r]) & 0xffffU) |
                             (half_power(largest - sum_exponent[r + 1]) << 16);
            if (warp == 0 && lane < 4) {
              for (int e = 0; e < 2; ++e)
                if (((r + e) & (rho - 1)) == 0)
                  a.sum_exponents[static_cast<int64_t>(d) * s.rows() + first_k1 +
                                  ((r + e) >> s.log_rho)] = largest;
            }
          }
          deep_radix(sums, true, together);
        }
      }
      fence_async();
      if (lane <= 1) bulk_wait_read<0>();  // of the unit before: its stage is free
    }
    __syncthreads();
    if (kMode != Rows::kFilter && lane <= 1) {
#pragma unroll
      for (int i = 0; i < kN; ++i)
        bulk_store(scratch(i, unit) + my_row * kRowBytes,
                   unit_at + i * kUnitBytes + my_row * kRowPitch, kRowBytes);
      if (kMode == Rows::kBackward && ends_channel)
        bulk_store(static_cast<char*>(a.sums) +
                       (static_cast<int64_t>(d) * rows + first_row + my_row) * kRowBytes,
                   sums + my_row * kRowPitch, kRowBytes);
      bulk_commit();
      if (kAhead == kStages<kMode>) bulk_wait_read<0>();  // the next load goes to the same place
    }
    load(unit + kAhead);
    if (++b == a.batch) {
      b = 0;
      ++d;
    }
  }
  if (kMode != Rows::kFilter && lane <= 1) bulk_wait_read<0>();
#endif
}

template <Rows kMode>
void launch(const SplitRowsArgs& a, int multiprocessors, cudaStream_t stream) {
  allow_shared_memory<split_deep_rows<kMode>>(kSharedBytes<kMode>);
  const int groups = (a.shape.rows() << a.shape.log_rho) / kRows;
  const int resident = multiprocessors * kBlocks<kMode>;
  const dim3 grid(groups, std::max(1, std::min(a.channels, resident / groups)));
  split_deep_rows<kMode><<<grid, kThreads, kSharedBytes<kMode>, stream>>>(a);
  check(cudaGetLastError(), "launch of the mixer's row kernel");
}

}  // namespace

void launch_split_deep_rows(const SplitRowsArgs& a, Rows mode, int multiprocessors,
                            cudaStream_t stream) {
  switch (mode) {
    case Rows::kFilter:
      return launch<Rows::kFilter>(a, multiprocessors, stream);
    case Rows::kForward:
      return launch<Rows::kForward>(a, multiprocessors, stream);
    default:
      return launch<Rows::kBackward>(a, multiprocessors, stream);
  }
}

}  // namespace hyena::kernels::cuda
