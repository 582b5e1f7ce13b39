// Right-angle transforms of the generic kernels: splitting, float32, 2 to 16 points at a time.
//
//   x^(2m) - W = (x^m - w)(x^m + w), W = w^2:   (a, b) -> (a + w b, a - w b)     split
//                                               (a, b) -> (a + b, (a - b) / w)   merge, twice x
//
// Starting with W = i, N real points become N values at the roots of x^N = i, in the order in which
// blocks are split (docs/math/right_angle_convolution.md). Block r after s halvings has
// W = exp(2 pi i t), t = (1/4 + reversed(r)) / 2^s: exact in float32 up to N = 2^22. So columns of
// a long row are the first halvings of its transform, and its rows continue with another t: there
// are no twiddles between.
//
// Nothing here knows threads: a pass is a set of units, each a few points of the array, and the
// host test runs the same code.
#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>

#include <cuda_runtime.h>

/// Functions for both sides: the host's compiler does not know the pragma.
#if defined(__CUDA_ARCH__)
#define HYENA_UNROLL _Pragma("unroll")
#else
#define HYENA_UNROLL
#endif

namespace hyena::kernels::cuda::generic {

/// How `levels` halvings are cut into passes through registers: the last takes four (all, if there
/// are fewer), which the order of the spectra relies on; the others share the rest.
struct Passes {
  int levels;
  __host__ __device__ constexpr int count() const { return (levels + 3) / 4; }
  __host__ __device__ constexpr int log_radix(int pass) const {
    if (pass == count() - 1) return levels < 4 ? levels : 4;
    return (levels - 4 + count() - 2 - pass) / (count() - 1);
  }
  __host__ __device__ constexpr int stage(int pass) const {
    int s = 0;
    for (int i = 0; i < pass; ++i)
      s += log_radix(i);
    return s;
  }
};

/// The lowest `bits` bits of i, reversed.
__host__ __device__ __forceinline__ int reversed(int i, int bits) {
#if defined(__CUDA_ARCH__)
  return bits == 0 ? 0 : static_cast<int>(__brev(static_cast<unsigned>(i)) >> (32 - bits));
#else
  int r = 0;
  for (int b = 0; b < bits; ++b)
    r |= ((i >> b) & 1) << (bits - 1 - b);
  return r;
#endif
}

/// t of block r after `levels` halvings.
__host__ __device__ __forceinline__ float turn_of(int r, int levels) {
  return (static_cast<float>(reversed(r, levels)) + 0.25F) / static_cast<float>(1 << levels);
}

/// Pass kPass of the first kLevels halvings of a block of 2^kLog points. Unit u owns the points
/// first(u) + (l << kLogStep), l < kPoints.
template <int kLog, int kLevels, int kPass>
struct Pass {
  static constexpr int kLogRadix = Passes{kLevels}.log_radix(kPass);
  static constexpr int kStage = Passes{kLevels}.stage(kPass);
  static constexpr int kPoints = 1 << kLogRadix;
  static constexpr int kLogStep = kLog - kStage - kLogRadix;
  static constexpr int kUnits = 1 << (kLog - kLogRadix);

  __host__ __device__ static constexpr int first(int u) {
    return ((u >> kLogStep) << (kLogStep + kLogRadix)) | (u & ((1 << kLogStep) - 1));
  }
  /// t of the sub-block that unit u splits; `turn` is that of the whole block.
  __host__ __device__ static float turn(float turn, int u) {
    return (static_cast<float>(reversed(u >> kLogStep, kStage)) + turn) / (1 << kStage);
  }
};

/// Where point i stands in shared memory. Half a warp reads 16 points at once: neighbours, except
/// in last passes of one row (16 apart) and of 8 columns (128 apart), which this sends to 16
/// different pairs of banks. Linear over exclusive or.
__host__ __device__ constexpr int place(int i) {
  return i ^ ((i >> 4) & 15);
}
/// place(first + i) from place(first), where first and i share no bit.
__host__ __device__ constexpr int moved(int first_place, int i) {
  return i % 256 == 0 ? first_place + i : first_place ^ place(i);  // a sum is part of an address
}

/// exp(i pi x)
__host__ __device__ __forceinline__ float2 unit_root(float x) {
#if defined(__CUDA_ARCH__)
  float2 w;
  sincospif(x, &w.y, &w.x);
  return w;
#else
  const double angle = std::numbers::pi * static_cast<double>(x);
  return make_float2(static_cast<float>(std::cos(angle)), static_cast<float>(std::sin(angle)));
#endif
}
__host__ __device__ __forceinline__ float2 product(float2 p, float2 q) {
  return make_float2(fmaf(p.x, q.x, -p.y * q.y), fmaf(p.x, q.y, p.y * q.x));
}
/// conj(p) q
__host__ __device__ __forceinline__ float2 conjugate_product(float2 p, float2 q) {
  return make_float2(fmaf(p.x, q.x, p.y * q.y), fmaf(p.x, q.y, -p.y * q.x));
}

/// w of the halvings of a pass: exp(2 pi i t / 2^(l+1)). Every second is the square of the next.
template <int R>
struct Roots {
  float2 w[static_cast<std::size_t>(R)];
};
template <int R>
__host__ __device__ __forceinline__ Roots<R> roots_of(float turn) {
  Roots<R> r;
  if constexpr (R == 1) {
    r.w[0] = unit_root(turn);
  } else {
    r.w[1] = unit_root(turn * 0.5F);
    r.w[0] = product(r.w[1], r.w[1]);
    if constexpr (R == 3) r.w[2] = unit_root(turn * 0.25F);
    if constexpr (R == 4) {
      r.w[3] = unit_root(turn * 0.125F);
      r.w[2] = product(r.w[3], r.w[3]);
    }
  }
  return r;
}
/// Those of W = i, constants.
template <int R>
__host__ __device__ __forceinline__ Roots<R> first_roots() {
  constexpr float kCos[4] = {0.707106781F, 0.923879533F, 0.980785280F, 0.995184727F};
  constexpr float kSin[4] = {0.707106781F, 0.382683432F, 0.195090322F, 0.0980171403F};
  Roots<R> r;
  HYENA_UNROLL
  for (int l = 0; l < R; ++l)
    r.w[l] = make_float2(kCos[l], kSin[l]);
  return r;
}
/// The root of sub-block q < 8 of a halving, given that of sub-block 0.
__host__ __device__ __forceinline__ float2 sub_root(float2 w, int q) {
  constexpr float kCos[4] = {1.F, 0.707106781F, 0.923879533F, 0.382683432F};
  constexpr float kSin[4] = {0.F, 0.707106781F, 0.382683432F, 0.923879533F};
  if (q >= 2) w = product(w, make_float2(kCos[q >> 1], kSin[q >> 1]));
  return (q & 1) != 0 ? make_float2(-w.y, w.x) : w;
}

/// Halvings kFrom .. R - 1 of a unit. Recursive, because compilers unroll that for certain.
template <int R, int kFrom = 0>
__host__ __device__ __forceinline__ void split(float2 (&y)[1 << R], const Roots<R>& roots) {
  if constexpr (kFrom < R) {
    constexpr int kHalf = 1 << (R - 1 - kFrom);
    HYENA_UNROLL
    for (int i = 0; i < (1 << R) / 2; ++i) {
      const int q = i / kHalf;
      const int j = i + q * kHalf;
      const float2 w = sub_root(roots.w[kFrom], q);
      const float2 a = y[j];
      const float2 b = y[j + kHalf];
      const float2 s =
          make_float2(fmaf(-w.y, b.y, fmaf(w.x, b.x, a.x)), fmaf(w.y, b.x, fmaf(w.x, b.y, a.y)));
      y[j] = s;
      y[j + kHalf] = make_float2(fmaf(2.F, a.x, -s.x), fmaf(2.F, a.y, -s.y));
    }
    split<R, kFrom + 1>(y, roots);
  }
}
/// The first pass of real points.
template <int R>
__host__ __device__ __forceinline__ void split_real(float2 (&y)[1 << R], const float (&x)[1 << R]) {
  constexpr int kHalf = (1 << R) / 2;
  const Roots<R> roots = first_roots<R>();
  HYENA_UNROLL
  for (int j = 0; j < kHalf; ++j) {
    const float a = x[j];
    const float b = x[j + kHalf];
    const float im = roots.w[0].y * b;
    y[j] = make_float2(fmaf(roots.w[0].x, b, a), im);
    y[j + kHalf] = make_float2(fmaf(-roots.w[0].x, b, a), -im);
  }
  split<R, 1>(y, roots);
}
/// The first pass of real or complex points.
template <int R>
__host__ __device__ __forceinline__ void first_split(float2 (&y)[1 << R],
                                                     const float (&x)[1 << R]) {
  split_real<R>(y, x);
}
template <int R>
__host__ __device__ __forceinline__ void first_split(float2 (&y)[1 << R],
                                                     const float2 (&x)[1 << R]) {
  HYENA_UNROLL
  for (int j = 0; j < 1 << R; ++j)
    y[j] = x[j];
  split(y, first_roots<R>());
}
/// Undoes split, times 2^R.
template <int R, int kFrom = R - 1>
__host__ __device__ __forceinline__ void merge(float2 (&y)[1 << R], const Roots<R>& roots) {
  if constexpr (kFrom >= 0) {
    constexpr int kHalf = 1 << (R - 1 - kFrom);
    HYENA_UNROLL
    for (int i = 0; i < (1 << R) / 2; ++i) {
      const int q = i / kHalf;
      const int j = i + q * kHalf;
      const float2 w = sub_root(roots.w[kFrom], q);
      const float2 a = y[j];
      const float2 b = y[j + kHalf];
      y[j] = make_float2(a.x + b.x, a.y + b.y);
      y[j + kHalf] = conjugate_product(w, make_float2(a.x - b.x, a.y - b.y));
    }
    merge<R, kFrom - 1>(y, roots);
  }
}

/// Points of unit u from and to an array in shared memory.
template <class P>
__host__ __device__ __forceinline__ void load_unit(float2 (&y)[P::kPoints], const float2* x,
                                                   int u) {
  const int first = place(P::first(u));
  HYENA_UNROLL
  for (int l = 0; l < P::kPoints; ++l)
    y[l] = x[moved(first, l << P::kLogStep)];
}
template <class P>
__host__ __device__ __forceinline__ void store_unit(float2* x, const float2 (&y)[P::kPoints],
                                                    int u) {
  const int first = place(P::first(u));
  HYENA_UNROLL
  for (int l = 0; l < P::kPoints; ++l)
    x[moved(first, l << P::kLogStep)] = y[l];
}
template <class P>
__host__ __device__ __forceinline__ void split_unit(float2* x, int u,
                                                    const Roots<P::kLogRadix>& w) {
  float2 y[P::kPoints];
  load_unit<P>(y, x, u);
  split(y, w);
  store_unit<P>(x, y, u);
}
template <class P>
__host__ __device__ __forceinline__ void merge_unit(float2* x, int u,
                                                    const Roots<P::kLogRadix>& w) {
  float2 y[P::kPoints];
  load_unit<P>(y, x, u);
  merge(y, w);
  store_unit<P>(x, y, u);
}

constexpr int kLogRow = 12;  // a long row is cut into rows of 4096 points
constexpr int kRowPoints = 1 << kLogRow;

/// Where point l of unit u of the last pass stands in a spectrum of 2^kLog points (or, with kLog =
/// kLogRow, in its row of one): threads with consecutive units read consecutive values, and 4096
/// points are a block of their own at any length.
template <int kLog>
__host__ __device__ constexpr int spectrum_index(int u, int l) {
  constexpr int kLogUnits = (kLog < kLogRow ? kLog : kLogRow) - 4;
  return ((u >> kLogUnits) << kLogRow) | (l << kLogUnits) | (u & ((1 << kLogUnits) - 1));
}

/// A tile of the columns of a long row: all 2^kLevels rows of 2^kLogColumns adjacent columns.
template <int kLevels>
struct ColumnTile {
  // Up to 16 rows stay in registers; else 64 columns, fewer where 64 KiB hold no more.
  static constexpr int kLogColumns = kLevels <= 4 ? 8 : (kLevels < 8 ? 6 : 13 - kLevels);
  static constexpr int kLog = kLevels + kLogColumns;
  static constexpr int kPasses = Passes{kLevels}.count();
  static constexpr int kTiles = kRowPoints >> kLogColumns;
  static constexpr int kThreads = kLevels == 5 ? 128 : 256;
  static constexpr int kSharedBytes = kPasses > 1 ? 8 << kLog : 0;
  template <int kPass>
  using At = Pass<kLog, kLevels, kPass>;

  /// The time of point i of tile `tile`; that of point i + (l << kLogStep) is l * step<P>() later.
  __host__ __device__ static constexpr int time(int tile, int i) {
    return ((i >> kLogColumns) << kLogRow) + (tile << kLogColumns) + (i & ((1 << kLogColumns) - 1));
  }
  template <class P>
  __host__ __device__ static constexpr int step() {
    return 1 << (P::kLogStep - kLogColumns + kLogRow);
  }
};

}  // namespace hyena::kernels::cuda::generic

#undef HYENA_UNROLL
