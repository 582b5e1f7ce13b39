// What happens to the data outside the long convolution, compiled per target: reading factors
// through their short convolutions, writing results, and the backward of both. Works on blocks of
// time steps of a tile of channels.
//
// Channels-last data of the arithmetic type is read and written in place. Everything else (other
// strides, bfloat16, the last channels of a tile that is not full, steps before 0) passes through
// packed rows, so the arithmetic below knows one layout only: those of a block, in L1, or where
// time steps are adjacent those of kSpanSteps.
#if defined(HYENA_KERNELS_CPU_STREAM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_STREAM_INL_H_
#undef HYENA_KERNELS_CPU_STREAM_INL_H_
#else
#define HYENA_KERNELS_CPU_STREAM_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include "hyena/kernels/array.h"
#include "hyena/kernels/cpu/arena.h"
#include "hyena/kernels/cpu/storage-inl.h"
#include "hyena/kernels/cpu/tuning.h"
#include "hyena/kernels/gated_conv.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// What becomes of stored rows.
enum class Use {
  kSoon,    // read back in this block
  kResult,  // much later: whole cache lines bypass the caches, FlushStream() at the end; a store
            // that first reads its line costs twice the traffic
};

/// Rows of a tile: step t at data + t * stride.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t stride = 0;
  Use use = Use::kSoon;  // where they are written
};

/// Channels [first, first + channels) of row `batch`, in `width` lanes.
struct Tile {
  std::int64_t batch;
  std::int64_t first;
  std::int64_t channels;
  std::int64_t width;
};

/// Steps [begin, begin + steps).
struct Block {
  std::int64_t begin = 0;
  std::int64_t steps = 0;
  [[nodiscard]] std::int64_t end() const { return begin + steps; }
};

template <class S>
HWY_INLINE S* tile_begin(S* x, const Strides& strides, const Tile& tile) {
  return x + tile.batch * strides.batch + tile.first * strides.channel;
}

template <class T>
HWY_INLINE bool in_place(DataType type, const Strides& strides, const Tile& tile, Block block) {
  return type != DataType::kBFloat16 && strides.channel == 1 && tile.channels == tile.width &&
         block.begin >= 0;
}

/// The rows of `block`, in place or copied to `packed`.
template <class T>
Rows<const T> read_rows(DataType type, const ConstArray& x, const Tile& tile, Block block,
                        T* packed) {
  const T* rows = tile_begin(static_cast<const T*>(x.data), x.strides, tile);
  if (in_place<T>(type, x.strides, tile, block)) {
    return {rows + block.begin * x.strides.time, x.strides.time};
  }
  const Patch patch{block.begin, block.steps, tile.channels, tile.width};
  if constexpr (sizeof(T) == sizeof(float)) {  // float64 knows no other storage
    if (type == DataType::kBFloat16) {
      gather(tile_begin(static_cast<const BFloat16*>(x.data), x.strides, tile), x.strides, patch,
             packed);
      return {packed, tile.width};
    }
  }
  gather(rows, x.strides, patch, packed);
  return {packed, tile.width};
}

template <Use kUse, class Tag>
HWY_INLINE void store_rows(Tag tag, hn::Vec<Tag> v, hn::TFromD<Tag>* to) {
  if (kUse == Use::kResult && hn::Lanes(tag) * sizeof(hn::TFromD<Tag>) == 64 &&
      reinterpret_cast<std::uintptr_t>(to) % 64 == 0) {
    hn::Stream(v, tag, to);
  } else {
    hn::StoreU(v, tag, to);
  }
}

/// Rows of a result, block after block: where to compute them, and their way to memory.
template <class T>
class ResultStream {
 public:
  /// `most_steps` of a block.
  ResultStream(DataType type, std::int64_t width, std::int64_t most_steps, const Array* result,
               Arena& arena)
      : result_(result), type_(type) {
    packed_ = arena.take<T>((kSpanSteps + most_steps) * width);
  }

  void open(const Tile& tile) {
    tile_ = tile;
    span_ = {};
  }

  /// Where to compute the rows of `block`, which follows the one before; finish with write().
  Rows<T> rows(Block block) {
    const Strides& strides = result_->strides;
    if (in_place<T>(type_, strides, tile_, block)) {
      return {
          tile_begin(static_cast<T*>(result_->data), strides, tile_) + block.begin * strides.time,
          strides.time, Use::kResult};
    }
    if (span_.steps == 0) {
      span_.begin = block.begin;
    }
    return {packed_ + span_.steps * tile_.width, tile_.width};
  }

  void write(Block block) {
    if (in_place<T>(type_, result_->strides, tile_, block)) {
      return;
    }
    span_.steps += block.steps;
    if (span_.steps >= kSpanSteps || !has_adjacent_steps(result_->strides)) {
      close();
    }
  }

  /// After the last block of a row.
  void close() {
    if (span_.steps == 0) {
      return;
    }
    const Patch patch{span_.begin, span_.steps, tile_.channels, tile_.width};
    span_.steps = 0;
    const Strides& strides = result_->strides;
    if constexpr (sizeof(T) == sizeof(float)) {
      if (type_ == DataType::kBFloat16) {
        auto* rows = tile_begin(static_cast<BFloat16*>(result_->data), strides, tile_);
        return scatter(packed_, patch, strides, rows);
      }
    }
    scatter(packed_, patch, strides, tile_begin(static_cast<T*>(result_->data), strides, tile_));
  }

 private:
  const Array* result_;
  DataType type_;
  Tile tile_{};
  Block span_;  // steps in packed_
  T* packed_;
};

/// Calls body(lane, t) for the vectors of `steps` rows, the steps of one vector after another.
template <class T, class Body>
HWY_INLINE void for_vectors(std::int64_t width, std::int64_t steps, const Body& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(hn::ScalableTag<T>()));
  for (std::int64_t c = 0; c < width; c += lanes) {
    for (std::int64_t t = 0; t < steps; ++t) {
      body(c, t);
    }
  }
}

/// A factor as one tile sees it.
template <class T>
class FactorStream {
  using Tag = hn::ScalableTag<T>;
  using V = hn::Vec<Tag>;

 public:
  FactorStream(const GatedConvShape& shape, std::int64_t width, const Factor* factor, Arena& arena)
      : factor_(factor),
        type_(shape.type),
        length_(shape.length),
        width_(width),
        halo_(factor_taps(shape, factor) - 1) {
    const std::int64_t taps = halo_ + 1;
    packed_ = arena.take<T>((kSpanSteps + kMostBlockSteps + halo_) * width);
    q_ = arena.take<T>(kMostBlockSteps * width);
    weight_ = arena.take<T>(taps * width);
    bias_ = arena.take<T>(width);
  }

  [[nodiscard]] bool present() const { return factor_->x.data != nullptr; }
  [[nodiscard]] bool filtered() const { return present() && factor_->weight_DT != nullptr; }
  [[nodiscard]] std::int64_t halo() const { return filtered() ? halo_ : 0; }
  /// Tap of lag r for the tile's channels.
  [[nodiscard]] const T* weight(std::int64_t r) const { return weight_ + r * width_; }

  void open(const Tile& tile) {
    const bool same_channels = tile_.first == tile.first && tile_.channels == tile.channels;
    tile_ = tile;
    span_ = {};
    if (!filtered() || same_channels) {
      return;
    }
    const std::int64_t taps = halo_ + 1;
    const T* weight_DT = static_cast<const T*>(factor_->weight_DT);
    const T* bias_D = static_cast<const T*>(factor_->bias_D);
    for (std::int64_t c = 0; c < width_; ++c) {
      const bool real = c < tile.channels;
      for (std::int64_t r = 0; r < taps; ++r) {
        weight_[r * width_ + c] = real ? weight_DT[(tile.first + c) * taps + halo_ - r] : T{0};
      }
      bias_[c] = real && bias_D != nullptr ? bias_D[tile.first + c] : T{0};
    }
  }

  /// Reads x from `halo()` steps before the block.
  void read(Block block) {
    const Block wanted{block.begin - halo(), block.steps + halo()};
    const Strides& strides = factor_->x.strides;
    if (!has_adjacent_steps(strides)) {
      x_ = read_rows(type_, factor_->x, tile_, wanted, packed_);
      return;
    }
    if (wanted.begin < span_.begin || wanted.end() > span_.end()) {
      // From a multiple of the step of a square on: it reads whole cache lines, once.
      const std::int64_t begin = wanted.begin < 0 ? wanted.begin : wanted.begin & -kMostBlockSteps;
      const std::int64_t end = block.begin + kSpanSteps;
      span_ = {begin, (end < length_ ? end : length_) - begin};
      read_rows(type_, factor_->x, tile_, span_, packed_);
    }
    x_ = {packed_ + (wanted.begin - span_.begin) * width_, width_};
  }
  /// What read() left: its first row is halo() steps before the block.
  [[nodiscard]] Rows<const T> x() const { return x_; }

  /// q of the block that was read.
  Rows<const T> values(Block block) {
    if (!filtered()) {
      return x_;
    }
    halo_ == 2 ? filter3(block) : filter_any(block);
    return {q_, width_};
  }

 private:
  static std::int64_t factor_taps(const GatedConvShape& shape, const Factor* factor) {
    return factor->weight_DT == nullptr || shape.taps == 0 ? 1 : shape.taps;
  }

  void filter3(Block block) {
    const Tag tag;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
    for (std::int64_t c = 0; c < width_; c += lanes) {
      const V w0 = hn::LoadU(tag, weight(0) + c);
      const V w1 = hn::LoadU(tag, weight(1) + c);
      const V w2 = hn::LoadU(tag, weight(2) + c);
      const V bias = hn::LoadU(tag, bias_ + c);
      V two_ago = hn::LoadU(tag, x_.data + c);
      V one_ago = hn::LoadU(tag, x_.data + x_.stride + c);
      for (std::int64_t t = 0; t < block.steps; ++t) {
        const V now = hn::LoadU(tag, x_.data + (t + 2) * x_.stride + c);
        const V older = hn::MulAdd(w1, one_ago, hn::MulAdd(w2, two_ago, bias));
        hn::StoreU(hn::MulAdd(w0, now, older), tag, q_ + t * width_ + c);
        two_ago = one_ago;
        one_ago = now;
      }
    }
  }

  void filter_any(Block block) {
    const Tag tag;
    for_vectors<T>(width_, block.steps, [&](std::int64_t c, std::int64_t t) HWY_ATTR {
      V q = hn::LoadU(tag, bias_ + c);
      for (std::int64_t r = 0; r <= halo_; ++r) {
        q = hn::MulAdd(hn::LoadU(tag, weight(r) + c),
                       hn::LoadU(tag, x_.data + (t + halo_ - r) * x_.stride + c), q);
      }
      hn::StoreU(q, tag, q_ + t * width_ + c);
    });
  }

  const Factor* factor_;
  DataType type_;
  std::int64_t length_;
  std::int64_t width_;
  std::int64_t halo_;
  Tile tile_{-1, -1, 0, 0};
  Block span_;  // steps in packed_, where time steps are adjacent
  Rows<const T> x_{};
  T* packed_;
  T* q_;
  T* weight_;
  T* bias_;
};

/// The gradient of a factor, block after block: dx, and sums for dweight and dbias in float64.
template <class T>
class FactorGradientStream {
  using Tag = hn::ScalableTag<T>;
  using V = hn::Vec<Tag>;

 public:
  FactorGradientStream(const GatedConvShape& shape, std::int64_t width, const FactorStream<T>& of,
                       const FactorGradient* gradient, Arena& arena)
      : of_(of),
        gradient_(gradient),
        width_(width),
        taps_(shape.taps),
        dx_(shape.type, width, most_steps(shape), &gradient->dx, arena) {
    dq_ = arena.take<T>((most_steps(shape) + shape.taps) * width);
    recent_sums_ = arena.take<T>((taps_ + 1) * width);
    sums_ = arena.take<double>((taps_ + 1) * width);
  }

  /// Before the first row of a tile.
  void open_sums(const Tile& tile) {
    tile_ = tile;
    blocks_ = 0;
    for (std::int64_t i = 0; i < (taps_ + 1) * width_; ++i) {
      sums_[i] = 0;
      recent_sums_[i] = 0;
    }
  }
  /// Before the first block of a row.
  void open(const Tile& tile) {
    tile_ = tile;
    dx_.open(tile);
    for (std::int64_t i = 0; i < of_.halo() * width_; ++i) {
      dq_[i] = 0;
    }
  }

  /// Where to put dq of the block; finish with write().
  Rows<T> dq(Block block) {
    return of_.filtered() ? Rows<T>{dq_ + of_.halo() * width_, width_} : dx_.rows(block);
  }

  void write(Block block) {
    if (!of_.filtered()) {
      return dx_.write(block);
    }
    const Block complete{block.begin - of_.halo(), block.steps};
    if (taps_ == 3) {
      const Rows<T> dx = dx_.rows(complete);
      dx.use == Use::kResult ? filter3<Use::kResult>(complete, dx)
                             : filter3<Use::kSoon>(complete, dx);
      dx_.write(complete);
    } else {
      add_to_sums(block);
      transposed_filter(complete);
    }
    if (++blocks_ % kBlocksPerSum == 0) {
      settle_sums();
    }
    for (std::int64_t i = 0; i < of_.halo() * width_; ++i) {
      dq_[i] = dq_[block.steps * width_ + i];
    }
  }

  /// After the last block of a row of L steps: the last halo() steps of dx.
  void close(std::int64_t L) {
    const std::int64_t halo = of_.halo();
    for (std::int64_t i = 0; i < halo * width_; ++i) {
      dq_[halo * width_ + i] = 0;
    }
    if (halo > 0) {
      transposed_filter({L - halo, halo});
    }
    dx_.close();
  }

  /// After the last row of a tile.
  void close_sums() {
    if (!of_.filtered()) {
      return;
    }
    settle_sums();
    T* dweight_DT = static_cast<T*>(gradient_->dweight_DT);
    T* dbias_D = static_cast<T*>(gradient_->dbias_D);
    for (std::int64_t c = 0; c < tile_.channels; ++c) {
      for (std::int64_t r = 0; dweight_DT != nullptr && r < taps_; ++r) {
        dweight_DT[(tile_.first + c) * taps_ + taps_ - 1 - r] =
            static_cast<T>(sums_[r * width_ + c]);
      }
      if (dbias_D != nullptr) {
        dbias_D[tile_.first + c] = static_cast<T>(sums_[taps_ * width_ + c]);
      }
    }
  }

 private:
  static std::int64_t most_steps(const GatedConvShape& shape) {
    return shape.taps > kMostBlockSteps ? shape.taps : kMostBlockSteps;
  }

  /// dx[t] = sum_r weight_r dq[t + r] for the steps whose dq is complete.
  void transposed_filter(Block block) {
    const Tag tag;
    const Rows<T> dx = dx_.rows(block);
    for_vectors<T>(width_, block.steps, [&](std::int64_t c, std::int64_t t) HWY_ATTR {
      V sum = hn::Mul(hn::LoadU(tag, of_.weight(0) + c), hn::LoadU(tag, dq_ + t * width_ + c));
      for (std::int64_t r = 1; r < taps_; ++r) {
        sum = hn::MulAdd(hn::LoadU(tag, of_.weight(r) + c),
                         hn::LoadU(tag, dq_ + (t + r) * width_ + c), sum);
      }
      hn::StoreU(sum, tag, dx.data + t * dx.stride + c);
    });
    dx_.write(block);
  }

  void add_to_sums(Block block) {
    const Tag tag;
    const Rows<const T> x = of_.x();
    const T* dq = dq_ + of_.halo() * width_;
    for_vectors<T>(width_, block.steps, [&](std::int64_t c, std::int64_t t) HWY_ATTR {
      const V now = hn::LoadU(tag, dq + t * width_ + c);
      for (std::int64_t r = 0; r < taps_; ++r) {
        T* sum = recent_sums_ + r * width_ + c;
        const V past = hn::LoadU(tag, x.data + (t + of_.halo() - r) * x.stride + c);
        hn::StoreU(hn::MulAdd(now, past, hn::LoadU(tag, sum)), tag, sum);
      }
      T* sum = recent_sums_ + taps_ * width_ + c;
      hn::StoreU(hn::Add(now, hn::LoadU(tag, sum)), tag, sum);
    });
  }

  /// add_to_sums and transposed_filter in one pass, for three taps.
  template <Use kUse>
  void filter3(Block complete, Rows<T> dx) {
    const Tag tag;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(tag));
    const Rows<const T> x = of_.x();
    for (std::int64_t c = 0; c < width_; c += lanes) {
      const V w0 = hn::LoadU(tag, of_.weight(0) + c);
      const V w1 = hn::LoadU(tag, of_.weight(1) + c);
      const V w2 = hn::LoadU(tag, of_.weight(2) + c);
      T* sums = recent_sums_ + c;
      V sum0 = hn::LoadU(tag, sums);
      V sum1 = hn::LoadU(tag, sums + width_);
      V sum2 = hn::LoadU(tag, sums + 2 * width_);
      V sum = hn::LoadU(tag, sums + 3 * width_);
      V x2 = hn::LoadU(tag, x.data + c);
      V x1 = hn::LoadU(tag, x.data + x.stride + c);
      V dq2 = hn::LoadU(tag, dq_ + c);
      V dq1 = hn::LoadU(tag, dq_ + width_ + c);
      for (std::int64_t t = 0; t < complete.steps; ++t) {
        const V x0 = hn::LoadU(tag, x.data + (t + 2) * x.stride + c);
        const V dq0 = hn::LoadU(tag, dq_ + (t + 2) * width_ + c);
        sum0 = hn::MulAdd(dq0, x0, sum0);
        sum1 = hn::MulAdd(dq0, x1, sum1);
        sum2 = hn::MulAdd(dq0, x2, sum2);
        sum = hn::Add(sum, dq0);
        const V older = hn::MulAdd(w1, dq1, hn::Mul(w0, dq2));
        store_rows<kUse>(tag, hn::MulAdd(w2, dq0, older), dx.data + t * dx.stride + c);
        x2 = x1;
        x1 = x0;
        dq2 = dq1;
        dq1 = dq0;
      }
      hn::StoreU(sum0, tag, sums);
      hn::StoreU(sum1, tag, sums + width_);
      hn::StoreU(sum2, tag, sums + 2 * width_);
      hn::StoreU(sum, tag, sums + 3 * width_);
    }
  }

  /// The last blocks were summed in T, their sums are summed in float64: the error does not grow
  /// with the length.
  void settle_sums() {
    for (std::int64_t i = 0; i < (taps_ + 1) * width_; ++i) {
      sums_[i] += static_cast<double>(recent_sums_[i]);
      recent_sums_[i] = 0;
    }
  }

  static constexpr std::int64_t kBlocksPerSum = 32;

  const FactorStream<T>& of_;
  const FactorGradient* gradient_;
  std::int64_t width_;
  std::int64_t taps_;
  Tile tile_{};
  ResultStream<T> dx_;
  T* dq_;
  T* recent_sums_;
  double* sums_;
  std::int64_t blocks_ = 0;
};

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_STREAM_INL_H_
