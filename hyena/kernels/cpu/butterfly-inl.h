// Complex vectors and the butterflies of the right-angle transform, compiled per target.
//
// Forward butterflies split a block: v[k] of R coefficients become the R residues modulo
// x^m - w z_k. With two coefficients that is a + w b and a - w b = 2a - (a + w b): six fused
// multiply-adds. Inverse butterflies are the transposes, unscaled: R inverse calls of length N
// multiply by N. Twiddles of a block: see fft_tables.h.
#if defined(HYENA_KERNELS_CPU_BUTTERFLY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_BUTTERFLY_INL_H_
#undef HYENA_KERNELS_CPU_BUTTERFLY_INL_H_
#else
#define HYENA_KERNELS_CPU_BUTTERFLY_INL_H_
#endif

#include <cstddef>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class V>
struct Complex {
  V re;
  V im;
};

template <class V>
HWY_INLINE Complex<V> operator+(Complex<V> a, Complex<V> b) {
  return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)};
}
template <class V>
HWY_INLINE Complex<V> operator-(Complex<V> a, Complex<V> b) {
  return {hn::Sub(a.re, b.re), hn::Sub(a.im, b.im)};
}
template <class V>
HWY_INLINE Complex<V> operator*(Complex<V> a, Complex<V> b) {
  return {hn::NegMulAdd(a.im, b.im, hn::Mul(a.re, b.re)),
          hn::MulAdd(a.im, b.re, hn::Mul(a.re, b.im))};
}
template <class V>
HWY_INLINE Complex<V> times_conj(Complex<V> a, Complex<V> b) {
  return {hn::MulAdd(a.im, b.im, hn::Mul(a.re, b.re)),
          hn::NegMulAdd(a.re, b.im, hn::Mul(a.im, b.re))};
}
template <class V>
HWY_INLINE Complex<V> over_i(Complex<V> a) {
  return {a.im, hn::Neg(a.re)};
}

/// The values that one butterfly of radix R holds in registers.
template <class V, int R>
struct Values {
  Complex<V> value[static_cast<std::size_t>(R)];
  HWY_INLINE Complex<V>& operator[](int k) { return value[k]; }
};

template <class Tag>
HWY_INLINE Complex<hn::Vec<Tag>> load(Tag tag, const hn::TFromD<Tag>* p) {
  return {hn::LoadU(tag, p), hn::LoadU(tag, p + hn::Lanes(tag))};
}
template <class Tag>
HWY_INLINE void store(Tag tag, Complex<hn::Vec<Tag>> c, hn::TFromD<Tag>* p) {
  hn::StoreU(c.re, tag, p);
  hn::StoreU(c.im, tag, p + hn::Lanes(tag));
}
/// What a product does to a sum over the batch.
enum class Sum {
  kStart,     // becomes the product
  kContinue,  // grows by it
};
template <class Tag>
HWY_INLINE void add(Tag tag, Sum sum, Complex<hn::Vec<Tag>> product, hn::TFromD<Tag>* to) {
  store(tag, sum == Sum::kStart ? product : load(tag, to) + product, to);
}
/// The power-th power of the block's w.
template <class Tag>
HWY_INLINE Complex<hn::Vec<Tag>> twiddle(Tag tag, const hn::TFromD<Tag>* node, int power) {
  return {hn::Set(tag, node[2 * power - 2]), hn::Set(tag, node[2 * power - 1])};
}

/// The twiddles of a group of lane blocks: see FftTables.
template <class T>
struct LaneNode {
  const T* scalars;
  const T* vectors;
};
template <class Tag>
HWY_INLINE Complex<hn::Vec<Tag>> twiddle(Tag tag, LaneNode<hn::TFromD<Tag>> node, int power) {
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(tag));
  return twiddle(tag, node.scalars, power) * load(tag, node.vectors + 2 * lanes * (power - 1));
}

/// (a, b) <- (a + w b, a - w b)
template <class Tag, class V>
HWY_INLINE void split(Tag tag, Complex<V> w, Complex<V>& a, Complex<V>& b) {
  const V two = hn::Set(tag, 2);
  const Complex<V> sum{hn::NegMulAdd(w.im, b.im, hn::MulAdd(w.re, b.re, a.re)),
                       hn::MulAdd(w.im, b.re, hn::MulAdd(w.re, b.im, a.im))};
  b = {hn::MulSub(two, a.re, sum.re), hn::MulSub(two, a.im, sum.im)};
  a = sum;
}
/// (a, b) <- (a + i w b, a - i w b)
template <class Tag, class V>
HWY_INLINE void split_i(Tag tag, Complex<V> w, Complex<V>& a, Complex<V>& b) {
  const V two = hn::Set(tag, 2);
  const Complex<V> sum{hn::NegMulAdd(w.im, b.re, hn::NegMulAdd(w.re, b.im, a.re)),
                       hn::NegMulAdd(w.im, b.im, hn::MulAdd(w.re, b.re, a.im))};
  b = {hn::MulSub(two, a.re, sum.re), hn::MulSub(two, a.im, sum.im)};
  a = sum;
}
/// (a, b) <- (a + b, a - b)
template <class V>
HWY_INLINE void join(Complex<V>& a, Complex<V>& b) {
  const Complex<V> difference = a - b;
  a = a + b;
  b = difference;
}

/// The second and third halving of radix 8, after the first.
template <class Tag, class Node, class V>
HWY_INLINE void forward8_tail(Tag tag, Node node, Values<V, 8>& v) {
  const Complex<V> w2 = twiddle(tag, node, 2);
  split(tag, w2, v[0], v[2]);
  split(tag, w2, v[1], v[3]);
  split_i(tag, w2, v[4], v[6]);
  split_i(tag, w2, v[5], v[7]);
  const Complex<V> w = twiddle(tag, node, 1);
  split(tag, w, v[0], v[1]);
  split_i(tag, w, v[2], v[3]);
  const Complex<V> w_turned = twiddle(tag, node, 8);
  split(tag, w_turned, v[4], v[5]);
  split_i(tag, w_turned, v[6], v[7]);
}

/// Radix 8 on real coefficients.
template <class Tag, class V>
HWY_INLINE void forward8_real(Tag tag, const hn::TFromD<Tag>* node, const V (&u)[8],
                              Values<V, 8>& v) {
  const Complex<V> w4 = twiddle(tag, node, 4);
  for (int k = 0; k < 4; ++k) {
    const V im = hn::Mul(w4.im, u[k + 4]);
    v[k] = {hn::MulAdd(w4.re, u[k + 4], u[k]), im};
    v[k + 4] = {hn::NegMulAdd(w4.re, u[k + 4], u[k]), hn::Neg(im)};
  }
  forward8_tail(tag, node, v);
}

/// DFT over an odd number of values, kernel exp(2 pi i nk / R) with kSign = 1 or its conjugate.
template <int kSign, int R, class Tag, class V>
HWY_INLINE void odd_dft(Tag tag, const hn::TFromD<Tag>* roots, Values<V, R>& v) {
  constexpr int kHalf = R / 2;
  Values<V, kHalf> sum;
  Values<V, kHalf> difference;
  const Complex<V> first = v[0];
  for (int n = 1; n <= kHalf; ++n) {
    sum[n - 1] = v[n] + v[R - n];
    difference[n - 1] = v[n] - v[R - n];
    v[0] = v[0] + sum[n - 1];
  }
  for (int k = 1; k <= kHalf; ++k) {
    Complex<V> even = first;
    Complex<V> odd{hn::Zero(tag), hn::Zero(tag)};
    for (int n = 1; n <= kHalf; ++n) {
      const int power = n * k % R;
      const V c = hn::Set(tag, roots[2 * power]);
      const V s = hn::Set(tag, kSign * roots[2 * power + 1]);
      even = {hn::MulAdd(c, sum[n - 1].re, even.re), hn::MulAdd(c, sum[n - 1].im, even.im)};
      odd = {hn::NegMulAdd(s, difference[n - 1].im, odd.re),
             hn::MulAdd(s, difference[n - 1].re, odd.im)};
    }
    v[k] = even + odd;
    v[R - k] = even - odd;
  }
}

/// `node`: the block's twiddles, or a LaneNode; `roots`: those of the level, for odd R.
template <int R, class Tag, class Node, class V>
HWY_INLINE void forward_butterfly(Tag tag, Node node, const hn::TFromD<Tag>* roots,
                                  Values<V, R>& v) {
  if constexpr (R == 8) {
    const Complex<V> w4 = twiddle(tag, node, 4);
    for (int k = 0; k < 4; ++k) {
      split(tag, w4, v[k], v[k + 4]);
    }
    forward8_tail(tag, node, v);
  } else if constexpr (R == 4) {
    const Complex<V> w2 = twiddle(tag, node, 2);
    split(tag, w2, v[0], v[2]);
    split(tag, w2, v[1], v[3]);
    const Complex<V> w = twiddle(tag, node, 1);
    split(tag, w, v[0], v[1]);
    split_i(tag, w, v[2], v[3]);
  } else if constexpr (R == 2) {
    split(tag, twiddle(tag, node, 1), v[0], v[1]);
  } else if constexpr (R > 2) {
    for (int k = 1; k < R; ++k) {
      v[k] = v[k] * twiddle(tag, node, k);
    }
    odd_dft<1>(tag, roots, v);
  }
}

/// Everything of the inverse radix 8 before the twiddles: v[n] <- w^n times the coefficient.
template <class Tag, class V>
HWY_INLINE void inverse8_head(Tag tag, Values<V, 8>& v) {
  const V half = hn::Set(tag, static_cast<hn::TFromD<Tag>>(0.70710678118654752440));
  const V minus_half = hn::Neg(half);
  join(v[0], v[1]);
  join(v[2], v[3]);
  join(v[4], v[5]);
  join(v[6], v[7]);
  // Sums: a radix-4 inverse. v[0] + v[2] and v[4] + v[6] lead to coefficients 0, 4; the differences
  // to 2, 6.
  join(v[0], v[2]);
  join(v[4], v[6]);
  join(v[0], v[4]);
  const Complex<V> turned6 = over_i(v[6]);
  v[6] = v[2] - turned6;
  v[2] = v[2] + turned6;
  // Differences, over exp(i pi k / 4): the factor sqrt(1/2) is left to the last step.
  const Complex<V> d3 = over_i(v[3]);
  const Complex<V> d5{hn::Add(v[5].re, v[5].im), hn::Sub(v[5].im, v[5].re)};
  const Complex<V> d7{hn::Sub(v[7].im, v[7].re), hn::Add(v[7].re, v[7].im)};  // im negated below
  const Complex<V> even = v[1] + d3;
  const Complex<V> odd = v[1] - d3;
  const Complex<V> sum{hn::Add(d5.re, d7.re), hn::Sub(d5.im, d7.im)};
  const Complex<V> difference{hn::Add(d5.im, d7.im), hn::Sub(d5.re, d7.re)};  // (d5 - d7) / i, im
                                                                              // negated
  v[1] = {hn::MulAdd(half, sum.re, even.re), hn::MulAdd(half, sum.im, even.im)};
  v[5] = {hn::MulAdd(minus_half, sum.re, even.re), hn::MulAdd(minus_half, sum.im, even.im)};
  v[3] = {hn::MulAdd(half, difference.re, odd.re), hn::MulAdd(minus_half, difference.im, odd.im)};
  v[7] = {hn::MulAdd(minus_half, difference.re, odd.re), hn::MulAdd(half, difference.im, odd.im)};
}

/// Radix 8 whose coefficients are known to be real.
template <class Tag, class V>
HWY_INLINE void inverse8_real(Tag tag, const hn::TFromD<Tag>* node, Values<V, 8>& v, V (&u)[8]) {
  inverse8_head(tag, v);
  u[0] = v[0].re;
  for (int k = 1; k < 8; ++k) {
    const Complex<V> w = twiddle(tag, node, k);
    u[k] = hn::MulAdd(v[k].im, w.im, hn::Mul(v[k].re, w.re));
  }
}

template <int R, class Tag, class Node, class V>
HWY_INLINE void inverse_butterfly(Tag tag, Node node, const hn::TFromD<Tag>* roots,
                                  Values<V, R>& v) {
  if constexpr (R == 8) {
    inverse8_head(tag, v);
  } else if constexpr (R == 4) {
    join(v[0], v[1]);
    join(v[2], v[3]);
    join(v[0], v[2]);
    const Complex<V> turned = over_i(v[3]);
    v[3] = v[1] - turned;
    v[1] = v[1] + turned;
  } else if constexpr (R == 2) {
    join(v[0], v[1]);
  } else if constexpr (R > 2) {
    odd_dft<-1>(tag, roots, v);
  }
  for (int k = 1; k < R; ++k) {
    v[k] = times_conj(v[k], twiddle(tag, node, k));
  }
}

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_BUTTERFLY_INL_H_
