// Constants of the transform, in the order in which the kernels load them.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

#include "hyena/kernels/cuda/spectrum_buffer.h"
#include "hyena/kernels/cuda/tile.cuh"

namespace hyena::kernels::cuda {

/// Power of two near 1 / sqrt(N1) inside the radix-N1 matrix; the two of a round trip and N1 leave
/// radix_fix to be multiplied back.
__host__ __device__ constexpr int radix_exponent(int log_n1) {
  return (log_n1 + 1) / 2;
}
__host__ __device__ constexpr float radix_fix(int log_n1) {
  return log_n1 % 2 != 0 ? 2.F : 1.F;
}

struct Complex64 {
  double re, im;
};

/// exp(-2 pi i numerator / denominator), the fraction reduced exactly.
__device__ inline Complex64 root(int64_t numerator, int64_t denominator) {
  Complex64 z;
  sincospi(-2.0 * static_cast<double>(numerator % denominator) / static_cast<double>(denominator),
           &z.im, &z.re);
  return z;
}

/// Radix-N1 matrix entry (k1, n1), right-angle: exp(-2 pi i n1 (k1 - 1/4) / N1); batch rows that
/// share a tile do not mix.
__device__ inline Complex64 radix_entry(int k, int n, int log_n1) {
  const int n1 = 1 << log_n1;
  if ((k >> log_n1) != (n >> log_n1)) return {0.0, 0.0};
  Complex64 z =
      root(static_cast<int64_t>(n & (n1 - 1)) * (4 * (k & (n1 - 1)) - 1) + 4LL * n1 * n1, 4LL * n1);
  const double s = 1.0 / (1 << radix_exponent(log_n1));
  return {s * z.re, s * z.im};
}

__device__ inline uint32_t half_pair(double lo, double hi) {
  const __half2 h = __halves2half2(__double2half(lo), __double2half(hi));
  return *reinterpret_cast<const uint32_t*>(&h);
}

/// 32-bit word `word` of the tables for rows of N1 x 256 points.
__device__ inline uint32_t table_word(int word, int log_n1) {
  const int n1 = 1 << log_n1;
  const bool full = n1 == kTileRows;
  const int vector = word >> 2;
  const int q = word & 3;
  const int lane = vector & 31;
  const int g = lane >> 2;
  const int t = lane & 3;
  double v[2];
  int u = vector;
  // As the 256-point twiddle below. The factor of k2 makes it symmetric, so that it serves both
  // ways; the way back takes it out again.
  if (u < kTileRows * 64 && !full) {
    const int k1 = u >> 6;
    if (k1 >= n1) return 0;
    for (int e = 0; e < 2; ++e) {
      const int k2 = pi(g + 8 * (q & 1));
      const int n3 = pi(8 * (q >> 1) + 2 * t + e);
      const int64_t period = 1024LL * n1;
      const Complex64 z = root(4LL * n1 * k2 * n3 + (k2 + n3) * (4LL * k1 - 1) + period, period);
      v[e] = (u & 32) != 0 ? z.im : z.re;
    }
    return half_pair(v[0], v[1]);
  }
  if (u < kTileRows * 64) {  // q = 2 a + h: pair n2 = pi(8 h + 2 t + e), n3 = pi(8 a + g)
    const int k1 = u >> 6;
    for (int e = 0; e < 2; ++e) {
      const int m = 16 * pi(8 * (q & 1) + 2 * t + e) + pi(8 * (q >> 1) + g);
      const int64_t period = 4LL * 256 * n1;
      const Complex64 z = root(static_cast<int64_t>(m) * (4 * k1 - 1) + period, period);
      v[e] = (u & 32) != 0 ? z.im : z.re;
    }
    return half_pair(v[0], v[1]);
  }
  u -= kTileRows * 64;
  if (u < 256) {
    const bool transposed = u >= 128;
    const int part = (u >> 6) & 1;
    const int h = (u >> 5) & 1;
    const int r = g + 8 * (q & 1);
    const int k = 2 * t + 8 * (q >> 1);
    for (int e = 0; e < 2; ++e) {
      Complex64 z;
      if (transposed) {
        z = radix_entry(k + e, full ? 16 * (q & 1) + 2 * g + h : 16 * h + 8 * (q & 1) + sigma(g),
                        log_n1);
      } else {
        z = radix_entry(
            r, full ? 16 * (q >> 1) + 2 * t + h + 8 * e : 16 * h + 8 * (q >> 1) + sigma(2 * t + e),
            log_n1);
      }
      v[e] = part != 0 ? z.im : z.re;
    }
    return half_pair(v[0], v[1]);
  }
  u -= 256;
  if (u < 160) {  // core matrices of 8 rows n x 8 columns k
    const int block = u >> 5;
    const int n = 8 * ((u >> 4) & 1) + (u & 7);
    const int k = 8 * ((u >> 3) & 1) + 2 * q;
    for (int e = 0; e < 2; ++e) {
      const Complex64 z = root(pi(n) * pi(k + e), 16);
      v[e] = 0.25 * ((block & 1) != 0 ? z.re : block == 2 ? z.im : -z.im);
    }
    return half_pair(v[0], v[1]);
  }
  u -= 160;
  if (u >= 160) {
    u -= 160;
    const bool transposed = u >= kTileRows * 32;
    const int row = (u >> 6) & 15;  // k1, or n2
    for (int e = 0; e < 2; ++e) {
      const int64_t period = 64LL * n1;
      const int column = 2 * t + 8 * (q >> 1) + e;
      Complex64 z;
      if (transposed) {
        const Complex64 f = radix_entry(column, 8 * (q & 1) + sigma(g), log_n1);
        const Complex64 w = root(row * (4LL * (column & (n1 - 1)) - 1) + period, period);
        z = {f.re * w.re - f.im * w.im, f.re * w.im + f.im * w.re};
      } else {
        const int k2 = pi(g + 8 * (q & 1));
        z = root(pi(column) * (4LL * (n1 * k2 + row) - 1) + period, period);
        z = {0.25 * z.re, 0.25 * z.im};
      }
      v[e] = (u & 32) != 0 ? z.im : z.re;
    }
    return half_pair(v[0], v[1]);
  }
  u >>= 5;
  for (int e = 0; e < 2; ++e) {
    if (u < 3) {
      const Complex64 z = root(pi(g + 8 * (q & 1)) * pi(2 * t + 8 * (q >> 1) + e), 16);
      v[e] = 0.25 * (u == 0 ? z.re : u == 1 ? z.im : -z.im);
    } else {
      const Complex64 z = root(pi(g + 8 * (q & 1)) * pi(8 * (q >> 1) + 2 * t + e), 256);
      v[e] = u == 3 ? z.re : z.im;
    }
  }
  return half_pair(v[0], v[1]);
}

}  // namespace hyena::kernels::cuda
