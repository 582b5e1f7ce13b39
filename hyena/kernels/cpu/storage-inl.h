// Copies between arrays of any storage type and strides and packed rows of the arithmetic type,
// compiled per target. Channels-last rows of the arithmetic type never come here.
#if defined(HYENA_KERNELS_CPU_STORAGE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_STORAGE_INL_H_
#undef HYENA_KERNELS_CPU_STORAGE_INL_H_
#else
#define HYENA_KERNELS_CPU_STORAGE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <hwy/highway.h>

#include "hyena/kernels/array.h"
#include "hyena/kernels/cpu/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// bfloat16 as its bits.
struct BFloat16 {
  std::uint16_t bits;
};

template <class Tag>
HWY_INLINE hn::Vec<Tag> load_stored(Tag tag, const hn::TFromD<Tag>* x) {
  return hn::LoadU(tag, x);
}
template <class Tag>
HWY_INLINE hn::Vec<Tag> load_stored(Tag tag, const BFloat16* x) {
  const hn::Rebind<std::uint32_t, Tag> wide;
  const hn::Rebind<std::uint16_t, Tag> narrow;
  const auto bits = hn::LoadU(narrow, reinterpret_cast<const std::uint16_t*>(x));
  return hn::BitCast(tag, hn::ShiftLeft<16>(hn::PromoteTo(wide, bits)));
}

template <class Tag>
HWY_INLINE hn::Vec<Tag> to_stored(Tag /*tag*/, hn::Vec<Tag> v, const hn::TFromD<Tag>* /*as*/) {
  return v;
}
/// To nearest, ties to even; a not-a-number stays one.
template <class Tag>
HWY_INLINE auto to_stored(Tag /*tag*/, hn::Vec<Tag> v, const BFloat16* /*as*/) {
  const hn::Rebind<std::uint32_t, Tag> wide;
  const auto bits = hn::BitCast(wide, v);
  const auto is_odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(wide, 1));
  const auto rounded = hn::Add(bits, hn::Add(is_odd, hn::Set(wide, 0x7FFF)));
  const auto quiet = hn::Or(bits, hn::Set(wide, 0x400000));
  const auto is_nan = hn::RebindMask(wide, hn::IsNaN(v));
  const auto upper = hn::ShiftRight<16>(hn::IfThenElse(is_nan, quiet, rounded));
  const hn::Rebind<std::int32_t, Tag> positive;
  const hn::Rebind<std::uint16_t, Tag> narrow;
  return hn::DemoteTo(narrow, hn::BitCast(positive, upper));
}

/// The first `count` lanes of v to x, nothing behind them.
template <class Tag, class S>
HWY_INLINE void store_stored(Tag tag, hn::Vec<Tag> v, std::int64_t count, S* x) {
  using Scalar = std::conditional_t<sizeof(S) == 2, std::uint16_t, hn::TFromD<Tag>>;
  const hn::Rebind<Scalar, Tag> stored;
  const auto values = to_stored(tag, v, x);
  auto* to = reinterpret_cast<Scalar*>(x);
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(stored));
  if (count == lanes) {
    return hn::StoreU(values, stored, to);
  }
#if HWY_TARGET != HWY_SCALAR
  if (2 * count == lanes) {  // a block of time steps in vectors of 16
    const hn::Half<decltype(stored)> half;
    return hn::StoreU(hn::LowerHalf(half, values), half, to);
  }
#endif
  HWY_ALIGN Scalar all[hn::MaxLanes(stored)];
  hn::Store(values, stored, all);
  std::memcpy(to, all, static_cast<std::size_t>(count) * sizeof(Scalar));
}

/// Steps x channels of one row of an array.
struct Patch {
  std::int64_t begin;  // first step; steps before 0 are read as zeros and not written
  std::int64_t steps;
  std::int64_t channels;
  std::int64_t width;  // scalars from one packed row to the next, whole vectors; channels <= width
};

/// True where the steps of a channel are neighbours in memory and channels are not.
HWY_INLINE bool has_adjacent_steps(const Strides& strides) {
  return strides.time == 1 && strides.channel != 1;
}

/// Row after row, whatever the strides.
template <class S, class T>
void gather_rows(const S* x, const Strides& strides, const Patch& patch, T* rows) {
  const hn::ScalableTag<T> tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  HWY_ALIGN S some[hn::MaxLanes(tag)];
  for (std::int64_t t = 0; t < patch.steps; ++t) {
    for (std::int64_t c = 0; c < patch.width; c += lanes) {
      const S* from = x + (patch.begin + t) * strides.time + c * strides.channel;
      const std::int64_t channels = std::clamp<std::int64_t>(patch.channels - c, 0, lanes);
      if (channels < lanes || strides.channel != 1) {
        for (std::int64_t i = 0; i < lanes; ++i) {
          some[i] = i < channels ? from[i * strides.channel] : S{};
        }
        from = some;
      }
      hn::StoreU(load_stored(tag, from), tag, rows + t * patch.width + c);
    }
  }
}

template <class S, class T>
void scatter_rows(const T* rows, const Patch& patch, const Strides& strides, S* x) {
  const hn::ScalableTag<T> tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  HWY_ALIGN S some[hn::MaxLanes(tag)];
  for (std::int64_t t = 0; t < patch.steps; ++t) {
    for (std::int64_t c = 0; c < patch.channels; c += lanes) {
      const auto row = hn::LoadU(tag, rows + t * patch.width + c);
      S* to = x + (patch.begin + t) * strides.time + c * strides.channel;
      const std::int64_t channels = std::min(patch.channels - c, lanes);
      if (strides.channel == 1) {
        store_stored(tag, row, channels, to);
        continue;
      }
      store_stored(tag, row, lanes, some);
      for (std::int64_t i = 0; i < channels; ++i) {
        to[i * strides.channel] = some[i];
      }
    }
  }
}

/// Calls body(c, t) for squares of lanes x lanes that cover the patch, which has at least as many
/// steps as lanes; the last square along time reaches back over the one before it.
template <class T, class Body>
HWY_INLINE void for_squares(const Patch& patch, const Body& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  for (std::int64_t c = 0; c < patch.width; c += lanes) {
    for (std::int64_t t = 0; t < patch.steps; t += lanes) {
      body(c, std::min(t, patch.steps - lanes));
    }
  }
}

/// Rows whose time steps are adjacent.
template <class S, class T>
void gather_steps(const S* x, const Strides& strides, const Patch& patch, T* rows) {
  const hn::ScalableTag<T> tag;
  for_squares<T>(patch, [&](std::int64_t c, std::int64_t t) HWY_ATTR {
    const S* from = x + patch.begin + t + c * strides.channel;
    transpose_square(
        tag,
        [&](std::int64_t i) HWY_ATTR {
          return c + i < patch.channels ? load_stored(tag, from + i * strides.channel)
                                        : hn::Zero(tag);
        },
        [&](std::int64_t i, hn::Vec<hn::ScalableTag<T>> row)
            HWY_ATTR { hn::StoreU(row, tag, rows + (t + i) * patch.width + c); });
  });
}

template <class S, class T>
void scatter_steps(const T* rows, const Patch& patch, const Strides& strides, S* x) {
  const hn::ScalableTag<T> tag;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
  const auto put = [&](std::int64_t c, std::int64_t t, std::int64_t steps) HWY_ATTR {
    S* to = x + patch.begin + t + c * strides.channel;
    transpose_square(
        tag,
        [&](std::int64_t i) HWY_ATTR {
          return i < steps ? hn::LoadU(tag, rows + (t + i) * patch.width + c) : hn::Zero(tag);
        },
        [&](std::int64_t i, hn::Vec<hn::ScalableTag<T>> column) HWY_ATTR {
          if (c + i < patch.channels) {
            store_stored(tag, column, steps, to + i * strides.channel);
          }
        });
  };
  if (patch.steps >= lanes) {
    return for_squares<T>(patch,
                          [&](std::int64_t c, std::int64_t t) HWY_ATTR { put(c, t, lanes); });
  }
  for (std::int64_t c = 0; c < patch.width; c += lanes) {
    put(c, 0, patch.steps);
  }
}

/// rows[t * width + c] <- element (begin + t, c); zero where c >= channels or begin + t < 0.
template <class S, class T>
void gather(const S* x, const Strides& strides, Patch patch, T* rows) {
  const std::int64_t before = std::clamp<std::int64_t>(-patch.begin, 0, patch.steps);
  std::fill_n(rows, before * patch.width, T{0});
  patch.begin += before;
  patch.steps -= before;
  rows += before * patch.width;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  has_adjacent_steps(strides) && patch.steps >= lanes ? gather_steps(x, strides, patch, rows)
                                                      : gather_rows(x, strides, patch, rows);
}

/// The inverse of gather; steps before 0 and channels beyond `channels` are dropped.
template <class S, class T>
void scatter(const T* rows, Patch patch, const Strides& strides, S* x) {
  const std::int64_t before = std::clamp<std::int64_t>(-patch.begin, 0, patch.steps);
  patch.begin += before;
  patch.steps -= before;
  rows += before * patch.width;
  has_adjacent_steps(strides) ? scatter_steps(rows, patch, strides, x)
                              : scatter_rows(rows, patch, strides, x);
}

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_STORAGE_INL_H_
