// Row phase: 256 points of one k1, in the registers of one warp.
//
// An accumulator tile C[r][c] is, as it stands, the A operand of a product over c and the B operand
// of a product over c (transposed), so nothing is shuffled: forward const x data, data x const;
// inverse the same again, because it starts with the last forward digit. The "data x const"
// products are wgmma, whose constant operand lies in shared memory, or column_dft, warp by warp
// with the constant in registers: which of them costs less differs from kernel to kernel
// (workbench/cuda/README.md).
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/half_complex.cuh"
#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

/// DFT16 / 4, which may have a diagonal beside it, as A operand, per lane; without one it is
/// symmetric, and these are its fragments as operand B too.
struct DftMatrix {
  uint32_t re[4], im[4], minus_im[4];
};
/// The same with the 256-point twiddle.
struct RowConstants : DftMatrix {
  uint32_t twiddle_re[4], twiddle_im[4];
};

/// This lane's constants from shared memory, where the tables' `row` begins at `table`.
__device__ __forceinline__ void load_row_constants(RowConstants& k, uint32_t table, int lane) {
  const uint32_t at = table + 16 * lane;
  lds128(k.re, at);
  lds128(k.im, at + 512);
  lds128(k.minus_im, at + 1024);
  lds128(k.twiddle_re, at + 1536);
  lds128(k.twiddle_im, at + 2048);
}

/// A pair of pair words in fragment order: real and imaginary parts of 8 values.
struct RowData {
  uint32_t re[4], im[4];
};

/// No-swizzle descriptor of the DFT16 blocks: core matrices 128 bytes apart along K, 256 along N.
/// In a cluster the block's rank stands above the 18 bits of an address in shared memory.
__device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t blocks) {
  return static_cast<uint64_t>((blocks & 0x3ffffU) >> 4) | (static_cast<uint64_t>(128 >> 4) << 16) |
         (static_cast<uint64_t>(256 >> 4) << 32);
}
// Block pairs for wgmma_complex: DFT16 is [re, im | -im, re], its conjugate [re, -im | im, re].
constexpr int kForwardFirst = 512 >> 4;
constexpr int kForwardSecond = 0;
constexpr int kInverseFirst = 1536 >> 4;
constexpr int kInverseSecond = 1024 >> 4;

/// kImaginary: bytes from the real to the imaginary parts.
template <int kImaginary = kPlaneBytes>
__device__ __forceinline__ void load_row(RowData& x, uint32_t at) {
  ldmatrix_trans(x.re, at);
  ldmatrix_trans(x.im, at + kImaginary);
}

__device__ __forceinline__ void load_fragment(RowData& x, const uint4* from) {
  const uint4 re = ldg128(from);
  const uint4 im = ldg128(from + 32);
  x.re[0] = re.x;
  x.re[1] = re.y;
  x.re[2] = re.z;
  x.re[3] = re.w;
  x.im[0] = im.x;
  x.im[1] = im.y;
  x.im[2] = im.z;
  x.im[3] = im.w;
}

/// The matrix that short_row_forward takes, from `first` of the tables.
__device__ __forceinline__ void first_matrix(DftMatrix& a, const RowData& x) {
#pragma unroll
  for (int q = 0; q < 4; ++q) {
    a.re[q] = x.re[q];
    a.im[q] = x.im[q];
    a.minus_im[q] = x.im[q] ^ 0x80008000U;
  }
}

/// x <- DFT16 x, over the digit that the registers' order makes the rows of operand B.
/// kHalf: sums in fp16, so that nothing has to be packed; each is rounded twice instead of once.
template <bool kHalf, bool kInverse>
__device__ __forceinline__ void row_dft(RowData& x, const DftMatrix& k) {
  const uint32_t(&im_to_re)[4] = kInverse ? k.im : k.minus_im;
  const uint32_t(&re_to_im)[4] = kInverse ? k.minus_im : k.im;
  constexpr int kFirst = kInverse ? 1 : 2;  // register of column block q: kFirst q, and + kSecond
  constexpr int kSecond = kInverse ? 2 : 1;
  if constexpr (kHalf) {
    RowData y;
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      mma_half_first(y.re + 2 * q, k.re, x.re[kFirst * q], x.re[kFirst * q + kSecond]);
      mma_half_first(y.im + 2 * q, re_to_im, x.re[kFirst * q], x.re[kFirst * q + kSecond]);
    }
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      mma_half(y.re + 2 * q, im_to_re, x.im[kFirst * q], x.im[kFirst * q + kSecond]);
      mma_half(y.im + 2 * q, k.re, x.im[kFirst * q], x.im[kFirst * q + kSecond]);
    }
    x = y;
  } else {
    float cr[2][4];
    float ci[2][4];
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      mma_first(cr[q], k.re, x.re[kFirst * q], x.re[kFirst * q + kSecond]);
      mma_first(ci[q], re_to_im, x.re[kFirst * q], x.re[kFirst * q + kSecond]);
    }
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      mma(cr[q], im_to_re, x.im[kFirst * q], x.im[kFirst * q + kSecond]);
      mma(ci[q], k.re, x.im[kFirst * q], x.im[kFirst * q + kSecond]);
    }
#pragma unroll
    for (int q = 0; q < 2; ++q)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        x.re[2 * q + r] = pack_half(cr[q][2 * r], cr[q][2 * r + 1]);
        x.im[2 * q + r] = pack_half(ci[q][2 * r], ci[q][2 * r + 1]);
      }
  }
}

/// y = x DFT16 (or its conjugate), over the digit that the registers' order makes the columns of
/// operand A. Sums in fp16.
template <bool kInverse>
__device__ __forceinline__ void column_dft(RowData& y, const RowData& x, const RowConstants& k) {
  const uint32_t(&im_to_re)[4] = kInverse ? k.im : k.minus_im;
  const uint32_t(&re_to_im)[4] = kInverse ? k.minus_im : k.im;
#pragma unroll
  for (int q = 0; q < 2; ++q) {  // columns 8 q ..
    mma_half_first(y.re + 2 * q, x.re, k.re[q], k.re[q + 2]);
    mma_half_first(y.im + 2 * q, x.re, re_to_im[q], re_to_im[q + 2]);
  }
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    mma_half(y.re + 2 * q, x.im, im_to_re[q], im_to_re[q + 2]);
    mma_half(y.im + 2 * q, x.im, k.re[q], k.re[q + 2]);
  }
}
/// The same, sums in float32.
template <bool kInverse>
__device__ __forceinline__ void column_dft(float (&yr)[2][4], float (&yi)[2][4], const RowData& x,
                                           const RowConstants& k) {
  const uint32_t(&im_to_re)[4] = kInverse ? k.im : k.minus_im;
  const uint32_t(&re_to_im)[4] = kInverse ? k.minus_im : k.im;
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    mma_first(yr[q], x.re, k.re[q], k.re[q + 2]);
    mma_first(yi[q], x.re, re_to_im[q], re_to_im[q + 2]);
  }
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    mma(yr[q], x.im, im_to_re[q], im_to_re[q + 2]);
    mma(yi[q], x.im, k.re[q], k.re[q + 2]);
  }
}

template <bool kConjugate>
__device__ __forceinline__ void row_product(RowData& x, const RowData& factor) {
#pragma unroll
  for (int q = 0; q < 4; ++q)
    multiply<kConjugate>(x.re[q], x.im[q], factor.re[q], factor.im[q]);
}

/// First twiddle, DFT over n2, 256-point twiddle. The DFT over n3 must follow.
template <bool kHalf = false>
__device__ __forceinline__ void row_forward(RowData& x, const RowData& twist,
                                            const RowConstants& k) {
#pragma unroll
  for (int q = 0; q < 4; ++q)
    multiply<false>(x.re[q], x.im[q], twist.re[q], twist.im[q]);
  row_dft<kHalf, false>(x, k);
#pragma unroll
  for (int q = 0; q < 4; ++q)
    multiply<false>(x.re[q], x.im[q], k.twiddle_re[q], k.twiddle_im[q]);
}

/// Rows that share a tile: the first twiddle is in the matrix, as far as it depends on n2, and in
/// the 256-point twiddle.
__device__ __forceinline__ void short_row_forward(RowData& x, const DftMatrix& first,
                                                  const RowData& twiddle) {
  row_dft<true, false>(x, first);
  row_product<false>(x, twiddle);
}
/// Inverse DFT over k3 and twiddle; what depends on n2 is left to the inverse radix N1. The DFT
/// over k2 must follow.
__device__ __forceinline__ void short_row_inverse(RowData& x, const DftMatrix& k,
                                                  const RowData& twiddle) {
  row_dft<true, true>(x, k);
  row_product<true>(x, twiddle);
}

/// Times the spectrum (or its conjugate).
template <bool kConjugate>
__device__ __forceinline__ void row_product(RowData& x, const float (&cr)[2][4],
                                            const float (&ci)[2][4], const RowData& spectrum) {
#pragma unroll
  for (int q = 0; q < 2; ++q)
#pragma unroll
    for (int r = 0; r < 2; ++r)
      pack_multiply<kConjugate>(x.re[2 * q + r], x.im[2 * q + r], cr[q][2 * r], cr[q][2 * r + 1],
                                ci[q][2 * r], ci[q][2 * r + 1], spectrum.re[2 * q + r],
                                spectrum.im[2 * q + r]);
}

/// Inverse DFT over k3 and 256-point twiddle. The one over k2 must follow.
template <bool kHalf = false>
__device__ __forceinline__ void row_inverse(RowData& x, const RowConstants& k) {
  row_dft<kHalf, true>(x, k);
#pragma unroll
  for (int q = 0; q < 4; ++q)
    multiply<true>(x.re[q], x.im[q], k.twiddle_re[q], k.twiddle_im[q]);
}

/// Conjugate first twiddle: accumulators to what ldmatrix brought.
__device__ __forceinline__ void untwist_row(RowData& x, const float (&cr)[2][4],
                                            const float (&ci)[2][4], const RowData& twist) {
#pragma unroll
  for (int q = 0; q < 2; ++q)
#pragma unroll
    for (int r = 0; r < 2; ++r)
      pack_multiply<true>(x.re[2 * r + q], x.im[2 * r + q], cr[q][2 * r], cr[q][2 * r + 1],
                          ci[q][2 * r], ci[q][2 * r + 1], twist.re[2 * r + q], twist.im[2 * r + q]);
}

__device__ __forceinline__ void untwist_row(RowData& x, const RowData& y, const RowData& twist) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {  // 2 q + r to 2 r + q
    const int from = (i & 1) * 2 + (i >> 1);
    x.re[i] = y.re[from];
    x.im[i] = y.im[from];
    multiply<true>(x.re[i], x.im[i], twist.re[i], twist.im[i]);
  }
}

/// The same, and back to the exchange buffer.
template <int kImaginary = kPlaneBytes>
__device__ __forceinline__ void store_row(const float (&cr)[2][4], const float (&ci)[2][4],
                                          const RowData& twist, uint32_t at) {
  RowData x;
  untwist_row(x, cr, ci, twist);
  stmatrix_trans(at, x.re);
  stmatrix_trans(at + kImaginary, x.im);
}

template <int kImaginary = kPlaneBytes>
__device__ __forceinline__ void store_row(const RowData& y, const RowData& twist, uint32_t at) {
  RowData x;
  untwist_row(x, y, twist);
  stmatrix_trans(at, x.re);
  stmatrix_trans(at + kImaginary, x.im);
}

/// Back to the exchange buffer as it is (rows that share a tile).
template <int kImaginary>
__device__ __forceinline__ void store_short_row(const RowData& y, uint32_t at) {
  const uint32_t re[4] = {y.re[0], y.re[2], y.re[1], y.re[3]};  // 2 q + r to 2 r + q
  const uint32_t im[4] = {y.im[0], y.im[2], y.im[1], y.im[3]};
  stmatrix_trans(at, re);
  stmatrix_trans(at + kImaginary, im);
}
template <int kImaginary>
__device__ __forceinline__ void store_short_row(const float (&cr)[2][4], const float (&ci)[2][4],
                                                uint32_t at) {
  RowData y;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    y.re[i] = pack_half(cr[i >> 1][2 * (i & 1)], cr[i >> 1][2 * (i & 1) + 1]);
    y.im[i] = pack_half(ci[i >> 1][2 * (i & 1)], ci[i >> 1][2 * (i & 1) + 1]);
  }
  store_short_row<kImaginary>(y, at);
}

}  // namespace hyena::kernels::cuda
