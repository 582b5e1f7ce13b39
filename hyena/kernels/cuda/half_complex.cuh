// Pairs of complex values in half precision, and the 16-bit elements of tensors.
//
// A "pair word" holds two halves; complex data lies in two of them, real and imaginary.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace hyena::kernels::cuda {

__device__ __forceinline__ __half2 as_half2(uint32_t u) {
  return *reinterpret_cast<__half2*>(&u);
}
__device__ __forceinline__ uint32_t as_word(__half2 h) {
  return *reinterpret_cast<uint32_t*>(&h);
}
__device__ __forceinline__ uint32_t pack_half(float lo, float hi) {
  return as_word(__floats2half2_rn(lo, hi));
}

/// x *= (tr + i ti), or its conjugate. Two roundings per component: 2^-11 |x| each.
template <bool kConjugate>
__device__ __forceinline__ void multiply(uint32_t& xr, uint32_t& xi, uint32_t tr, uint32_t ti) {
  const __half2 a = as_half2(xr);
  const __half2 b = as_half2(xi);
  const __half2 c = as_half2(tr);
  const __half2 d = kConjugate ? __hneg2(as_half2(ti)) : as_half2(ti);
  xr = as_word(__hfma2(a, c, __hneg2(__hmul2(b, d))));
  xi = as_word(__hfma2(a, d, __hmul2(b, c)));
}
/// Accumulators to a pair word, times a factor or its conjugate.
template <bool kConjugate>
__device__ __forceinline__ void pack_multiply(uint32_t& xr, uint32_t& xi, float re0, float re1,
                                              float im0, float im1, uint32_t tr, uint32_t ti) {
  xr = pack_half(re0, re1);
  xi = pack_half(im0, im1);
  multiply<kConjugate>(xr, xi, tr, ti);
}
/// x, y <- x + y, x - y.
__device__ __forceinline__ void butterfly(uint32_t& x, uint32_t& y) {
  const __half2 u = as_half2(x);
  const __half2 v = as_half2(y);
  x = as_word(__hadd2(u, v));
  y = as_word(__hsub2(u, v));
}

/// How two elements of a tensor in one word become floats, and back.
template <class T>
struct Element;
template <>
struct Element<__nv_bfloat16> {
  static __device__ __forceinline__ float lo(uint32_t u) { return __uint_as_float(u << 16); }
  static __device__ __forceinline__ float hi(uint32_t u) {
    return __uint_as_float(u & 0xffff0000U);
  }
  static __device__ __forceinline__ uint32_t pack(float a, float b) {
    const __nv_bfloat162 v = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<const uint32_t*>(&v);
  }
};
template <>
struct Element<__half> {
  static __device__ __forceinline__ float lo(uint32_t u) { return __low2float(as_half2(u)); }
  static __device__ __forceinline__ float hi(uint32_t u) { return __high2float(as_half2(u)); }
  static __device__ __forceinline__ uint32_t pack(float a, float b) { return pack_half(a, b); }
};

}  // namespace hyena::kernels::cuda
