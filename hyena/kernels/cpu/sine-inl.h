// Sine and cosine of float32 vectors, compiled per target.
//
//     k = round(x 2/pi),  r = x - k pi/2,  sin x and cos x are +-sin r or +-cos r by k mod 4
//     sin r = r + r^3 S(r^2),  cos r = 1 - r^2/2 + r^4 C(r^2)
//
// Method    pi/2 in three parts, the first two of at most 11 bits, so that k times either is exact
//           for |k| <= 2^13; S and C interpolate at three Chebyshev nodes of r^2 in [0, 0.79^2]
// Numerics  |error| <= 2^-23, fused multiply-add or not; derived in docs/math/implicit_filter.md
#if defined(HYENA_KERNELS_CPU_SINE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_SINE_INL_H_
#undef HYENA_KERNELS_CPU_SINE_INL_H_
#else
#define HYENA_KERNELS_CPU_SINE_INL_H_
#endif

#include <cstdint>

#include <hwy/highway.h>

#include "hyena/kernels/cpu/sine.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// |k| <= 8149: below 2^13 with room for the rounding of x 2/pi.
inline constexpr float kMostReducible = 12800.0F;

template <class V>
struct SinCos {
  V sin;
  V cos;
};

/// Any x; not-a-number for infinities and not-a-numbers.
template <class Tag, class V = hn::Vec<Tag>>
HWY_INLINE SinCos<V> sin_cos(Tag tag, V x) {
  if (HWY_UNLIKELY(!hn::AllTrue(tag, hn::Lt(hn::Abs(x), hn::Set(tag, kMostReducible))))) {
    HWY_ALIGN float lanes[3][hn::MaxLanes(tag)];
    hn::Store(x, tag, lanes[0]);
    library_sine(lanes[0], static_cast<std::int64_t>(hn::Lanes(tag)), lanes[1], lanes[2]);
    return {hn::Load(tag, lanes[1]), hn::Load(tag, lanes[2])};
  }
  const hn::RebindToSigned<Tag> integers;
  const auto quarter = hn::NearestInt(hn::Mul(x, hn::Set(tag, 0x1.45f306p-1F)));
  const V k = hn::ConvertTo(tag, quarter);
  V r = hn::NegMulAdd(k, hn::Set(tag, 0x1.92p+0F), x);
  r = hn::NegMulAdd(k, hn::Set(tag, 0x1.fb4p-12F), r);
  r = hn::NegMulAdd(k, hn::Set(tag, 0x1.4442d2p-24F), r);

  const V s = hn::Mul(r, r);
  V sin = hn::MulAdd(s, hn::Set(tag, -0x1.9ab9cep-13F), hn::Set(tag, 0x1.110c0cp-7F));
  sin = hn::MulAdd(s, sin, hn::Set(tag, -0x1.555552p-3F));
  sin = hn::MulAdd(hn::Mul(r, s), sin, r);
  V cos = hn::MulAdd(s, hn::Set(tag, 0x1.9bcbep-16F), hn::Set(tag, -0x1.6c12bcp-10F));
  cos = hn::MulAdd(s, cos, hn::Set(tag, 0x1.555554p-5F));
  cos = hn::MulAdd(s, cos, hn::Set(tag, -0.5F));
  cos = hn::MulAdd(s, cos, hn::Set(tag, 1.0F));

  const auto one = hn::Set(integers, 1);
  const auto odd = hn::RebindMask(tag, hn::TestBit(quarter, one));
  // Bit 1 of the quarter becomes the sign; the cosine is a quarter ahead.
  const V sin_sign = hn::BitCast(tag, hn::ShiftLeft<30>(hn::AndNot(one, quarter)));
  const V cos_sign = hn::BitCast(tag, hn::ShiftLeft<30>(hn::AndNot(one, hn::Add(quarter, one))));
  return {hn::Xor(hn::IfThenElse(odd, cos, sin), sin_sign),
          hn::Xor(hn::IfThenElse(odd, sin, cos), cos_sign)};
}

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_SINE_INL_H_
