// Where the points of a tile lie: in shared memory, in the exchange buffer, in the spectrum.
//
// A tile is rows of 256 points of one channel: 32 of one batch row of 8192 points, or 16 that 16 /
// N1 shorter batch rows share (N1 rows each; half the points, so that half the warps meet at a
// barrier). Longer rows: split_tile.cuh.
//
//   time       n = 256 n1 + 16 n2 + n3                       n1 < N1, n2, n3 < 16
//   frequency  k = k1 + N1 k2 + 16 N1 k3                     right-angle spectrum of N1 x 256
//   points input      [4 blocks of 64 times][rows][128 bytes], 16-byte chunks XORed with the row
//   exchange   two planes (real, imaginary) of [rows k1][256] halves, chunks XORed (swizzle_*)
//   spectrum   [k1][real, imaginary][lane] uint4: what a lane multiplies, in its order
//
// Sixteen-point digits are stored in the order pi, which keeps the DFT matrix and the 256-point
// twiddle symmetric: one register fragment serves both directions and both operand sides.
#pragma once

#include <cstdint>

#include "hyena/kernels/cuda/ptx.cuh"
#include "hyena/kernels/cuda/spectrum_buffer.h"
#include "hyena/kernels/cuda/tensor.h"

namespace hyena::kernels::cuda {

constexpr int kInputBytes = 2 * kTilePoints;  // one channel of a tile
constexpr int kPlaneBytes = 2 * kTilePoints;  // real or imaginary plane of the exchange buffer
constexpr int kExchangeBytes = 2 * kPlaneBytes;

/// A tile of 32 rows (kFull) or 16, and the warps that share its column phases.
template <bool kFull>
struct Tile {
  static constexpr int kRows = kFull ? kTileRows : kTileRows / 2;
  static constexpr int kThreads = kFull ? 256 : 128;
  static constexpr int kTimes = kFull ? 32 : 64;  // of every row, per warp
  static constexpr int kPoints = 256 * kRows;
  static constexpr int kInputBytes = 2 * kPoints;
  static constexpr int kPlaneBytes = 2 * kPoints;
  static constexpr int kExchangeBytes = 2 * kPlaneBytes;
  /// Which 32 times of every row a warp's step i < 2 has in the last column phase.
  static __device__ __forceinline__ int segment(int warp, int i) {
    return kFull ? warp : 2 * warp + i;
  }
};

/// The order of 16-point digits.
__host__ __device__ constexpr int pi(int i) {
  return 4 * ((i & 7) >> 1) + 2 * (i >> 3) + (i & 1);
}

/// The order of rows within eight that keeps both column phases free of bank conflicts. Bit 2 of
/// sigma(p) is bit 1 of p.
__host__ __device__ constexpr int sigma(int p) {
  return (((p >> 1) & 1) << 2) | (((p ^ (p >> 2)) & 1) << 1) | (p & 1);
}

// 16-byte chunk c (= 2 n2 + a) of exchange row k1 is stored at chunk c ^ both of these.
__device__ __forceinline__ int swizzle_n2(int n2) {
  return ((n2 >> 2) & 1) | (((n2 >> 3) & 1) << 2);
}
__device__ __forceinline__ int swizzle_k1(int k1) {
  return ((k1 & 1) << 2) | ((k1 >> 1) & 1) | (((k1 >> 2) & 1) << 1);
}

/// Frequency of value `e` of `lane` in spectrum row k1, e = 4 b + 2 r + s: word 2 b + r, half s.
__host__ __device__ constexpr int frequency(int k1, int lane, int e, int n1) {
  const int g = lane >> 2;
  const int t = lane & 3;
  return k1 + n1 * pi(g + 8 * ((e >> 1) & 1)) + 16 * n1 * pi(8 * (e >> 2) + 2 * t + (e & 1));
}

/// Address of time m < 256 of row r of an input buffer.
template <bool kFull = true>
__device__ __forceinline__ uint32_t at_time(uint32_t buffer, int r, int m) {
  return buffer + (m >> 6) * (128 * Tile<kFull>::kRows) + r * 128 +
         ((((m >> 3) & 7) ^ (r & 7)) << 4) + 2 * (m & 7);
}
/// ... of the two times before m (m even); row -1 lies inside the kernel's memory, unused.
template <bool kFull = true>
__device__ __forceinline__ uint32_t at_halo(uint32_t buffer, int r, int m) {
  return m != 0 ? at_time<kFull>(buffer, r, m - 2) : at_time<kFull>(buffer, r - 1, 254);
}

/// What a lane reads in the first column phase: 4 adjacent times of 8 rows. One address is kept,
/// its siblings differ by an XOR or a constant. s < 4, e < 2:
///   kFull: times 32 warp + 4 g .. of even and odd rows apart, the first radix-2 step
///   else:  times 64 warp + 32 (s >> 1) + 4 g .. of rows 8 (s & 1) + sigma(2 t + e)
template <bool kFull>
struct GateAddress {
  static constexpr int kInputBytes = Tile<kFull>::kInputBytes;
  uint32_t at, halo0, halo1, halo2;
  __device__ __forceinline__ GateAddress(uint32_t buffer, int warp, int lane) {
    const int ra = first_row(lane & 3);
    const int m = Tile<kFull>::kTimes * warp + 4 * (lane >> 2);
    at = at_time<kFull>(buffer, ra, m);
    halo0 = at_halo<kFull>(buffer, ra, m);
    halo1 = at_halo<kFull>(buffer, kFull ? ra + 1 : ra ^ 3, m);
    halo2 = at_halo<kFull>(buffer, ra, m + 32);
  }
  static __device__ __forceinline__ int first_row(int t) { return kFull ? 2 * t : sigma(2 * t); }
  __device__ __forceinline__ uint32_t times(int s, int e) const {
    return kFull ? (s > 1 ? at ^ 144 : at) + (s & 1) * 2048 + e * 1024
                 : (at ^ ((e != 0 ? 432 : 0) | (s > 1 ? 64 : 0))) + (s & 1) * 1024;
  }
  __device__ __forceinline__ uint32_t halo(int s, int e) const {
    if (kFull) return (s > 1 ? halo1 : halo0) + (s & 1) * 2048 + e * 1024;
    return (s > 1 ? halo2 ^ (e != 0 ? 432 : 0) : e != 0 ? halo1 : halo0) + (s & 1) * 1024;
  }
  /// Whether step s begins with the first time of a batch row of N1 rows.
  static __device__ __forceinline__ bool starts(int s, int log_n1, int warp, int lane) {
    if (kFull) return s == 0 && (warp | lane) == 0;
    return s < 2 && warp == 0 && lane < 4 && ((8 * s + first_row(lane)) & ((1 << log_n1) - 1)) == 0;
  }
};

/// What a lane reads and writes in the last column phase: 4 adjacent times, 32 segment + 16 q +
/// 4 t .., of row(i, r); i, r < 2.
template <bool kFull>
struct OutputAddress {
  static constexpr int kInputBytes = Tile<kFull>::kInputBytes;
  uint32_t at, halo0, halo1, halo2;
  __device__ __forceinline__ OutputAddress(uint32_t buffer, int warp, int lane) {
    const int sg = first_row(lane >> 2);
    const int m = Tile<kFull>::kTimes * warp + 4 * (lane & 3);
    at = at_time<kFull>(buffer, sg, m);
    halo0 = at_halo<kFull>(buffer, sg, m);
    halo1 = at_halo<kFull>(buffer, sg, m + 16);
    halo2 = kFull ? at_halo<kFull>(buffer, sg + 1, m) : at_halo<kFull>(buffer, sg, m + 32);
  }
  static __device__ __forceinline__ int first_row(int g) { return kFull ? 2 * g : sigma(g); }
  static __device__ __forceinline__ int row(int i, int r, int g) {
    return kFull ? 16 * r + i + first_row(g) : 8 * r + first_row(g);
  }
  __device__ __forceinline__ uint32_t times(int i, int r, int q) const {
    return kFull ? (at ^ ((q != 0 ? 32 : 0) | (i != 0 ? 144 : 0))) + r * 2048
                 : (at ^ ((q != 0 ? 32 : 0) | (i != 0 ? 64 : 0))) + r * 1024;
  }
  __device__ __forceinline__ uint32_t halo(int i, int r, int q) const {
    constexpr int kOther = kFull ? 144 : 64;
    return (q != 0 ? (i != 0 ? halo1 ^ kOther : halo1) : (i != 0 ? halo2 : halo0)) +
           r * (kFull ? 2048 : 1024);
  }
  /// Whether (i, r, q = 0) begins with the first time of a batch row of N1 rows.
  static __device__ __forceinline__ bool starts(int i, int r, int log_n1, int warp, int lane) {
    if (kFull) return i == 0 && r == 0 && (warp | lane) == 0;
    return i == 0 && warp == 0 && (lane & 3) == 0 &&
           (row(i, r, lane >> 2) & ((1 << log_n1) - 1)) == 0;
  }
};

/// Addresses in the exchange buffer. The column phases of a warp own the same n2 at both ends of a
/// tile, so that no barrier is needed between tiles: 2 w, 2 w + 1 (kFull), or four, the second two
/// (step i = 1) at ^ 64.
template <bool kFull = true>
struct ExchangeAddress {
  uint32_t store;  // first phase: row k1 = g (+ 8 i), chunk of n2; second chunk: ^ 16
  uint32_t load;   // last phase: row k1 = lane (second chunk: ^ 16), or row k1 = lane mod 16 of
                   // chunk lane / 16; second n2: ^ 32
  __device__ __forceinline__ ExchangeAddress(uint32_t buffer, int warp, int lane) {
    constexpr int kDigits = Tile<kFull>::kTimes / 16;
    const int g = lane >> 2;
    const int t = lane & 3;
    const int n2 = kDigits * warp + (t >> 1);
    store = buffer + g * 512 + (((2 * n2) ^ swizzle_n2(n2) ^ swizzle_k1(g)) << 4) + 8 * (t & 1);
    const int k1 = kFull ? lane : lane & 15;
    const int m2 = kDigits * warp;
    const int chunk = (2 * m2) ^ swizzle_n2(m2) ^ swizzle_k1(lane & 7) ^ (kFull ? 0 : lane >> 4);
    load = buffer + k1 * 512 + (chunk << 4);
  }
  /// Row phase: ldmatrix row of this lane in row k1.
  static __device__ __forceinline__ uint32_t row(uint32_t buffer, int k1, int lane) {
    const int r = lane & 7;
    const int h = (lane >> 3) & 1;
    const int n2 = 4 * (r >> 1) + 2 * h + (r & 1);
    return buffer + k1 * 512 + (((2 * n2 + (lane >> 4)) ^ swizzle_n2(n2) ^ swizzle_k1(k1)) << 4);
  }
};

/// Elements n .. n + 7 of a row of `length` by 16- or 4-byte asynchronous copies, zeros behind it.
template <class T>
__device__ __forceinline__ void copy_eight(uint32_t to, const T* row, int n, int length,
                                           bool wide) {
  const int valid = 2 * min(max(length - n, 0), 8);
  if (wide) {
    async_copy<16>(to, valid > 0 ? row + n : row, valid);
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int left = min(max(valid - 4 * i, 0), 4);
      async_copy<4>(to + 4 * i, left > 0 ? row + n + 2 * i : row, left);
    }
  }
}

/// One channel of a tile by 16- or 4-byte asynchronous copies of its threads: any length, any
/// batch, zeros beyond both.
template <bool kFull, class T>
__device__ __forceinline__ void copy_tile(uint32_t dst, const Tensor<const T>& x, int b0, int c,
                                          int log_n1, bool wide, int tid) {
#pragma unroll 1
  for (int q = tid; q < Tile<kFull>::kPoints / 8; q += Tile<kFull>::kThreads) {
    const int r = q >> 5;
    const int m = 8 * (q & 31);
    const int b = b0 + (r >> log_n1);
    const int n = 256 * (r & ((1 << log_n1) - 1)) + m;
    copy_eight(at_time<kFull>(dst, r, m), x.row(min(b, x.batch - 1), c), n,
               b < x.batch ? x.length : 0, wide);
  }
}

/// Four adjacent elements as two words, of which the first `valid` exist in the row.
template <class T>
__device__ __forceinline__ void store4(T* dst, uint32_t w0, uint32_t w1, int valid, bool wide) {
  auto* half = reinterpret_cast<uint16_t*>(dst);
  if (valid >= 4 && wide) {
    *reinterpret_cast<uint2*>(dst) = make_uint2(w0, w1);
    return;
  }
  if (valid > 1) {
    *reinterpret_cast<uint32_t*>(dst) = w0;
  } else if (valid > 0) {
    half[0] = static_cast<uint16_t>(w0);
  }
  if (valid > 3) {
    *reinterpret_cast<uint32_t*>(dst + 2) = w1;
  } else if (valid > 2) {
    half[2] = static_cast<uint16_t>(w1);
  }
}

}  // namespace hyena::kernels::cuda
