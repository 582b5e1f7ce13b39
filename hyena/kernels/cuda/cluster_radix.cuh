// Radix c of rows in a cluster (cluster.cuh): sums of values in the same place of c rows, in the
// registers of a warp that goes on with four of them, or in place in shared memory.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/cluster.cuh"
#include "hyena/kernels/cuda/half_complex.cuh"
#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/row.cuh"
#include "hyena/kernels/cuda/split_row.cuh"

namespace hyena::kernels::cuda {

// Of rows in registers (RowData) or of four points of each (Points).

struct Points {
  uint32_t re[2], im[2];
};

template <class Row>
__device__ __forceinline__ void butterfly(Row& x, Row& y) {
#pragma unroll
  for (int q = 0; q < kWords<Row>; ++q) {
    butterfly(x.re[q], y.re[q]);
    butterfly(x.im[q], y.im[q]);
  }
}
/// x, y <- x - i y, x + i y, or exchanged.
template <bool kInverse, class Row>
__device__ __forceinline__ void quarter_butterfly(Row& x, Row& y) {
#pragma unroll
  for (int q = 0; q < kWords<Row>; ++q) {
    const __half2 a = as_half2(x.re[q]);
    const __half2 b = as_half2(x.im[q]);
    const __half2 c = as_half2(y.re[q]);
    const __half2 d = as_half2(y.im[q]);
    Row& minus = kInverse ? y : x;
    Row& plus = kInverse ? x : y;
    minus.re[q] = as_word(__hadd2(a, d));
    minus.im[q] = as_word(__hsub2(b, c));
    plus.re[q] = as_word(__hsub2(a, d));
    plus.im[q] = as_word(__hadd2(b, c));
  }
}
// Radix c: value s where ClusterPlace::order says, and back.
template <class Row>
__device__ __forceinline__ void radix(Row (&x)[2]) {
  butterfly(x[0], x[1]);
}
template <class Row>
__device__ __forceinline__ void radix_back(Row (&x)[2]) {
  butterfly(x[0], x[1]);
}
template <class Row>
__device__ __forceinline__ void radix(Row (&x)[4]) {
  butterfly(x[0], x[2]);
  butterfly(x[1], x[3]);
  butterfly(x[0], x[1]);
  quarter_butterfly<false>(x[2], x[3]);
}
template <class Row>
__device__ __forceinline__ void radix_back(Row (&x)[4]) {
  butterfly(x[0], x[1]);
  butterfly(x[2], x[3]);
  butterfly(x[0], x[2]);
  quarter_butterfly<true>(x[1], x[3]);
}
/// x *= exp(-i pi tau / 4), or its conjugate.
template <int kTau, bool kConjugate, class Row>
__device__ __forceinline__ void eighth_turn(Row& x) {
  const __half2 root = __float2half2_rn(0.70710678F);
#pragma unroll
  for (int q = 0; q < kWords<Row>; ++q) {
    const __half2 a = as_half2(x.re[q]);
    const __half2 b = kConjugate ? __hneg2(as_half2(x.im[q])) : as_half2(x.im[q]);
    __half2 re;
    __half2 im;
    if (kTau == 1) {
      re = __hmul2(__hadd2(a, b), root);
      im = __hmul2(__hsub2(b, a), root);
    } else if (kTau == 2) {
      re = b;
      im = __hneg2(a);
    } else {
      re = __hmul2(__hsub2(b, a), root);
      im = __hmul2(__hadd2(a, b), __hneg2(root));
    }
    x.re[q] = as_word(re);
    x.im[q] = as_word(kConjugate ? __hneg2(im) : im);
  }
}
template <bool kConjugate, class Row>
__device__ __forceinline__ void eighth_turns(Row (&x)[4]) {
  eighth_turn<1, kConjugate>(x[1]);
  eighth_turn<2, kConjugate>(x[2]);
  eighth_turn<3, kConjugate>(x[3]);
}

__device__ __forceinline__ void radix(Points (&x)[8]) {
  Points odd[4];
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    butterfly(x[p], x[p + 4]);
    odd[p] = x[p + 4];
  }
  Points(&even)[4] = reinterpret_cast<Points(&)[4]>(x);
  radix(even);
  eighth_turns<false>(odd);
  radix(odd);
#pragma unroll
  for (int p = 0; p < 4; ++p)
    x[p + 4] = odd[p];
}
__device__ __forceinline__ void radix_back(Points (&x)[8]) {
  Points odd[4];
#pragma unroll
  for (int p = 0; p < 4; ++p)
    odd[p] = x[p + 4];
  Points(&even)[4] = reinterpret_cast<Points(&)[4]>(x);
  radix_back(even);
  radix_back(odd);
  eighth_turns<true>(odd);
#pragma unroll
  for (int p = 0; p < 4; ++p) {
    butterfly(x[p], odd[p]);
    x[p + 4] = odd[p];
  }
}

/// Two warps that share their k (c = 8).
__device__ __forceinline__ void pair_barrier(int warp) {
  asm volatile("bar.sync %0, 64;" ::"r"(8 + (warp >> 1)) : "memory");
}

constexpr uint32_t kHalfOnes = 0x3c003c00U;

/// Powers of two that make the scales of a row's tiles equal.
template <int kC>
struct TileFactors {
  uint32_t most, factor[kC];
  /// From biased exponents of all tiles in shared memory.
  __device__ __forceinline__ explicit TileFactors(uint32_t exponents) : most(0) {
#pragma unroll
    for (int tau = 0; tau < kC; ++tau) {
      factor[tau] = lds32(exponents + 4 * tau);
      most = max(most, factor[tau]);
    }
#pragma unroll
    for (int tau = 0; tau < kC; ++tau)
      factor[tau] = half_power(most - factor[tau]);
  }
  template <class Row>
  __device__ __forceinline__ void apply(Row& x, int tau) const {
    if (factor[tau] != kHalfOnes) shrink(x, factor[tau]);  // the same in all lanes, and mostly 1
  }
};

/// The four rows of a warp from `rows`, radix c. `at`: this lane's ldmatrix address in row k of
/// slice `rank`.
template <int kLogC>
__device__ __forceinline__ void load_rows(RowData (&x)[4], const ClusterPlace<kLogC>& place,
                                          uint32_t at, const TileFactors<1 << kLogC>& factors,
                                          int warp) {
  auto load = [&](RowData& to, int tau, int offset) {
    load_row(to, at + place.slice(tau) + offset);
    factors.apply(to, tau);
  };
  if constexpr (kLogC == 1) {
#pragma unroll
    for (int p = 0; p < 4; ++p)
      load(x[p], p & 1, (p >> 1) * 4096);
    butterfly(x[0], x[1]);
    butterfly(x[2], x[3]);
  } else if constexpr (kLogC == 2) {
#pragma unroll
    for (int p = 0; p < 4; ++p)
      load(x[p], p, 0);
    radix(x);
  } else {
    const bool odd = (warp & 1) != 0;
#pragma unroll
    for (int p = 0; p < 4; ++p) {
      RowData y;
      load(x[p], p, 0);
      load(y, p + 4, 0);
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const __half2 sign = __float2half2_rn(odd ? -1.F : 1.F);
        x[p].re[q] = as_word(__hfma2(as_half2(y.re[q]), sign, as_half2(x[p].re[q])));
        x[p].im[q] = as_word(__hfma2(as_half2(y.im[q]), sign, as_half2(x[p].im[q])));
      }
    }
    if (odd) eighth_turns<false>(x);
    radix(x);
    pair_barrier(warp);  // both warps have read: the rows may be overwritten
  }
}

/// Inverse radix c and back to the slices.
template <int kLogC>
__device__ __forceinline__ void store_rows(RowData (&x)[4], const ClusterPlace<kLogC>& place,
                                           uint32_t at, int planes_to_rows, int warp) {
  auto store = [&](const RowData& from, int tau, int offset) {
    const uint32_t to = at + place.back(tau, planes_to_rows) + offset;
    stmatrix_trans(to, from.re);
    stmatrix_trans(to + kPlaneBytes, from.im);
  };
  if constexpr (kLogC == 1) {
    butterfly(x[0], x[1]);
    butterfly(x[2], x[3]);
#pragma unroll
    for (int p = 0; p < 4; ++p)
      store(x[p], p & 1, (p >> 1) * 4096);
  } else if constexpr (kLogC == 2) {
    radix_back(x);
#pragma unroll
    for (int p = 0; p < 4; ++p)
      store(x[p], p, 0);
  } else {
    // The even warp has the sums over even s, the odd one those over odd s; the even warp finishes
    // tau = 0, 1, 4, 5, the odd one the others.
    radix_back(x);
    auto trade = [&]<bool kOdd>() {
      constexpr int kMine = kOdd ? 2 : 0;
      constexpr int kOther = 2 - kMine;
      if (kOdd) eighth_turns<true>(x);
#pragma unroll
      for (int p = 0; p < 2; ++p)
        store(x[kOther + p], kOther + p, 0);
      pair_barrier(warp);
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        RowData other;
        load_row(other, at + place.back(kMine + p, planes_to_rows));
        RowData& even = kOdd ? other : x[kMine + p];
        RowData& odd = kOdd ? x[kMine + p] : other;
        butterfly(even, odd);
        store(even, kMine + p, 0);
        store(odd, kMine + p + 4, 0);
      }
    };
    (warp & 1) != 0 ? trade.template operator()<true>() : trade.template operator()<false>();
  }
}

__device__ __forceinline__ void load_points(Points& x, uint32_t at) {
  const uint2 re = lds64(at);
  const uint2 im = lds64(at + kPlaneBytes);
  x.re[0] = re.x;
  x.re[1] = re.y;
  x.im[0] = im.x;
  x.im[1] = im.y;
}
__device__ __forceinline__ void store_points(const Points& x, uint32_t at) {
  sts64(at, x.re[0], x.re[1]);
  sts64(at + kPlaneBytes, x.im[0], x.im[1]);
}
/// Radix c over the slices in place, by 256 threads, four points of all tau at a time; a barrier
/// must follow.
template <int kLogC>
__device__ __forceinline__ void radix_slices(uint32_t rows, const TileFactors<1 << kLogC>& factors,
                                             int tid) {
  constexpr int kC = 1 << kLogC;
  constexpr int kSlice = ClusterPlace<kLogC>::kSlice;
#pragma unroll 1
  for (int at = 8 * tid; at < kSlice; at += 8 * kClusterThreads) {
    Points x[kC];
#pragma unroll
    for (int tau = 0; tau < kC; ++tau) {
      load_points(x[tau], rows + at + tau * kSlice);
      factors.apply(x[tau], tau);
    }
    radix(x);
#pragma unroll
    for (int p = 0; p < kC; ++p)
      store_points(x[p], rows + at + ClusterPlace<kLogC>::order(p) * kSlice);
  }
}

/// The way back; this block's own slice goes to `planes`.
template <int kLogC>
__device__ __forceinline__ void radix_slices_back(uint32_t rows, int planes_to_rows, int rank,
                                                  int tid) {
  constexpr int kC = 1 << kLogC;
  constexpr int kSlice = ClusterPlace<kLogC>::kSlice;
#pragma unroll 1
  for (int at = 8 * tid; at < kSlice; at += 8 * kClusterThreads) {
    Points x[kC];
#pragma unroll
    for (int p = 0; p < kC; ++p)
      load_points(x[p], rows + at + ClusterPlace<kLogC>::order(p) * kSlice);
    radix_back(x);
#pragma unroll
    for (int tau = 0; tau < kC; ++tau)
      store_points(x[tau], rows + at + tau * kSlice - (tau == rank ? planes_to_rows : 0));
  }
}

}  // namespace hyena::kernels::cuda
