// The gated long convolution by the right-angle transform, written once and compiled for every CPU
// target. Contract: hyena/kernels/gated_conv.h.
//
// Method    per tile: u = pre . v into packed rows, one signal per lane; transform, product and
//           inverse one vector of channels at a time; y = post . c. The backward transforms u and
//           dy . post together and sums conj(U) G over the batch in the spectrum.
#include "hyena/kernels/gated_conv.h"

#include <algorithm>
#include <cstdint>
#include <memory>

#include "hyena/kernels/cpu/gated_conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "hyena/kernels/cpu/gated_conv.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once per target
#include <hwy/highway.h>         // must follow foreach_target.h

#include "hyena/kernels/cpu/direct-inl.h"
#include "hyena/kernels/cpu/right_angle-inl.h"
#include "hyena/kernels/cpu/stream-inl.h"
#include "hyena/kernels/cpu/transpose-inl.h"

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

template <class T>
class BackwardWorker : public Worker<T> {
  using Tag = hn::ScalableTag<T>;
  using V = hn::Vec<Tag>;
  using Base = Worker<T>;

 public:
  BackwardWorker(const GatedConvPlan& plan, const GatedConvBackward& arguments, Arena& arena)
      : Base(plan, arena),
        arguments_(arguments),
        post_(plan.shape(), this->width_, &arguments.post, arena),
        pre_(plan.shape(), this->width_, &arguments.pre, arena),
        v_(plan.shape(), this->width_, &arguments.v, arena),
        dpost_(plan.shape(), this->width_, post_, &arguments.dpost, arena),
        dpre_(plan.shape(), this->width_, pre_, &arguments.dpre, arena),
        dv_(plan.shape(), this->width_, v_, &arguments.dv, arena) {
    const std::int64_t vectors = this->width_ / this->lanes_;
    g_ = arena.take<T>(vectors * this->row_at(this->size_));
    xg_ = arena.take<T>(this->signal_scalars());
    if (this->is_direct_) {
      direct_correlation_ = arena.take<double>(vectors * this->spectrum_scalars());
    } else {
      correlation_ = arena.take<T>(vectors * this->spectrum_scalars());
    }
  }

  /// All gradients of one tile of channels.
  void backward(std::int64_t index) {
    const Tile tile = this->tile(0, index);
    const std::int64_t vectors = this->width_ / this->lanes_;
    for (std::int64_t i = 0; i < vectors * this->spectrum_scalars(); ++i) {
      if (this->is_direct_) {
        direct_correlation_[i] = 0;
      } else {
        correlation_[i] = 0;
      }
    }
    dpost_.open_sums(tile);
    dpre_.open_sums(tile);
    dv_.open_sums(tile);
    for (std::int64_t b = 0; b < this->shape_.batch; ++b) {
      backward_row(this->tile(b, index));
    }
    dpost_.close_sums();
    dpre_.close_sums();
    dv_.close_sums();
    filter_gradients(tile);
  }

 private:
  void backward_row(const Tile& tile) {
    post_.open(tile);
    pre_.open(tile);
    v_.open(tile);
    this->pack_gated(pre_, v_, this->u_);
    pack_output_gradient(tile);
    for (std::int64_t c = 0; c < tile.channels; c += this->lanes_) {
      const std::int64_t vector = c / this->lanes_;
      T* u = this->u_ + vector * this->row_at(this->size_);
      T* g = g_ + vector * this->row_at(this->size_);
      const T* spectrum = static_cast<const T*>(arguments_.spectrum) +
                          (tile.first + c) / this->lanes_ * this->spectrum_scalars();
      if (this->is_direct_) {
        direct_backward(spectrum, vector, u, g);
        continue;
      }
      const typename RightAngle<T>::Adjoint adjoint{
          spectrum, correlation_ + vector * this->spectrum_scalars()};
      if (post_.present()) {
        this->transform_.template backward<true>(u, g, adjoint, this->x_, xg_);
      } else {
        this->transform_.template backward<false>(u, g, adjoint, this->x_, xg_);
      }
    }
    const std::int64_t L = this->shape_.length;
    dpost_.open(tile);
    dpre_.open(tile);
    dv_.open(tile);
    for (std::int64_t begin = 0; begin < L; begin += kBlockSteps) {
      gate_gradients(tile, this->block_at(begin));
    }
    if (post_.present()) {
      dpost_.close(L);
    }
    if (pre_.present()) {
      dpre_.close(L);
    }
    dv_.close(L);
  }

  void direct_backward(const T* filter, std::int64_t vector, T* u, T* g) {
    const Direct<T>& direct = this->direct_;
    direct.pad(u, this->x_);
    direct.pad(g, xg_);
    direct.correlate(filter, this->x_, xg_,
                     direct_correlation_ + vector * this->spectrum_scalars());
    if (post_.present()) {
      direct.convolve(filter, this->x_, u);
    }
    direct.adjoint(filter, xg_, g);
  }

  /// g <- dy . post
  void pack_output_gradient(const Tile& tile) {
    for (std::int64_t begin = 0; begin < this->shape_.length; begin += kBlockSteps) {
      const Block block = this->block_at(begin);
      Rows<const T> factor{};
      if (post_.present()) {
        post_.read(block);
        factor = post_.values(block);
      }
      this->pack_product(block, factor,
                         read_rows(this->shape_.type, arguments_.dy, tile, block, this->block_),
                         g_);
    }
    this->clear_padding(g_);
  }

  /// From c and du of a block to the gradients of the three factors.
  void gate_gradients(const Tile& tile, Block block) {
    if (post_.present()) {
      post_.read(block);
      gate_gradient(block, read_rows(this->shape_.type, arguments_.dy, tile, block, this->block_),
                    this->u_, dpost_);
    }
    v_.read(block);
    Rows<const T> factor{};
    if (pre_.present()) {
      pre_.read(block);
      factor = pre_.values(block);
      gate_gradient(block, v_.values(block), g_, dpre_);
    }
    gate_gradient(block, factor, g_, dv_);
  }

  void gate_gradient(Block block, Rows<const T> other, T* packed, FactorGradientStream<T>& to) {
    if (to.filtered()) {
      this->template unpack_product<Use::kSoon>(block, other, packed, to.dq(block));
    } else {
      this->template unpack_product<Use::kResult>(block, other, packed, to.dq(block));
    }
    to.write(block);
  }

  void filter_gradients(const Tile& tile) {
    for (std::int64_t c = 0; c < tile.channels; c += this->lanes_) {
      const std::int64_t vector = c / this->lanes_;
      if (arguments_.dreverse_DK != nullptr) {
        correlation_rows(vector, Direction::kReverse);
        this->unpack_taps(this->u_, tile, c, static_cast<T*>(arguments_.dreverse_DK));
      }
      correlation_rows(vector, Direction::kCausal);
      this->unpack_taps(this->u_, tile, c, static_cast<T*>(arguments_.dh_DK));
      if (arguments_.dskip_D != nullptr) {
        T* dskip = static_cast<T*>(arguments_.dskip_D) + tile.first + c;
        for (std::int64_t lane = 0; lane < this->lanes_ && c + lane < tile.channels; ++lane) {
          dskip[lane] = this->u_[lane] * this->scale_;
        }
      }
    }
  }

  enum class Direction { kCausal, kReverse };

  /// The first K rows of u_ <- the gradient of the filter, over scale_; row 0 also where K = 0.
  void correlation_rows(std::int64_t vector, Direction direction) {
    const Tag tag;
    const std::int64_t scalars = this->spectrum_scalars();
    if (this->is_direct_) {
      const std::int64_t taps = this->shape_.filter_length * this->lanes_;
      const double* sums = direct_correlation_ + vector * scalars;
      sums += direction == Direction::kReverse ? taps : 0;
      for (std::int64_t i = 0; i < taps || i < this->lanes_; ++i) {
        this->u_[i] = static_cast<T>(sums[i]);
      }
      return;
    }
    T* spectrum = correlation_ + vector * scalars;
    if (direction == Direction::kCausal) {
      return this->transform_.inverse(spectrum, this->u_);
    }
    for (std::int64_t i = 0; i < scalars; i += 2 * this->lanes_) {
      const Complex<V> value = load(tag, spectrum + i);
      store(tag, {value.re, hn::Neg(value.im)}, xg_ + i);
    }
    this->transform_.inverse(xg_, this->u_);
  }

  const GatedConvBackward& arguments_;
  FactorStream<T> post_;
  FactorStream<T> pre_;
  FactorStream<T> v_;
  FactorGradientStream<T> dpost_;
  FactorGradientStream<T> dpre_;
  FactorGradientStream<T> dv_;
  T* g_;                      // packed rows of a tile: g, then du
  T* xg_;                     // complex rows of one vector
  T* correlation_ = nullptr;  // sum over the batch of conj(U) G, of every vector of the tile
  double* direct_correlation_ = nullptr;  // or of its signals, in the layout of a direct filter
};

template <class T>
void run_filter(const GatedConvPlan& plan, const FilterArguments& filter, void* spectrum,
                std::int64_t begin, std::int64_t end, void* workspace) {
  Arena arena(workspace);
  Worker<T> worker(plan, arena);
  for (std::int64_t item = begin; item < end; ++item) {
    worker.filter(filter, worker.tile(0, item), static_cast<T*>(spectrum));
  }
}

template <class T>
std::size_t run_forward(const GatedConvPlan& plan, const GatedConvForward& arguments,
                        std::int64_t begin, std::int64_t end, void* workspace) {
  Arena arena(workspace);
  Worker<T> worker(plan, arena);
  const std::int64_t width = plan.internals().width;
  FactorStream<T> post(plan.shape(), width, &arguments.post, arena);
  FactorStream<T> pre(plan.shape(), width, &arguments.pre, arena);
  FactorStream<T> v(plan.shape(), width, &arguments.v, arena);
  const std::int64_t batch = plan.shape().batch;
  for (std::int64_t item = begin; item < end; ++item) {
    worker.forward(arguments, post, pre, v, worker.tile(item % batch, item / batch));
  }
  hwy::FlushStream();
  return arena.used();
}

template <class T>
std::size_t run_backward(const GatedConvPlan& plan, const GatedConvBackward& arguments,
                         std::int64_t begin, std::int64_t end, void* workspace) {
  Arena arena(workspace);
  BackwardWorker<T> worker(plan, arguments, arena);
  for (std::int64_t item = begin; item < end; ++item) {
    worker.backward(item);
  }
  hwy::FlushStream();
  return arena.used();
}

std::int64_t num_lanes(DataType type) {
  return static_cast<std::int64_t>(type == DataType::kFloat64
                                       ? hn::Lanes(hn::ScalableTag<double>())
                                       : hn::Lanes(hn::ScalableTag<float>()));
}

void filter_items(const GatedConvPlan& plan, const FilterArguments& filter, void* spectrum,
                  std::int64_t begin, std::int64_t end, void* workspace) {
  plan.shape().type == DataType::kFloat64
      ? run_filter<double>(plan, filter, spectrum, begin, end, workspace)
      : run_filter<float>(plan, filter, spectrum, begin, end, workspace);
}

/// Returns the bytes of workspace it used; a null workspace with no items only counts them.
std::size_t forward_items(const GatedConvPlan& plan, const GatedConvForward& arguments,
                          std::int64_t begin, std::int64_t end, void* workspace) {
  return plan.shape().type == DataType::kFloat64
             ? run_forward<double>(plan, arguments, begin, end, workspace)
             : run_forward<float>(plan, arguments, begin, end, workspace);
}

std::size_t backward_items(const GatedConvPlan& plan, const GatedConvBackward& arguments,
                           std::int64_t begin, std::int64_t end, void* workspace) {
  return plan.shape().type == DataType::kFloat64
             ? run_backward<double>(plan, arguments, begin, end, workspace)
             : run_backward<float>(plan, arguments, begin, end, workspace);
}

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hyena::kernels {
namespace cpu {

HWY_EXPORT(num_lanes);
HWY_EXPORT(filter_items);
HWY_EXPORT(forward_items);
HWY_EXPORT(backward_items);

namespace {

// Here, because a build for a single target dispatches by name within this namespace.
std::int64_t dispatch_lanes(DataType type) {
  return HWY_DYNAMIC_DISPATCH(num_lanes)(type);
}
void dispatch_filter(const GatedConvPlan& plan, const FilterArguments& filter, void* spectrum,
                     std::int64_t begin, std::int64_t end, void* workspace) {
  HWY_DYNAMIC_DISPATCH(filter_items)(plan, filter, spectrum, begin, end, workspace);
}
std::size_t dispatch_forward(const GatedConvPlan& plan, const GatedConvForward& arguments,
                             std::int64_t begin, std::int64_t end, void* workspace) {
  return HWY_DYNAMIC_DISPATCH(forward_items)(plan, arguments, begin, end, workspace);
}
std::size_t dispatch_backward(const GatedConvPlan& plan, const GatedConvBackward& arguments,
                              std::int64_t begin, std::int64_t end, void* workspace) {
  return HWY_DYNAMIC_DISPATCH(backward_items)(plan, arguments, begin, end, workspace);
}

}  // namespace
}  // namespace cpu

GatedConvPlan::GatedConvPlan(const GatedConvShape& shape) : shape_(shape) {
  const auto internals = std::make_shared<Internals>();
  internals_ = internals;
  const bool is_double = shape.type == DataType::kFloat64;
  internals->is_direct = shape.filter_length <= cpu::kMostDirectTaps;
  if (internals->is_direct) {
    internals->size = std::max<std::int64_t>(1, shape.length);
    internals->rows.group = internals->size + 1;  // no free rows
    internals->tables_f32 = std::make_shared<const cpu::FftTables<float>>();
    internals->tables_f64 = std::make_shared<const cpu::FftTables<double>>();
  } else {
    internals->size = cpu::supported_fft_size(shape.length);
    if (is_double) {
      internals->tables_f64 = cpu::fft_tables<double>(internals->size);
      internals->rows = internals->tables_f64->rows;
    } else {
      internals->tables_f32 = cpu::fft_tables<float>(internals->size);
      internals->rows = internals->tables_f32->rows;
    }
  }
  const std::int64_t lanes = cpu::dispatch_lanes(shape.type);
  const std::int64_t scalar_bytes = is_double ? 8 : 4;
  const std::int64_t groups = (shape.channels + lanes - 1) / lanes;
  internals->lanes = lanes;
  internals->width =
      lanes * cpu::tile_vectors(groups, internals->rows.at(internals->size), lanes * scalar_bytes);
  num_tiles_ = (shape.channels + internals->width - 1) / internals->width;
  const std::int64_t rows =
      internals->is_direct ? 2 * shape.filter_length + 1 : 2 * internals->rows.at(internals->size);
  internals->spectrum_bytes = static_cast<std::size_t>(groups * rows * lanes * scalar_bytes);

  // The same constructors that cut the workspace count it; a weight makes them count the taps.
  Factor factor;
  factor.weight_DT = shape.taps > 0 ? this : nullptr;
  GatedConvForward forward;
  forward.post = forward.pre = forward.v = factor;
  GatedConvBackward backward;
  backward.post = backward.pre = backward.v = factor;
  internals->forward_workspace_bytes = cpu::dispatch_forward(*this, forward, 0, 0, nullptr);
  internals->backward_workspace_bytes = cpu::dispatch_backward(*this, backward, 0, 0, nullptr);
}

const char* GatedConvPlan::algorithm() const {
  return internals_->is_direct ? "direct" : "right_angle";
}

std::int64_t GatedConvPlan::transform_length() const {
  return internals_->is_direct ? 0 : internals_->size;
}

std::size_t GatedConvPlan::spectrum_bytes() const {
  return internals_->spectrum_bytes;
}

std::size_t GatedConvPlan::forward_workspace_bytes() const {
  return internals_->forward_workspace_bytes;
}

std::size_t GatedConvPlan::backward_workspace_bytes() const {
  return internals_->backward_workspace_bytes;
}

void gated_conv_filter(const GatedConvPlan& plan, const FilterArguments& filter, void* spectrum,
                       std::int64_t begin, std::int64_t end, void* workspace) {
  cpu::dispatch_filter(plan, filter, spectrum, begin, end, workspace);
}

void gated_conv_forward(const GatedConvPlan& plan, const GatedConvForward& arguments,
                        std::int64_t begin, std::int64_t end, void* workspace) {
  cpu::dispatch_forward(plan, arguments, begin, end, workspace);
}

void gated_conv_backward(const GatedConvPlan& plan, const GatedConvBackward& arguments,
                         std::int64_t begin, std::int64_t end, void* workspace) {
  cpu::dispatch_backward(plan, arguments, begin, end, workspace);
}

}  // namespace hyena::kernels
#endif  // HWY_ONCE
