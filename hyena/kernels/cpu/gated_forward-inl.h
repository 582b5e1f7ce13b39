// Forward of the gated convolution on one tile of channels, compiled per target.
//
// Method    u = pre . v into packed rows; convolution one unit at a time; y = post . c. A unit is a
//           vector of channels, a signal per lane, or one channel whose rows are neighbouring steps
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

/// Steps [begin, end) of a row, whose results one transform gives.
struct Window {
  std::int64_t begin;
  std::int64_t end;
};

/// Everything a call needs for its tiles; made anew in the workspace by every call.
template <class T>
class Worker {
  using Tag = hn::ScalableTag<T>;
  using V = hn::Vec<Tag>;

 public:
  Worker(const GatedConvPlan& plan, Arena& arena)
      : shape_(plan.shape()),
        is_direct_(plan.internals().is_direct),
        is_windowed_(plan.internals().is_windowed),
        direct_(plan.internals().size, plan.shape().filter_length),
        transform_(tables_of<T>(plan)),
        rows_(plan.internals().rows),
        size_(plan.internals().size),
        scale_(is_direct_ ? T{1} : T{1} / static_cast<T>(size_)),
        width_(plan.internals().width),
        lanes_(static_cast<std::int64_t>(hn::Lanes(Tag()))),
        steps_per_row_(plan.internals().steps_per_row),
        block_steps_(steps_per_row_ > kBlockSteps ? steps_per_row_ : kBlockSteps),
        unit_(lanes_ / steps_per_row_),
        // One row more than needed: units a power of two apart would share a few cache sets.
        unit_scalars_(row_at(size_ / steps_per_row_) + lanes_),
        past_caches_(width_ / unit_ * unit_scalars_ * static_cast<std::int64_t>(sizeof(T)) >
                     kCachedTileBytes) {
    u_ = arena.take<T>(width_ / unit_ * unit_scalars_);
    x_ = arena.take<T>(signal_scalars());
    taps_ = arena.take<T>(unit_scalars_);
    spectra_ = arena.take<T>(kept_units() * spectrum_scalars());
  }

  /// Scalars up to packed row n.
  [[nodiscard]] std::int64_t row_at(std::int64_t n) const { return rows_.at(n) * lanes_; }
  /// Scalars of one unit's filter as the convolution wants it, and of the scratch for its signal.
  [[nodiscard]] std::int64_t spectrum_scalars() const {
    return is_direct_ ? direct_.filter_scalars() : 2 * row_at(size_ / steps_per_row_);
  }
  [[nodiscard]] std::int64_t signal_scalars() const {
    return is_direct_ ? direct_.padded_scalars() : 2 * row_at(size_ / steps_per_row_);
  }
  [[nodiscard]] Tile tile(std::int64_t batch, std::int64_t index) const {
    const std::int64_t first = index * width_;
    const std::int64_t left = shape_.channels - first;
    return {batch, first, left < width_ ? left : width_, width_};
  }

  /// Filters, and their gradients, are kept for all units of a tile while its rows follow each
  /// other. With a single row they are made and consumed where they are used, in the nearest cache.
  [[nodiscard]] bool keeps_units() const { return shape_.batch != 1 || is_windowed_; }
  [[nodiscard]] std::int64_t kept_units() const { return keeps_units() ? width_ / unit_ : 1; }
  [[nodiscard]] std::int64_t kept_unit(std::int64_t c) const {
    return keeps_units() ? c / unit_ : 0;
  }

  /// Where the filter of the unit at channel c of the tile lies among those of all channels.
  [[nodiscard]] std::int64_t spectrum_at(const Tile& tile, std::int64_t c) const {
    return (tile.first + c) / unit_ * spectrum_scalars();
  }

  /// The filter of the unit at channel c of the tile, as the convolution wants it.
  const T* filter_of(const FilterArguments& filter, const Tile& tile, std::int64_t c) {
    if (filter.spectrum != nullptr) {
      return static_cast<const T*>(filter.spectrum) + spectrum_at(tile, c);
    }
    T* spectrum = spectra_ + kept_unit(c) * spectrum_scalars();
    if (keeps_units() && tile.first + c < spectra_end_ && tile.first >= spectra_begin_) {
      return spectrum;
    }
    spectra_begin_ = tile.first;
    spectra_end_ = tile.first + c + 1;
    make_spectrum(filter, tile, c, spectrum);
    return spectrum;
  }

  void make_spectrum(const FilterArguments& filter, const Tile& tile, std::int64_t c, T* spectrum) {
    pack_taps(static_cast<const T*>(filter.h_DK), tile, c);
    add_skip(static_cast<const T*>(filter.skip_D), tile, c);
    is_direct_ ? direct_.set_filter(taps_, spectrum) : transform_.forward(taps_, spectrum);
    if (filter.reverse_DK != nullptr) {
      pack_taps(static_cast<const T*>(filter.reverse_DK), tile, c);
      is_direct_ ? direct_.set_reverse(taps_, spectrum) : add_reverse(spectrum);
    }
  }

  void make_spectra(const FilterArguments& filter, const Tile& tile, T* spectra) {
    for (std::int64_t c = 0; c < tile.channels; c += unit_) {
      make_spectrum(filter, tile, c, spectra + spectrum_at(tile, c));
    }
  }

  /// spectrum += the conjugate of that of the packed taps
  void add_reverse(T* spectrum) {
    const Tag tag;
    transform_.forward(taps_, x_);
    for (std::int64_t i = 0; i < spectrum_scalars(); i += 2 * lanes_) {
      const Complex<V> forwards = load(tag, spectrum + i);
      const Complex<V> backwards = load(tag, x_ + i);
      store(tag, {hn::Add(forwards.re, backwards.re), hn::Sub(forwards.im, backwards.im)},
            spectrum + i);
    }
  }

  /// The skip is one more tap at lag 0.
  void add_skip(const T* skip_D, const Tile& tile, std::int64_t c) {
    for (std::int64_t lane = 0; skip_D != nullptr && lane < unit_ && c + lane < tile.channels;
         ++lane) {
      taps_[lane] += skip_D[tile.first + c + lane] * scale_;
    }
  }

  /// Steps of the sequence that a transform repeats from the one before: what its first outputs
  /// reach back to, and its last ones ahead.
  [[nodiscard]] std::int64_t reach_back() const {
    return is_windowed_ ? shape_.filter_length - 1 : 0;
  }
  [[nodiscard]] std::int64_t overlap(const FilterArguments& filter) const {
    return filter.reverse_DK != nullptr ? 2 * reach_back() : reach_back();
  }

  /// Calls body(window) from the start of the sequence to its end, packed rows being those of the
  /// window meanwhile (overlap-save; a single window where the transform covers the sequence).
  template <class Body>
  void for_windows(const FilterArguments& filter, const Body& body) {
    const std::int64_t hop = size_ - overlap(filter);
    for (std::int64_t begin = 0; begin == 0 || begin < shape_.length; begin += hop) {
      origin_ = begin - reach_back();
      const std::int64_t left = shape_.length - begin;
      body(Window{begin, begin + (left < hop ? left : hop)});
    }
  }
  /// The steps of the sequence that the packed rows hold.
  [[nodiscard]] Window held() const {
    const std::int64_t end = origin_ + size_;
    return {origin_ < 0 ? 0 : origin_, end < shape_.length ? end : shape_.length};
  }

  /// u <- pre . v for every step that is held, zeros elsewhere.
  void pack_gated(FactorStream<T>& pre, FactorStream<T>& v, T* u) {
    const Window window = held();
    for (std::int64_t begin = window.begin; begin < window.end; begin += block_steps_) {
      const Block block = block_at(begin, window.end);
      v.read(block);
      Rows<const T> factor{};
      if (pre.present()) {
        pre.read(block);
        factor = pre.values(block);
      }
      pack_product(block, factor, v.values(block), u);
    }
    clear_outside(window, u);
  }

  /// packed <- a . b, a.data null standing for ones.
  void pack_product(Block block, Rows<const T> a, Rows<const T> b, T* packed) {
    const Tag tag;
    const auto product = [&](std::int64_t c, std::int64_t t) HWY_ATTR {
      const V value = hn::LoadU(tag, b.data + t * b.stride + c);
      return a.data == nullptr ? value : hn::Mul(value, hn::LoadU(tag, a.data + t * a.stride + c));
    };
    if (steps_per_row_ > 1) {
      each_square(block, packed, [&](std::int64_t c, std::int64_t begin, T* row) HWY_ATTR {
        transpose_square(
            tag,
            [&](std::int64_t t) HWY_ATTR {
              return begin + t < block.steps ? product(c, begin + t) : hn::Zero(tag);
            },
            [&](std::int64_t channel, V steps) HWY_ATTR {
              T* to = row + channel * unit_scalars_;
              past_caches_ ? store_rows<Use::kResult>(tag, steps, to) : hn::StoreU(steps, tag, to);
            });
      });
      return;
    }
    each_packed(block, packed, [&](std::int64_t c, std::int64_t t, T* row) HWY_ATTR {
      hn::StoreU(product(c, t), tag, row);
    });
  }

  /// out <- factor . packed, factor.data null standing for ones.
  void unpack_product(Block block, Rows<const T> factor, T* packed, Rows<T> out) {
    out.use == Use::kResult ? unpack_product<Use::kResult>(block, factor, packed, out)
                            : unpack_product<Use::kSoon>(block, factor, packed, out);
  }

  template <Use kUse>
  void unpack_product(Block block, Rows<const T> factor, T* packed, Rows<T> out) {
    const Tag tag;
    const auto put = [&](std::int64_t c, std::int64_t t, V value) HWY_ATTR {
      if (factor.data != nullptr) {
        value = hn::Mul(value, hn::LoadU(tag, factor.data + t * factor.stride + c));
      }
      store_rows<kUse>(tag, value, out.data + t * out.stride + c);
    };
    if (steps_per_row_ > 1) {
      each_square(block, packed, [&](std::int64_t c, std::int64_t begin, const T* row) HWY_ATTR {
        transpose_square(
            tag,
            [&](std::int64_t channel)
                HWY_ATTR { return hn::LoadU(tag, row + channel * unit_scalars_); },
            [&](std::int64_t t, V value) HWY_ATTR {
              if (begin + t < block.steps) {
                put(c, begin + t, value);
              }
            });
      });
      return;
    }
    each_packed(block, packed, [&](std::int64_t c, std::int64_t t, const T* row) HWY_ATTR {
      put(c, t, hn::LoadU(tag, row));
    });
  }

  /// Zeros where `window` is not; packing has filled the row that its end is in.
  void clear_outside(Window window, T* packed) {
    const std::int64_t end = window.end - origin_;
    clear_rows(0, window.begin - origin_, packed);
    clear_rows((end + steps_per_row_ - 1) / steps_per_row_, size_ / steps_per_row_, packed);
  }
  void clear_rows(std::int64_t begin, std::int64_t end, T* packed) {
    const Tag tag;
    for (std::int64_t c = 0; c < width_; c += unit_) {
      T* rows = packed + c / unit_ * unit_scalars_;
      for (std::int64_t row = begin; row < end; ++row) {
        hn::StoreU(hn::Zero(tag), tag, rows + row_at(row));
      }
    }
  }

  void convolve(const Tile& tile, const FilterArguments& filter) {
    for (std::int64_t c = 0; c < tile.channels; c += unit_) {
      T* u = u_ + c / unit_ * unit_scalars_;
      const T* spectrum = filter_of(filter, tile, c);
      if (is_direct_) {
        direct_.pad(u, x_);
        direct_.convolve(spectrum, x_, u);
      } else {
        transform_.convolve(u, spectrum, x_, u);
      }
    }
  }

  void forward(const FilterArguments& filter, FactorStream<T>& post, FactorStream<T>& pre,
               FactorStream<T>& v, ResultStream<T>& y, const Tile& tile) {
    post.open(tile);
    pre.open(tile);
    v.open(tile);
    y.open(tile);
    for_windows(filter, [&](Window window) HWY_ATTR {
      pack_gated(pre, v, u_);
      convolve(tile, filter);
      for (std::int64_t begin = window.begin; begin < window.end; begin += block_steps_) {
        const Block block = block_at(begin, window.end);
        Rows<const T> factor{};
        if (post.present()) {
          post.read(block);
          factor = post.values(block);
        }
        unpack_product(block, factor, u_, y.rows(block));
        y.write(block);
      }
    });
    y.close();
  }

  [[nodiscard]] Block block_at(std::int64_t begin, std::int64_t end) const {
    const std::int64_t left = end - begin;
    return {begin, left < block_steps_ ? left : block_steps_};
  }

  /// The (D, K) taps of one unit, over N, into taps_; zero-filled to the transform's size.
  void pack_taps(const T* h_DK, const Tile& tile, std::int64_t c) {
    if (steps_per_row_ > 1) {
      return pack_taps_of_channel(h_DK + (tile.first + c) * shape_.filter_length);
    }
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
              HWY_ATTR { hn::StoreU(hn::Mul(row, scales), tag, taps_ + row_at(s + i)); });
    }
    for (; s < size_; ++s) {
      T* row = taps_ + row_at(s);
      for (std::int64_t lane = 0; lane < lanes_; ++lane) {
        row[lane] = s < K && lane < channels ? h[lane * K + s] * scale_ : T{0};
      }
    }
  }

  void pack_taps_of_channel(const T* h_K) {
    const Tag tag;
    const std::int64_t K = shape_.filter_length;
    const V scales = hn::Set(tag, scale_);
    for (std::int64_t s = 0; s < size_; s += lanes_) {
      T* row = taps_ + row_at(s / lanes_);
      if (s + lanes_ <= K) {
        hn::StoreU(hn::Mul(hn::LoadU(tag, h_K + s), scales), tag, row);
      } else {
        for (std::int64_t lane = 0; lane < lanes_; ++lane) {
          row[lane] = s + lane < K ? h_K[s + lane] * scale_ : T{0};
        }
      }
    }
  }

  /// The first K steps of `rows` over N, to (D, K).
  void unpack_taps(const T* rows, const Tile& tile, std::int64_t c, T* h_DK) {
    if (steps_per_row_ > 1) {
      return unpack_taps_of_channel(rows, h_DK + (tile.first + c) * shape_.filter_length);
    }
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

  void unpack_taps_of_channel(const T* rows, T* h_K) {
    const Tag tag;
    const std::int64_t K = shape_.filter_length;
    const V scales = hn::Set(tag, scale_);
    for (std::int64_t s = 0; s < K; s += lanes_) {
      const T* row = rows + row_at(s / lanes_);
      if (s + lanes_ <= K) {
        store_rows<Use::kResult>(tag, hn::Mul(hn::LoadU(tag, row), scales), h_K + s);
      } else {
        for (std::int64_t lane = 0; s + lane < K; ++lane) {
          h_K[s + lane] = row[lane] * scale_;
        }
      }
    }
  }

 protected:
  /// Calls body(c, t, row) for every `lanes_` channels c and steps t of the block, row being the
  /// packed row of the first; rows of the other channels lie unit_scalars_ apart.
  template <class Body>
  HWY_INLINE void each_square(Block block, T* packed, const Body& body) const {
    for (std::int64_t c = 0; c < width_; c += lanes_) {
      for (std::int64_t t = 0; t < block.steps; t += lanes_) {
        body(c, t, packed + c * unit_scalars_ + row_at((block.begin - origin_ + t) / lanes_));
      }
    }
  }

  /// Calls body(c, t, row) for every vector c and step of the block, row being its packed row.
  template <class Body>
  HWY_INLINE void each_packed(Block block, T* packed, const Body& body) const {
    const std::int64_t group = rows_.group;
    const std::int64_t first = row_at(block.begin - origin_);
    for (std::int64_t c = 0; c < width_; c += lanes_) {
      T* row = packed + c / lanes_ * unit_scalars_ + first;
      std::int64_t left = group - (block.begin - origin_) % group;
      for (std::int64_t t = 0; t < block.steps; ++t) {
        body(c, t, row);
        row += --left == 0 ? 2 * lanes_ : lanes_;
        left = left == 0 ? group : left;
      }
    }
  }

  const GatedConvShape& shape_;
  bool is_direct_;
  bool is_windowed_;
  const Direct<T> direct_;
  const RightAngle<T> transform_;
  RowGeometry rows_;
  std::int64_t size_;
  T scale_;  // folded into filters
  std::int64_t width_;
  std::int64_t lanes_;
  std::int64_t steps_per_row_;  // 1, or lanes_
  std::int64_t block_steps_;
  std::int64_t unit_;          // channels of a unit: lanes_, or 1
  std::int64_t unit_scalars_;  // from one packed unit to the next
  bool past_caches_;           // packed steps of a channel leave the caches before they are used
  T* u_;                       // packed rows of a tile: u, then c
  T* x_;                       // complex rows of one unit
  T* taps_;                    // packed rows of one unit's filter
  T* spectra_;                 // filters of the units that cover channels
  std::int64_t origin_ = 0;    // the step that packed row 0 holds; may be before 0
  std::int64_t spectra_begin_ = 0;
  std::int64_t spectra_end_ = 0;
};

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_GATED_FORWARD_INL_H_
