// The innermost levels of a transform whose rows hold W = lanes neighbouring coefficients of one
// signal, compiled per target: blocks of W points modulo x^W - w, one in each of W rows. A group of
// W rows is transposed, so that a lane is a block, and transformed in registers.
//
// Layout    a spectrum stays transposed: row n of a group holds point n of its W blocks
// Cost      two transposes of W x W per group, forward and back, more than with a signal per lane
#if defined(HYENA_KERNELS_CPU_LANE_LEVELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_LANE_LEVELS_INL_H_
#undef HYENA_KERNELS_CPU_LANE_LEVELS_INL_H_
#else
#define HYENA_KERNELS_CPU_LANE_LEVELS_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include <hwy/highway.h>

#include "hyena/kernels/cpu/butterfly-inl.h"
#include "hyena/kernels/cpu/fft_tables.h"
#include "hyena/kernels/cpu/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
class LaneLevels {
  using Tag = hn::ScalableTag<T>;
  using V = hn::Vec<Tag>;
  static constexpr auto kLanes = static_cast<int>(hn::MaxLanes(Tag()));
  // 16 lanes: an outer level of radix 4 makes four blocks of radix 4. Fewer: one block.
  static constexpr int kRadix = kLanes == 16 ? 4 : kLanes;
  static constexpr int kBlocks = kLanes / kRadix;
  static constexpr int kRow = 2 * kLanes;  // scalars of a complex row
  static constexpr auto kPoints =
      static_cast<std::size_t>(kLanes) * static_cast<std::size_t>(kRow);  // scalars of a group
  static constexpr int kTwiddles = kLanes == 16 ? 15 : kLanes == 8 ? 8 : kLanes - 1;

 public:
  explicit LaneLevels(const FftTables<T>& tables) : tables_(tables) {}

  /// rows <- spectrum, of group g.
  HWY_INLINE void forward(std::int64_t g, T* rows) const {
    HWY_ALIGN T points[kPoints];
    split(g, rows, points);
    for (int k = 0; k < kBlocks; ++k) {
      Values<V, kRadix> v = load_block(k, points);
      forward_butterfly<kRadix>(Tag(), inner(g, k), nullptr, v);
      store_block(k, v, rows);
    }
  }

  /// rows <- coefficients of the product with `filter`.
  HWY_INLINE void convolve(std::int64_t g, const T* filter, T* rows) const {
    HWY_ALIGN T points[kPoints];
    split(g, rows, points);
    for (int k = 0; k < kBlocks; ++k) {
      Values<V, kRadix> v = load_block(k, points);
      forward_butterfly<kRadix>(Tag(), inner(g, k), nullptr, v);
      for (int n = 0; n < kRadix; ++n) {
        v[n] = v[n] * load(Tag(), filter + (k * kRadix + n) * kRow);
      }
      inverse_butterfly<kRadix>(Tag(), inner(g, k), nullptr, v);
      store_block(k, v, points);
    }
    join(g, points, rows);
  }

  /// rows, a spectrum <- coefficients.
  HWY_INLINE void inverse(std::int64_t g, T* rows) const {
    HWY_ALIGN T points[kPoints];
    for (int k = 0; k < kBlocks; ++k) {
      Values<V, kRadix> v = load_block(k, rows);
      inverse_butterfly<kRadix>(Tag(), inner(g, k), nullptr, v);
      store_block(k, v, points);
    }
    join(g, points, rows);
  }

  /// As RightAngle::backward, on the rows of group g of both transforms.
  template <bool kNeedC>
  HWY_INLINE void backward(std::int64_t g, const T* filter, Sum sum, T* correlation, T* rows_u,
                           T* rows_g) const {
    HWY_ALIGN T points_u[kPoints];
    HWY_ALIGN T points_g[kPoints];
    split(g, rows_u, points_u);
    split(g, rows_g, points_g);
    for (int k = 0; k < kBlocks; ++k) {
      Values<V, kRadix> u = load_block(k, points_u);
      Values<V, kRadix> v = load_block(k, points_g);
      forward_butterfly<kRadix>(Tag(), inner(g, k), nullptr, u);
      forward_butterfly<kRadix>(Tag(), inner(g, k), nullptr, v);
      for (int n = 0; n < kRadix; ++n) {
        const std::int64_t at = (k * kRadix + n) * kRow;
        const Complex<V> h = load(Tag(), filter + at);
        add(Tag(), sum, times_conj(v[n], u[n]), correlation + at);
        u[n] = u[n] * h;
        v[n] = times_conj(v[n], h);
      }
      if constexpr (kNeedC) {
        inverse_butterfly<kRadix>(Tag(), inner(g, k), nullptr, u);
        store_block(k, u, points_u);
      }
      inverse_butterfly<kRadix>(Tag(), inner(g, k), nullptr, v);
      store_block(k, v, points_g);
    }
    if constexpr (kNeedC) {
      join(g, points_u, rows_u);
    }
    join(g, points_g, rows_g);
  }

 private:
  HWY_INLINE LaneNode<T> node(std::int64_t g, int first) const {
    return {tables_.lane_scalars.data() + 2 * (g * kTwiddles + first),
            tables_.lane_vectors.data() + kRow * first};
  }
  HWY_INLINE LaneNode<T> inner(std::int64_t g, int k) const {
    return node(g, kBlocks == 1 ? 0 : kRadix - 1 + k * (kRadix - 1));
  }

  static HWY_INLINE Values<V, kRadix> load_block(int k, const T* points) {
    Values<V, kRadix> v;
    for (int n = 0; n < kRadix; ++n) {
      v[n] = load(Tag(), points + (k * kRadix + n) * kRow);
    }
    return v;
  }
  static HWY_INLINE void store_block(int k, Values<V, kRadix>& v, T* points) {
    for (int n = 0; n < kRadix; ++n) {
      store(Tag(), v[n], points + (k * kRadix + n) * kRow);
    }
  }

  static HWY_INLINE void transpose(const T* from, T* to) {
    const Tag tag;
    for (const int part : {0, kLanes}) {
      transpose_square(
          tag, [&](std::int64_t i) HWY_ATTR { return hn::LoadU(tag, from + i * kRow + part); },
          [&](std::int64_t i, V v) HWY_ATTR { hn::StoreU(v, tag, to + i * kRow + part); });
    }
  }

  HWY_INLINE void split(std::int64_t g, const T* rows, T* points) const {
    transpose(rows, points);
    if constexpr (kBlocks > 1) {
      for (int n = 0; n < kLanes / kBlocks; ++n) {
        Values<V, kBlocks> v;
        for (int k = 0; k < kBlocks; ++k) {
          v[k] = load(Tag(), points + (k * kRadix + n) * kRow);
        }
        forward_butterfly<kBlocks>(Tag(), node(g, 0), nullptr, v);
        for (int k = 0; k < kBlocks; ++k) {
          store(Tag(), v[k], points + (k * kRadix + n) * kRow);
        }
      }
    }
  }

  HWY_INLINE void join(std::int64_t g, T* points, T* rows) const {
    if constexpr (kBlocks > 1) {
      for (int n = 0; n < kLanes / kBlocks; ++n) {
        Values<V, kBlocks> v;
        for (int k = 0; k < kBlocks; ++k) {
          v[k] = load(Tag(), points + (k * kRadix + n) * kRow);
        }
        inverse_butterfly<kBlocks>(Tag(), node(g, 0), nullptr, v);
        for (int k = 0; k < kBlocks; ++k) {
          store(Tag(), v[k], points + (k * kRadix + n) * kRow);
        }
      }
    }
    transpose(points, rows);
  }

  const FftTables<T>& tables_;
};

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_LANE_LEVELS_INL_H_
