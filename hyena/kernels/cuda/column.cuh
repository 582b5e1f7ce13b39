// Column phases: short convolution and gate, and the radix-N1 transform across the rows of a tile.
//
// A team of warps owns a tile (Tile); a warp owns 32 or 64 adjacent times of every row.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/half_complex.cuh"
#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/spectrum_buffer.h"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

/// Three taps from the oldest to now, and a bias.
struct Fir {
  float w0, w1, w2, bias;
  __device__ __forceinline__ Fir(float v0, float v1, float v2, float b)
      : w0(v0), w1(v1), w2(v2), bias(b) {}
  __device__ __forceinline__ explicit Fir(uint32_t smem) {
    const uint4 u = lds128(smem);
    w0 = __uint_as_float(u.x);
    w1 = __uint_as_float(u.y);
    w2 = __uint_as_float(u.z);
    bias = __uint_as_float(u.w);
  }
  __device__ __forceinline__ void scale(float s) {
    w0 *= s;
    w1 *= s;
    w2 *= s;
    bias *= s;
  }
  __device__ __forceinline__ float operator()(const float* x) const {
    return fmaf(w2, x[2], fmaf(w1, x[1], fmaf(w0, x[0], bias)));
  }
};

/// Two halo elements and four adjacent ones as floats.
template <class T>
__device__ __forceinline__ void widen(float (&f)[6], uint32_t halo, uint2 x) {
  using E = Element<T>;
  f[0] = E::lo(halo);
  f[1] = E::hi(halo);
  f[2] = E::lo(x.x);
  f[3] = E::hi(x.x);
  f[4] = E::lo(x.y);
  f[5] = E::hi(x.y);
}

/// z = FIR_a(first input) * FIR_b(second input), or * second input itself (!kBothFiltered).
/// `starts(s)`: this lane's first value at step s is the first of its row, zeros come before it.
template <class T, bool kBothFiltered, class Address, class Starts>
__device__ __forceinline__ void gate_tile(float (&z)[4][2][4], const Address& in,
                                          uint32_t buffer_offset, const Fir& fa, const Fir& fb,
                                          Starts starts) {
  using E = Element<T>;
#pragma unroll
  for (int s = 0; s < 4; ++s)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const uint32_t at = in.times(s, e) + buffer_offset;
      const uint32_t before = in.halo(s, e) + buffer_offset;
      const bool edge = e == 0 && starts(s);
      const uint2 xa = lds64(at);
      const uint2 xb = lds64(at + Address::kInputBytes);
      uint32_t ha = lds32(before);
      if (edge) ha = 0U;
      float a[6];
      widen<T>(a, ha, xa);
      float b[4] = {E::lo(xb.x), E::hi(xb.x), E::lo(xb.y), E::hi(xb.y)};
      if (kBothFiltered) {
        uint32_t hb = lds32(before + Address::kInputBytes);
        if (edge) hb = 0U;
        float c[6];
        widen<T>(c, hb, xb);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          b[j] = fb(c + j);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j)
        z[s][e][j] = fa(a + j) * b[j];
    }
}

/// Gated values, scaled, as operands of the radix: pairs of rows e = 0, 1.
__device__ __forceinline__ void scaled_operands(uint32_t (&zb)[4][4], const float (&z)[4][2][4],
                                                float up) {
#pragma unroll
  for (int s = 0; s < 4; ++s)
#pragma unroll
    for (int j = 0; j < 4; ++j)
      zb[j][s] = pack_half(z[s][0][j] * up, z[s][1][j] * up);
}

struct NoTail {
  __device__ __forceinline__ void operator()(float (&)[4][4], int) const {}
};

/// Radix N1 over n1 of real input; the result goes to the exchange buffer at `store`.
/// zb[j][s]: operand pairs (rows e = 0, 1) of time j. `f`: the matrix, fragments [re, im][half].
/// `block_bytes`: from one eight of k1 to the next. `imaginary(x, first)` may add to the imaginary
/// parts of n1 = 0: x[j] are the accumulators of rows k1 from `first` on, of the warp's first
/// times.
template <bool kFull, class Imaginary = NoTail>
__device__ __forceinline__ void radix_forward(const uint32_t (&zb)[4][4], const uint4 (&f)[4],
                                              uint32_t store, int block_bytes = 4096,
                                              Imaginary imaginary = {}) {
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const uint32_t f0[4] = {f[2 * c].x, f[2 * c].y, f[2 * c].z, f[2 * c].w};
    const uint32_t f1[4] = {f[2 * c + 1].x, f[2 * c + 1].y, f[2 * c + 1].z, f[2 * c + 1].w};
    float even[4][4];  // N1 = 32: even and odd n1; otherwise first and second half of the times
    float odd[4][4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      mma_first(even[j], f0, zb[j][0], zb[j][1]);
      if (kFull) {
        mma_first(odd[j], f1, zb[j][2], zb[j][3]);
      } else {
        mma_first(odd[j], f0, zb[j][2], zb[j][3]);
      }
    }
    if (c == 1) imaginary(even, 0);
    auto words = [](uint32_t(&w)[4], const float(&x)[4][4], int r) {
      w[0] = pack_half(x[0][2 * r], x[1][2 * r]);
      w[1] = pack_half(x[2][2 * r], x[3][2 * r]);
      w[2] = pack_half(x[0][2 * r + 1], x[1][2 * r + 1]);
      w[3] = pack_half(x[2][2 * r + 1], x[3][2 * r + 1]);
    };
    auto put = [&](uint32_t at, int block, const uint32_t(&w)[4]) {  // row k1 = 8 block + g
      const uint32_t offset = c * Tile<kFull>::kPlaneBytes + block * block_bytes;
      sts64(at + offset, w[0], w[2]);
      sts64((at ^ 16) + offset, w[1], w[3]);
    };
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      uint32_t w[4];
      uint32_t v[4];
      words(w, even, r);
      words(v, odd, r);
      if (kFull) {
#pragma unroll
        for (int q = 0; q < 4; ++q)
          butterfly(w[q], v[q]);
      }
      put(store, r, w);
      put(kFull ? store : store ^ 64, kFull ? 2 + r : r, v);
    }
  }
}

/// The matrix of the inverse radix N1 as A operands: f[re, im][half] (kFull), or f[re, im][n2] of
/// step i, where it holds the part of the first twiddle that depends on n2.
template <bool kFull>
__device__ __forceinline__ void load_inverse_matrix(uint4 (&f)[2][2], const Tables* tables,
                                                    int warp, int i, int lane) {
#pragma unroll
  for (int q = 0; q < 4; ++q)
    f[q >> 1][q & 1] = ldg128(
        kFull ? &tables->radix_t[q * 32 + lane]
              : &tables->radix_t_of[((4 * warp + 2 * i + (q & 1)) * 2 + (q >> 1)) * 32 + lane]);
}

/// Rows of the exchange buffer as operands of the inverse radix N1, of both steps i (kFull) or of
/// one: [n2][chunk][k1 block].
template <bool kFull>
struct InverseOperand {
  static constexpr int kWords = kFull ? 4 : 2;
  uint32_t re[2][2][kWords], im[2][2][kWords];
  __device__ __forceinline__ explicit InverseOperand(uint32_t load) {
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      if constexpr (kFull) {
#pragma unroll
        for (int c = 0; c < 2; ++c) {
          const uint32_t at = load ^ (32 * q + 16 * c);
          ldmatrix_trans(re[q][c], at);
          ldmatrix_trans(im[q][c], at + kPlaneBytes);
#pragma unroll
          for (int i = 0; i < 2; ++i) {  // k1, k1 + 16: their sum serves even n1, the rest odd n1
            butterfly(re[q][c][i], re[q][c][2 + i]);
            butterfly(im[q][c][i], im[q][c][2 + i]);
          }
        }
      } else {
        auto get = [](uint32_t(&x)[2][2], uint32_t at) {
          uint32_t w[4];
          ldmatrix_trans(w, at);
#pragma unroll
          for (int c = 0; c < 2; ++c) {
            x[c][0] = w[2 * c];
            x[c][1] = w[2 * c + 1];
          }
        };
        get(re[q], load ^ (32 * q));
        get(im[q], (load ^ (32 * q)) + Tile<false>::kPlaneBytes);
      }
    }
  }
  /// First of the words of step i.
  static __device__ __forceinline__ constexpr int first(int i) {
    return kFull ? 2 * i : 0;
  }
  /// Imaginary part of the inverse for rows (i, r = 0, 1): acc[j >> 1][2 r + (j & 1)] is time 4 t +
  /// j.
  __device__ __forceinline__ void imaginary(float (&acc)[2][4], const uint4 (&f)[2][2],
                                            int i) const {
    const uint4 v = f[0][kFull ? i : 0];
    const uint4 w = f[1][kFull ? i : 0];
    const uint32_t a[4] = {v.x, v.y, v.z, v.w};
    const uint32_t b[4] = {w.x ^ 0x80008000U, w.y ^ 0x80008000U, w.z ^ 0x80008000U,
                           w.w ^ 0x80008000U};
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      mma_first(acc[h], a, im[0][h][first(i)], im[0][h][first(i) + 1]);
      mma(acc[h], b, re[0][h][first(i)], re[0][h][first(i) + 1]);
    }
  }
  /// Real part of the inverse for rows (i, r = 0, 1): acc[q][j >> 1][2 r + (j & 1)] is time
  /// 16 q + 4 t + j of output row (i, r). `f`: load_inverse_matrix.
  __device__ __forceinline__ void multiply(float (&acc)[2][2][4], const uint4 (&f)[2][2],
                                           int i) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
#pragma unroll
      for (int q = 0; q < 2; ++q) {
        const uint4 v = f[c][kFull ? i : q];
        const uint32_t a[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          if (c == 0) {
            mma_first(acc[q][h], a, re[q][h][first(i)], re[q][h][first(i) + 1]);
          } else {
            mma(acc[q][h], a, im[q][h][first(i)], im[q][h][first(i) + 1]);
          }
        }
      }
    }
  }
};

/// The operands of step i < 2: both steps' at once (kFull), or each when its turn comes.
template <bool kFull>
struct StepOperands;
template <>
struct StepOperands<true> {
  InverseOperand<true> both;
  __device__ __forceinline__ explicit StepOperands(uint32_t load) : both(load) {}
  __device__ __forceinline__ const InverseOperand<true>& operator()(int) const { return both; }
};
template <>
struct StepOperands<false> {
  uint32_t load;
  __device__ __forceinline__ explicit StepOperands(uint32_t at) : load(at) {}
  __device__ __forceinline__ InverseOperand<false> operator()(int i) const {
    return InverseOperand<false>(load ^ (64 * i));
  }
};

}  // namespace hyena::kernels::cuda
