// Transposes a square of vectors in registers, compiled per target.
#if defined(HYENA_KERNELS_CPU_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_TRANSPOSE_INL_H_
#undef HYENA_KERNELS_CPU_TRANSPOSE_INL_H_
#else
#define HYENA_KERNELS_CPU_TRANSPOSE_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR  // one lane: nothing to exchange, and no operations to do it with

template <std::size_t kStep, class Tag, class V>
HWY_INLINE void transpose_steps(Tag /*tag*/, V* /*rows*/) {}

#else

/// Swaps the lanes of a whose index has bit kStep set with those of b whose index has not.
template <std::size_t kStep, class Tag, class V>
HWY_INLINE void exchange(Tag tag, V& a, V& b) {
  using T = hn::TFromD<Tag>;
  constexpr std::size_t kBytes = kStep * sizeof(T);
  constexpr std::size_t kHalf = HWY_MAX_BYTES / 2;
  V lower;
  V upper;
  if constexpr (kBytes == kHalf && kBytes >= 16) {
    lower = hn::ConcatLowerLower(tag, b, a);
    upper = hn::ConcatUpperUpper(tag, b, a);
  } else if constexpr (kBytes == 16) {
    lower = hn::OddEvenBlocks(hn::SwapAdjacentBlocks(b), a);
    upper = hn::OddEvenBlocks(b, hn::SwapAdjacentBlocks(a));
  } else if constexpr (kBytes == 8) {
    const hn::Repartition<double, Tag> pairs;
    const auto a_pairs = hn::BitCast(pairs, a);
    const auto b_pairs = hn::BitCast(pairs, b);
    lower = hn::BitCast(tag, hn::InterleaveLower(pairs, a_pairs, b_pairs));
    upper = hn::BitCast(tag, hn::InterleaveUpper(pairs, a_pairs, b_pairs));
  } else {
    lower = hn::OddEven(hn::DupEven(b), a);
    upper = hn::OddEven(b, hn::DupOdd(a));
  }
  a = lower;
  b = upper;
}

template <std::size_t kStep, class Tag, class V>
HWY_INLINE void transpose_steps(Tag tag, V* rows) {
  if constexpr (kStep >= 1) {
    for (std::size_t i = 0; i < hn::MaxLanes(tag); ++i) {
      if ((i & kStep) == 0) {
        exchange<kStep>(tag, rows[i], rows[i + kStep]);
      }
    }
    transpose_steps<kStep / 2>(tag, rows);
  }
}

#endif

/// Calls store(j, column) with lane i of column j being lane j of load(i), for all lanes i, j.
template <class Tag, class Load, class Store>
HWY_INLINE void transpose_square(Tag tag, const Load& load_row, const Store& store_column) {
  constexpr std::size_t kLanes = hn::MaxLanes(tag);
  hn::Vec<Tag> rows[kLanes];
  for (std::size_t i = 0; i < kLanes; ++i) {
    rows[i] = load_row(static_cast<std::int64_t>(i));
  }
  transpose_steps<kLanes / 2>(tag, rows);
  for (std::size_t i = 0; i < kLanes; ++i) {
    store_column(static_cast<std::int64_t>(i), rows[i]);
  }
}

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_TRANSPOSE_INL_H_
