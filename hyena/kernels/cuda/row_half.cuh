// Row phase with fp16 accumulators: what a product leaves is the operand of the next, unpacked.
//
// As row.cuh, but every sum of two products (real and imaginary parts) is rounded twice instead of
// once: two roundings of 2^-11 more in a round trip (docs/math/cuda_numerics.md). Half the
// registers of the accumulators and no conversions, so a warp keeps two rows in flight.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/row.cuh"

namespace hyena::kernels::cuda {

/// First twiddle, DFT over n2, 256-point twiddle. The DFT over n3 (wgmma) must follow.
__device__ __forceinline__ void row_forward_half(RowData& x, const RowData& twist,
                                                 const RowConstants& k) {
#pragma unroll
  for (int q = 0; q < 4; ++q)
    multiply<false>(x.re[q], x.im[q], twist.re[q], twist.im[q]);
  RowData y;
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    mma_half_first(y.re + 2 * q, k.re, x.re[2 * q], x.re[2 * q + 1]);
    mma_half_first(y.im + 2 * q, k.im, x.re[2 * q], x.re[2 * q + 1]);
  }
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    mma_half(y.re + 2 * q, k.minus_im, x.im[2 * q], x.im[2 * q + 1]);
    mma_half(y.im + 2 * q, k.re, x.im[2 * q], x.im[2 * q + 1]);
  }
  x = y;
#pragma unroll
  for (int q = 0; q < 4; ++q)
    multiply<false>(x.re[q], x.im[q], k.twiddle_re[q], k.twiddle_im[q]);
}

/// Times the spectrum (or its conjugate).
template <bool kConjugate>
__device__ __forceinline__ void row_product_half(RowData& x, const RowData& spectrum) {
#pragma unroll
  for (int q = 0; q < 4; ++q)
    multiply<kConjugate>(x.re[q], x.im[q], spectrum.re[q], spectrum.im[q]);
}

/// Inverse DFT over k3 and 256-point twiddle. The one over k2 (wgmma) must follow.
__device__ __forceinline__ void row_inverse_half(RowData& x, const RowConstants& k) {
  RowData y;
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    mma_half_first(y.re + 2 * q, k.re, x.re[q], x.re[q + 2]);
    mma_half_first(y.im + 2 * q, k.minus_im, x.re[q], x.re[q + 2]);
  }
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    mma_half(y.re + 2 * q, k.im, x.im[q], x.im[q + 2]);
    mma_half(y.im + 2 * q, k.re, x.im[q], x.im[q + 2]);
  }
  x = y;
#pragma unroll
  for (int q = 0; q < 4; ++q)
    multiply<true>(x.re[q], x.im[q], k.twiddle_re[q], k.twiddle_im[q]);
}

/// Conjugate first twiddle, and back to the exchange buffer.
template <int kImaginary = kPlaneBytes>
__device__ __forceinline__ void store_row_half(const RowData& y, const RowData& twist,
                                               uint32_t at) {
  RowData x;
#pragma unroll
  for (int q = 0; q < 2; ++q)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      x.re[2 * r + q] = y.re[2 * q + r];
      x.im[2 * r + q] = y.im[2 * q + r];
      multiply<true>(x.re[2 * r + q], x.im[2 * r + q], twist.re[2 * r + q], twist.im[2 * r + q]);
    }
  stmatrix_trans(at, x.re);
  stmatrix_trans(at + kImaginary, x.im);
}

}  // namespace hyena::kernels::cuda
