// The right-angle transform on rows of `lanes` independent signals, or of `lanes` neighbours in one
// signal, and the convolution by it, compiled per target. docs/math/right_angle_convolution.md has
// the derivation.
//
// Layout    real rows: time step n at row rows.at(n), one vector; complex rows: real vector, then
//           imaginary vector. A spectrum keeps the order in which the levels leave it.
// Method    depth-first over the tree of blocks, so that sub-blocks stay in the nearest cache; the
//           innermost level is fused with the product and with the inverse's first level
// Cost      about 3 log2 N + 3.5 log2 N + 4 vector instructions per point forward and back
#if defined(HYENA_KERNELS_CPU_RIGHT_ANGLE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_RIGHT_ANGLE_INL_H_
#undef HYENA_KERNELS_CPU_RIGHT_ANGLE_INL_H_
#else
#define HYENA_KERNELS_CPU_RIGHT_ANGLE_INL_H_
#endif

#include <hwy/highway.h>

#include "hyena/kernels/cpu/butterfly-inl.h"
#include "hyena/kernels/cpu/fft_tables.h"
#include "hyena/kernels/cpu/lane_levels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

/// What happens at the bottom of the tree.
enum class Sweep {
  kForward,   // leave the spectrum in x
  kConvolve,  // multiply by `filter`, transform back
  kInverse,   // x is a spectrum: transform back
};

template <class T>
class RightAngle {
 public:
  using Tag = hn::ScalableTag<T>;
  using V = hn::Vec<Tag>;
  using C = Complex<V>;

  explicit RightAngle(const FftTables<T>& tables)
      : tables_(tables), lane_levels_(tables), last_(tables.levels.size() - 1) {}

  /// Scalars up to real row n, and up to complex row n.
  HWY_INLINE std::int64_t real_at(std::int64_t n) const { return tables_.rows.at(n) * lanes(); }
  HWY_INLINE std::int64_t at(std::int64_t n) const { return 2 * real_at(n); }
  /// Rows from one free row to the next.
  [[nodiscard]] std::int64_t group() const { return tables_.rows.group; }
  static HWY_INLINE std::int64_t lanes() { return static_cast<std::int64_t>(hn::Lanes(Tag())); }

  /// x <- spectrum of the real rows u.
  void forward(const T* u, T* x) const {
    first_pass(u, x);
    for (std::int64_t k = 0; k < 8; ++k) {
      sweep<Sweep::kForward>(1, k, x + at(k * tables_.size / 8), nullptr);
    }
  }

  /// y <- N times the signal whose spectrum is `spectrum` filter; y may be u, x is scratch.
  void convolve(const T* u, const T* filter, T* x, T* y) const {
    first_pass(u, x);
    for (std::int64_t k = 0; k < 8; ++k) {
      const std::int64_t offset = at(k * tables_.size / 8);
      sweep<Sweep::kConvolve>(1, k, x + offset, filter + offset);
    }
    last_pass(x, y);
  }

  /// y <- N times the signal with spectrum x, which is destroyed.
  void inverse(T* x, T* y) const {
    for (std::int64_t k = 0; k < 8; ++k) {
      sweep<Sweep::kInverse>(1, k, x + at(k * tables_.size / 8), nullptr);
    }
    last_pass(x, y);
  }

  struct Adjoint {
    const T* filter;
    T* correlation;  // conj(U) G, summed; where it starts, it may take the place of the filter
    Sum sum;
  };

  /// u <- N c, the convolution of u, where kNeedC; g <- N times its adjoint applied to g.
  template <bool kNeedC>
  void backward(T* u, T* g, Adjoint adjoint, T* xu, T* xg) const {
    first_pass(u, xu);
    first_pass(g, xg);
    for (std::int64_t k = 0; k < 8; ++k) {
      const std::int64_t offset = at(k * tables_.size / 8);
      sweep_backward<kNeedC>(1, k, xu + offset, xg + offset,
                             {adjoint.filter + offset, adjoint.correlation + offset, adjoint.sum});
    }
    if constexpr (kNeedC) {
      last_pass(xu, u);
    }
    last_pass(xg, g);
  }

 private:
  using Level = FftLevel<T>;

  /// Calls body(row) for the first m rows of a block.
  template <class Body>
  HWY_INLINE void for_rows(std::int64_t m, const Body& body) const {
    const std::int64_t group = m < tables_.rows.group ? m : tables_.rows.group;
    for (std::int64_t begin = 0; begin < m; begin += group) {
      const std::int64_t first = tables_.rows.at(begin);
      for (std::int64_t j = 0; j < group; ++j) {
        body(first + j);
      }
    }
  }

  void first_pass(const T* HWY_RESTRICT u, T* HWY_RESTRICT x) const {
    const Tag tag;
    const T* node = tables_.levels[0].twiddles.data();
    const std::int64_t m = tables_.size / 8;
    const std::int64_t step = real_at(m);
    for_rows(m, [&](std::int64_t row) HWY_ATTR {
      const T* p = u + row * lanes();
      V in[8];
      Values<V, 8> v;
      for (int k = 0; k < 8; ++k) {
        in[k] = hn::LoadU(tag, p + k * step);
      }
      forward8_real(tag, node, in, v);
      T* out = x + 2 * row * lanes();
      for (int k = 0; k < 8; ++k) {
        store(tag, v[k], out + 2 * k * step);
      }
    });
  }

  void last_pass(const T* HWY_RESTRICT x, T* HWY_RESTRICT y) const {
    const Tag tag;
    const T* node = tables_.levels[0].twiddles.data();
    const std::int64_t m = tables_.size / 8;
    const std::int64_t step = real_at(m);
    for_rows(m, [&](std::int64_t row) HWY_ATTR {
      const T* p = x + 2 * row * lanes();
      Values<V, 8> v;
      V out[8];
      for (int k = 0; k < 8; ++k) {
        v[k] = load(tag, p + 2 * k * step);
      }
      inverse8_real(tag, node, v, out);
      T* q = y + row * lanes();
      for (int k = 0; k < 8; ++k) {
        hn::StoreU(out[k], tag, q + k * step);
      }
    });
  }

  template <int R>
  HWY_INLINE void split_pass(const Level& level, const T* node, T* x) const {
    const Tag tag;
    const T* roots = level.roots.data();
    const std::int64_t m = level.length / R;
    const std::int64_t step = at(m);
    for_rows(m, [&](std::int64_t row) HWY_ATTR {
      T* p = x + 2 * row * lanes();
      Values<V, R> v;
      for (int k = 0; k < R; ++k) {
        v[k] = load(tag, p + k * step);
      }
      forward_butterfly<R>(tag, node, roots, v);
      for (int k = 0; k < R; ++k) {
        store(tag, v[k], p + k * step);
      }
    });
  }

  template <int R>
  HWY_INLINE void join_pass(const Level& level, const T* node, T* x) const {
    const Tag tag;
    const T* roots = level.roots.data();
    const std::int64_t m = level.length / R;
    const std::int64_t step = at(m);
    for_rows(m, [&](std::int64_t row) HWY_ATTR {
      T* p = x + 2 * row * lanes();
      Values<V, R> v;
      for (int k = 0; k < R; ++k) {
        v[k] = load(tag, p + k * step);
      }
      inverse_butterfly<R>(tag, node, roots, v);
      for (int k = 0; k < R; ++k) {
        store(tag, v[k], p + k * step);
      }
    });
  }

  template <Sweep kSweep, int R>
  HWY_INLINE void leaf(const T* node, T* x, const T* filter) const {
    const Tag tag;
    const std::int64_t row = 2 * lanes();
    Values<V, R> v;
    for (int k = 0; k < R; ++k) {
      v[k] = load(tag, x + k * row);
    }
    if constexpr (kSweep != Sweep::kInverse) {
      forward_butterfly<R>(tag, node, nullptr, v);
    }
    if constexpr (kSweep == Sweep::kConvolve) {
      for (int k = 0; k < R; ++k) {
        v[k] = v[k] * load(tag, filter + k * row);
      }
    }
    if constexpr (kSweep != Sweep::kForward) {
      inverse_butterfly<R>(tag, node, nullptr, v);
    }
    for (int k = 0; k < R; ++k) {
      store(tag, v[k], x + k * row);
    }
  }

  template <bool kNeedC, int R>
  HWY_INLINE void leaf_backward(const T* node, T* xu, T* xg, Adjoint adjoint) const {
    const Tag tag;
    const std::int64_t row = 2 * lanes();
    leaf<Sweep::kForward, R>(node, xu, nullptr);
    Values<V, R> g;
    for (int k = 0; k < R; ++k) {
      g[k] = load(tag, xg + k * row);
    }
    forward_butterfly<R>(tag, node, nullptr, g);
    for (int k = 0; k < R; ++k) {
      const C h = load(tag, adjoint.filter + k * row);
      const C u = load(tag, xu + k * row);
      add(tag, adjoint.sum, times_conj(g[k], u), adjoint.correlation + k * row);
      if constexpr (kNeedC) {
        store(tag, u * h, xu + k * row);
      }
      g[k] = times_conj(g[k], h);
    }
    inverse_butterfly<R>(tag, node, nullptr, g);
    for (int k = 0; k < R; ++k) {
      store(tag, g[k], xg + k * row);
    }
    if constexpr (kNeedC) {
      leaf<Sweep::kInverse, R>(node, xu, nullptr);
    }
  }

  /// `count` neighbouring blocks of the last level.
  template <Sweep kSweep, int R>
  void leaves(std::int64_t first, std::int64_t count, T* x) const {
    const Level& level = tables_.levels[last_];
    for (std::int64_t k = 0; k < count; ++k) {
      leaf<kSweep, R>(level.twiddles.data() + (first + k) * level.node_scalars,
                      x + k * R * 2 * lanes(), nullptr);
    }
  }
  template <Sweep kSweep>
  void leaves(std::int64_t first, std::int64_t count, T* x) const {
    tables_.levels[last_].radix == 8 ? leaves<kSweep, 8>(first, count, x)
                                     : leaves<kSweep, 4>(first, count, x);
  }

  /// The last level and the lane levels, on `count` neighbouring blocks of `length` rows.
  template <Sweep kSweep>
  void bottom(std::int64_t length, std::int64_t first, std::int64_t count, T* x,
              const T* filter) const {
    if constexpr (kSweep != Sweep::kInverse) {
      leaves<Sweep::kForward>(first, count, x);
    }
    const std::int64_t groups = count * length / lanes();
    const std::int64_t first_group = first * length / lanes();
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t offset = g * lanes() * 2 * lanes();
      if constexpr (kSweep == Sweep::kForward) {
        lane_levels_.forward(first_group + g, x + offset);
      } else if constexpr (kSweep == Sweep::kConvolve) {
        lane_levels_.convolve(first_group + g, filter + offset, x + offset);
      } else {
        lane_levels_.inverse(first_group + g, x + offset);
      }
    }
    if constexpr (kSweep != Sweep::kForward) {
      leaves<Sweep::kInverse>(first, count, x);
    }
  }

  template <bool kNeedC>
  void bottom_backward(std::int64_t length, std::int64_t first, std::int64_t count, T* xu, T* xg,
                       Adjoint adjoint) const {
    leaves<Sweep::kForward>(first, count, xu);
    leaves<Sweep::kForward>(first, count, xg);
    const std::int64_t groups = count * length / lanes();
    const std::int64_t first_group = first * length / lanes();
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t offset = g * lanes() * 2 * lanes();
      lane_levels_.template backward<kNeedC>(first_group + g, adjoint.filter + offset, adjoint.sum,
                                             adjoint.correlation + offset, xu + offset,
                                             xg + offset);
    }
    if constexpr (kNeedC) {
      leaves<Sweep::kInverse>(first, count, xu);
    }
    leaves<Sweep::kInverse>(first, count, xg);
  }

  template <Sweep kSweep, int R>
  void descend(std::size_t depth, std::int64_t block, T* x, const T* filter) const {
    const Level& level = tables_.levels[depth];
    const T* node = level.twiddles.data() + block * level.node_scalars;
    if constexpr (kSweep != Sweep::kInverse) {
      split_pass<R>(level, node, x);
    }
    if (tables_.lanes > 1 && depth + 1 == last_) {
      bottom<kSweep>(level.length / R, R * block, R, x, filter);
    } else {
      for (std::int64_t k = 0; k < R; ++k) {
        const std::int64_t offset = at(k * (level.length / R));
        sweep<kSweep>(depth + 1, R * block + k, x + offset,
                      kSweep == Sweep::kConvolve ? filter + offset : nullptr);
      }
    }
    if constexpr (kSweep != Sweep::kForward) {
      join_pass<R>(level, node, x);
    }
  }

  template <Sweep kSweep>
  void sweep(std::size_t depth, std::int64_t block, T* x, const T* filter) const {
    const Level& level = tables_.levels[depth];
    if (depth == last_) {
      const T* node = level.twiddles.data() + block * level.node_scalars;
      return level.radix == 8 ? leaf<kSweep, 8>(node, x, filter) : leaf<kSweep, 4>(node, x, filter);
    }
    switch (level.radix) {
      case 8:
        return descend<kSweep, 8>(depth, block, x, filter);
      case 4:
        return descend<kSweep, 4>(depth, block, x, filter);
      case 3:
        return descend<kSweep, 3>(depth, block, x, filter);
      case 5:
        return descend<kSweep, 5>(depth, block, x, filter);
      case 7:
        return descend<kSweep, 7>(depth, block, x, filter);
      default:
        return descend<kSweep, 9>(depth, block, x, filter);
    }
  }

  template <bool kNeedC, int R>
  void descend_backward(std::size_t depth, std::int64_t block, T* xu, T* xg,
                        Adjoint adjoint) const {
    const Level& level = tables_.levels[depth];
    const T* node = level.twiddles.data() + block * level.node_scalars;
    split_pass<R>(level, node, xu);
    split_pass<R>(level, node, xg);
    if (tables_.lanes > 1 && depth + 1 == last_) {
      bottom_backward<kNeedC>(level.length / R, R * block, R, xu, xg, adjoint);
    } else {
      for (std::int64_t k = 0; k < R; ++k) {
        const std::int64_t offset = at(k * (level.length / R));
        sweep_backward<kNeedC>(
            depth + 1, R * block + k, xu + offset, xg + offset,
            {adjoint.filter + offset, adjoint.correlation + offset, adjoint.sum});
      }
    }
    if constexpr (kNeedC) {
      join_pass<R>(level, node, xu);
    }
    join_pass<R>(level, node, xg);
  }

  template <bool kNeedC>
  void sweep_backward(std::size_t depth, std::int64_t block, T* xu, T* xg, Adjoint adjoint) const {
    const Level& level = tables_.levels[depth];
    if (depth == last_) {
      const T* node = level.twiddles.data() + block * level.node_scalars;
      return level.radix == 8 ? leaf_backward<kNeedC, 8>(node, xu, xg, adjoint)
                              : leaf_backward<kNeedC, 4>(node, xu, xg, adjoint);
    }
    switch (level.radix) {
      case 8:
        return descend_backward<kNeedC, 8>(depth, block, xu, xg, adjoint);
      case 4:
        return descend_backward<kNeedC, 4>(depth, block, xu, xg, adjoint);
      case 3:
        return descend_backward<kNeedC, 3>(depth, block, xu, xg, adjoint);
      case 5:
        return descend_backward<kNeedC, 5>(depth, block, xu, xg, adjoint);
      case 7:
        return descend_backward<kNeedC, 7>(depth, block, xu, xg, adjoint);
      default:
        return descend_backward<kNeedC, 9>(depth, block, xu, xg, adjoint);
    }
  }

  const FftTables<T>& tables_;
  const LaneLevels<T> lane_levels_;
  std::size_t last_;
};

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_RIGHT_ANGLE_INL_H_
