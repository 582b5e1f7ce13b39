// Filter and forward of the gated convolution on one tile of channels, compiled per target.
//
// Method    u = pre . v into packed rows, one signal per lane; convolution one vector of channels
//           at a time; y = post . c
#if defined(HYENA_KERNELS_CPU_GATED_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_GATED_FORWARD_INL_H_
#undef HYENA_KERNELS_CPU_GATED_FORWARD_INL_H_
#else
#define HYENA_KERNELS_CPU_GATED_FORWARD_INL_H_
#endif

#include <cstdint>

#include <hwy/highway.h>

#include "hyena/kernels/cpu/arena.h"
#include "hyena/kernels/cpu/direct-inl.h"
#include "hyena/kernels/cpu/gated_conv_plan.h"
#include "hyena/kernels/cpu/right_angle-inl.h"
#include "hyena/kernels/cpu/stream-inl.h"
#include "hyena/kernels/cpu/transpose-inl.h"
#include "hyena/kernels/gated_conv.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
const FftTables<T>& tables_of(const GatedConvPlan& plan) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return *plan.internals().tables_f32;
  } else {
    return *plan.internals().tables_f64;
  }
}

/// Everything a call needs for its tiles; made anew in the workspace by every call.
template <class T>
class Worker {
  using Tag = hn::ScalableTag<T>;
  using V = hn::Vec<Tag>;

 public:
  Worker(const GatedConvPlan& plan, Arena& arena)
      : shape_(plan.shape()),
        is_direct_(plan.internals().is_direct),
        direct_(plan.internals().size, plan.shape().filter_length),
        transform_(tables_of<T>(plan)),
        rows_(plan.internals().rows),
        size_(plan.internals().size),
        scale_(is_direct_ ? T{1} : T{1} / static_cast<T>(size_)),
        width_(plan.internals().width),
        lanes_(static_cast<std::int64_t>(hn::Lanes(Tag()))) {
    u_ = arena.take<T>(width_ / lanes_ * row_at(size_));
    x_ = arena.take<T>(signal_scalars());
    block_ = arena.take<T>(kBlockSteps * width_);
  }

  /// Scalars up to packed row n.
  [[nodiscard]] std::int64_t row_at(std::int64_t n) const { return rows_.at(n) * lanes_; }
  /// Scalars of one vector's filter as the convolution wants it, and of the scratch for its signal.
  [[nodiscard]] std::int64_t spectrum_scalars() const {
    return is_direct_ ? direct_.filter_scalars() : 2 * row_at(size_);
  }
  [[nodiscard]] std::int64_t signal_scalars() const {
    return is_direct_ ? direct_.padded_scalars() : 2 * row_at(size_);
  }
  [[nodiscard]] Tile tile(std::int64_t batch, std::int64_t index) const {
    const std::int64_t first = index * width_;
    const std::int64_t left = shape_.channels - first;
    return {batch, first, left < width_ ? left : width_, width_};
  }

  void filter(const FilterArguments& filter, const Tile& tile, T* spectrum_DN) {
    for (std::int64_t c = 0; c < tile.channels; c += lanes_) {
      T* spectrum = spectrum_DN + (tile.first + c) / lanes_ * spectrum_scalars();
      pack_taps(static_cast<const T*>(filter.h_DK), tile, c);
      add_skip(static_cast<const T*>(filter.skip_D), tile, c);
      is_direct_ ? direct_.set_filter(u_, spectrum) : transform_.forward(u_, spectrum);
      if (filter.reverse_DK != nullptr) {
        pack_taps(static_cast<const T*>(filter.reverse_DK), tile, c);
        is_direct_ ? direct_.set_reverse(u_, spectrum) : add_reverse(spectrum);
      }
    }
  }

  /// spectrum += the conjugate of that of the taps in u_
  void add_reverse(T* spectrum) {
    const Tag tag;
    transform_.forward(u_, x_);
    for (std::int64_t i = 0; i < spectrum_scalars(); i += 2 * lanes_) {
      const Complex<V> forwards = load(tag, spectrum + i);
      const Complex<V> backwards = load(tag, x_ + i);
      store(tag, {hn::Add(forwards.re, backwards.re), hn::Sub(forwards.im, backwards.im)},
            spectrum + i);
    }
  }

  /// The skip is one more tap at lag 0.
  void add_skip(const T* skip_D, const Tile& tile, std::int64_t c) {
    for (std::int64_t lane = 0; skip_D != nullptr && lane < lanes_ && c + lane < tile.channels;
         ++lane) {
      u_[lane] += skip_D[tile.first + c + lane] * scale_;
    }
  }

  /// u <- pre . v for every step, zeros up to the transform's size.
  void pack_gated(FactorStream<T>& pre, FactorStream<T>& v, T* u) {
    for (std::int64_t begin = 0; begin < shape_.length; begin += kBlockSteps) {
      const Block block = block_at(begin);
      v.read(block);
      Rows<const T> factor{};
      if (pre.present()) {
        pre.read(block);
        factor = pre.values(block);
      }
      pack_product(block, factor, v.values(block), u);
    }
    clear_padding(u);
  }

  /// packed <- a . b, a.data null standing for ones.
  void pack_product(Block block, Rows<const T> a, Rows<const T> b, T* packed) {
    const Tag tag;
    each_packed(block, packed, [&](std::int64_t c, std::int64_t t, T* row) HWY_ATTR {
      V value = hn::LoadU(tag, b.data + t * b.stride + c);
      if (a.data != nullptr) {
        value = hn::Mul(value, hn::LoadU(tag, a.data + t * a.stride + c));
      }
      hn::StoreU(value, tag, row);
    });
  }

  /// out <- factor . packed, factor.data null standing for ones.
  template <Use kUse>
  void unpack_product(Block block, Rows<const T> factor, T* packed, Rows<T> out) {
    const Tag tag;
    each_packed(block, packed, [&](std::int64_t c, std::int64_t t, const T* row) HWY_ATTR {
      V value = hn::LoadU(tag, row);
      if (factor.data != nullptr) {
        value = hn::Mul(value, hn::LoadU(tag, factor.data + t * factor.stride + c));
      }
      store_rows<kUse>(tag, value, out.data + t * out.stride + c);
    });
  }

  void clear_padding(T* packed) {
    const Tag tag;
    each_packed({shape_.length, size_ - shape_.length}, packed,
                [&](std::int64_t, std::int64_t, T* row)
                    HWY_ATTR { hn::StoreU(hn::Zero(tag), tag, row); });
  }

  void convolve(const Tile& tile, const T* spectrum_DN) {
    for (std::int64_t c = 0; c < tile.channels; c += lanes_) {
      T* u = u_ + c / lanes_ * row_at(size_);
      const T* spectrum = spectrum_DN + (tile.first + c) / lanes_ * spectrum_scalars();
      if (is_direct_) {
        direct_.pad(u, x_);
        direct_.convolve(spectrum, x_, u);
      } else {
        transform_.convolve(u, spectrum, x_, u);
      }
    }
  }

  void forward(const GatedConvForward& arguments, FactorStream<T>& post, FactorStream<T>& pre,
               FactorStream<T>& v, const Tile& tile) {
    post.open(tile);
    pre.open(tile);
    v.open(tile);
    pack_gated(pre, v, u_);
    convolve(tile, static_cast<const T*>(arguments.spectrum));
    for (std::int64_t begin = 0; begin < shape_.length; begin += kBlockSteps) {
      const Block block = block_at(begin);
      Rows<const T> factor{};
      if (post.present()) {
        post.read(block);
        factor = post.values(block);
      }
      unpack_product<Use::kResult>(block, factor, u_,
                                   rows_to_write(shape_.type, arguments.y, tile, block, block_));
      write_rows(shape_.type, block_, tile, block, arguments.y);
    }
  }

  [[nodiscard]] Block block_at(std::int64_t begin) const {
    const std::int64_t left = shape_.length - begin;
    return {begin, left < kBlockSteps ? left : kBlockSteps};
  }

  /// One vector of channels of (D, K) taps, over N, into u_; zero-filled to the transform's size.
  void pack_taps(const T* h_DK, const Tile& tile, std::int64_t c) {
    const Tag tag;
    const std::int64_t K = shape_.filter_length;
    const std::int64_t channels = tile.channels - c < lanes_ ? tile.channels - c : lanes_;
    const T* h = h_DK + (tile.first + c) * K;
    const V scales = hn::Set(tag, scale_);
    std::int64_t s = 0;
    for (; channels == lanes_ && s + lanes_ <= K; s += lanes_) {
      transpose_square(
          tag, [&](std::int64_t lane) HWY_ATTR { return hn::LoadU(tag, h + lane * K + s); },
          [&](std::int64_t i, V row)
              HWY_ATTR { hn::StoreU(hn::Mul(row, scales), tag, u_ + row_at(s + i)); });
    }
    for (; s < size_; ++s) {
      T* row = u_ + row_at(s);
      for (std::int64_t lane = 0; lane < lanes_; ++lane) {
        row[lane] = s < K && lane < channels ? h[lane * K + s] * scale_ : T{0};
      }
    }
  }

  /// The first K rows of `rows` over N, to (D, K).
  void unpack_taps(const T* rows, const Tile& tile, std::int64_t c, T* h_DK) {
    const Tag tag;
    const std::int64_t K = shape_.filter_length;
    const std::int64_t channels = tile.channels - c < lanes_ ? tile.channels - c : lanes_;
    T* h = h_DK + (tile.first + c) * K;
    const V scales = hn::Set(tag, scale_);
    std::int64_t s = 0;
    for (; channels == lanes_ && s + lanes_ <= K; s += lanes_) {
      transpose_square(
          tag, [&](std::int64_t i) HWY_ATTR { return hn::LoadU(tag, rows + row_at(s + i)); },
          [&](std::int64_t lane, V taps)
              HWY_ATTR { hn::StoreU(hn::Mul(taps, scales), tag, h + lane * K + s); });
    }
    for (; s < K; ++s) {
      const T* row = rows + row_at(s);
      for (std::int64_t lane = 0; lane < channels; ++lane) {
        h[lane * K + s] = row[lane] * scale_;
      }
    }
  }

 protected:
  /// Calls body(c, t, row) for every vector c and step of the block, row being its packed row.
  template <class Body>
  HWY_INLINE void each_packed(Block block, T* packed, const Body& body) const {
    const std::int64_t group = rows_.group;
    const std::int64_t first = row_at(block.begin);
    for (std::int64_t c = 0; c < width_; c += lanes_) {
      T* row = packed + c / lanes_ * row_at(size_) + first;
      std::int64_t left = group - block.begin % group;
      for (std::int64_t t = 0; t < block.steps; ++t) {
        body(c, t, row);
        row += --left == 0 ? 2 * lanes_ : lanes_;
        left = left == 0 ? group : left;
      }
    }
  }

  const GatedConvShape& shape_;
  bool is_direct_;
  const Direct<T> direct_;
  const RightAngle<T> transform_;
  RowGeometry rows_;
  std::int64_t size_;
  T scale_;  // folded into filters
  std::int64_t width_;
  std::int64_t lanes_;
  T* u_;      // packed rows of a tile: u, then c
  T* x_;      // complex rows of one vector
  T* block_;  // rows of one block
};

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_GATED_FORWARD_INL_H_
