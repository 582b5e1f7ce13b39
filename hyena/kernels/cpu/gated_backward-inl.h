// Backward of the gated convolution on one tile of channels, compiled per target.
//
// Method    recomputes u, transforms it and g = dy . post together, sums conj(U) G over the batch
//           in the spectrum; from c and du to the factors, through their short convolutions
#if defined(HYENA_KERNELS_CPU_GATED_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_GATED_BACKWARD_INL_H_
#undef HYENA_KERNELS_CPU_GATED_BACKWARD_INL_H_
#else
#define HYENA_KERNELS_CPU_GATED_BACKWARD_INL_H_
#endif

#include <cstdint>

#include <hwy/highway.h>

#include "hyena/kernels/cpu/gated_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
class BackwardWorker : public Worker<T> {
  using Tag = hn::ScalableTag<T>;
  using V = hn::Vec<Tag>;
  using Base = Worker<T>;

 public:
  BackwardWorker(const GatedConvPlan& plan, const GatedConvBackward& arguments, Arena& arena)
      : Base(plan, arena),
        arguments_(arguments),
        output_gradient_{.x = arguments.dy},
        dy_(plan.shape(), this->width_, &output_gradient_, arena),
        post_(plan.shape(), this->width_, &arguments.post, arena),
        pre_(plan.shape(), this->width_, &arguments.pre, arena),
        v_(plan.shape(), this->width_, &arguments.v, arena),
        dpost_(plan.shape(), this->width_, post_, &arguments.dpost, arena),
        dpre_(plan.shape(), this->width_, pre_, &arguments.dpre, arena),
        dv_(plan.shape(), this->width_, v_, &arguments.dv, arena) {
    g_ = arena.take<T>(this->width_ / this->unit_ * this->unit_scalars_);
    xg_ = arena.take<T>(this->signal_scalars());
    carry_ = arena.take<T>(2 * this->reach_back() * this->width_);
    const std::int64_t scalars = this->kept_units() * this->spectrum_scalars();
    if (this->is_direct_) {
      direct_correlation_ = arena.take<double>(scalars);
      correlation_ = nullptr;
    } else if (this->keeps_units()) {
      correlation_ = arena.take<T>(scalars);
    } else {  // the one product takes the place of the filter's spectrum
      correlation_ = this->spectra_;
    }
  }

  /// All gradients of one tile of channels.
  void backward(std::int64_t index) {
    const Tile tile = this->tile(0, index);
    if (this->is_direct_ || this->shape_.batch == 0) {
      clear_correlations();
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
    for (std::int64_t c = 0; this->keeps_units() && c < tile.channels; c += this->unit_) {
      filter_gradient(tile, c);
    }
  }

 private:
  void backward_row(const Tile& tile) {
    dy_.open(tile);
    post_.open(tile);
    pre_.open(tile);
    v_.open(tile);
    dpost_.open(tile);
    dpre_.open(tile);
    dv_.open(tile);
    this->for_windows(arguments_.filter, [&](Window window) HWY_ATTR {
      this->pack_gated(pre_, v_, this->u_);
      pack_output_gradient(window);
      const Sum sum = tile.batch == 0 && window.begin == 0 ? Sum::kStart : Sum::kContinue;
      for (std::int64_t c = 0; c < tile.channels; c += this->unit_) {
        backward_unit(tile, c, sum);
      }
      gate_gradients(window);
    });
    const std::int64_t L = this->shape_.length;
    if (post_.present()) {
      dpost_.close(L);
    }
    if (pre_.present()) {
      dpre_.close(L);
    }
    dv_.close(L);
  }

  void backward_unit(const Tile& tile, std::int64_t c, Sum sum) {
    const std::int64_t unit = c / this->unit_;
    T* u = this->u_ + unit * this->unit_scalars_;
    T* g = g_ + unit * this->unit_scalars_;
    const T* spectrum = this->filter_of(arguments_.filter, tile, c);
    if (this->is_direct_) {
      direct_backward(spectrum, c, u, g);
    } else {
      transform_backward(spectrum, sum, c, u, g);
    }
    if (!this->keeps_units()) {
      filter_gradient(tile, c);
      if (this->is_direct_) {
        clear_correlations();
      }
    }
  }

  void transform_backward(const T* spectrum, Sum sum, std::int64_t c, T* u, T* g) {
    const typename RightAngle<T>::Adjoint adjoint{
        spectrum, correlation_ + this->kept_unit(c) * this->spectrum_scalars(), sum};
    if (post_.present()) {
      this->transform_.template backward<true>(u, g, adjoint, this->x_, xg_);
    } else {
      this->transform_.template backward<false>(u, g, adjoint, this->x_, xg_);
    }
  }

  void direct_backward(const T* filter, std::int64_t c, T* u, T* g) {
    const Direct<T>& direct = this->direct_;
    direct.pad(u, this->x_);
    direct.pad(g, xg_);
    direct.correlate(filter, this->x_, xg_,
                     direct_correlation_ + this->kept_unit(c) * this->spectrum_scalars());
    if (post_.present()) {
      direct.convolve(filter, this->x_, u);
    }
    direct.adjoint(filter, xg_, g);
  }

  /// g <- dy . post in the window, zeros elsewhere.
  void pack_output_gradient(Window window) {
    for (std::int64_t begin = window.begin; begin < window.end; begin += this->block_steps_) {
      const Block block = this->block_at(begin, window.end);
      Rows<const T> factor{};
      if (post_.present()) {
        post_.read(block);
        factor = post_.values(block);
      }
      dy_.read(block);
      this->pack_product(block, factor, dy_.x(), g_);
    }
    this->clear_outside(window, g_);
  }

  /// From c of the window, and du of the steps that no later window adds to, to the gradients of
  /// the three factors.
  void gate_gradients(Window window) {
    const std::int64_t overlap = this->overlap(arguments_.filter);
    const bool is_last = window.end == this->shape_.length;
    Window complete = this->held();
    if (!is_last) {
      complete.end = this->origin_ + this->size_ - overlap;
    }
    if (window.begin > 0) {
      add_carry(overlap);
    }
    if (!is_last) {
      keep_carry(overlap);
    }
    std::int64_t of_c = window.begin;
    std::int64_t of_du = complete.begin;
    while (of_c < window.end || of_du < complete.end) {
      if (of_c < window.end && post_.present()) {
        gate_output(this->block_at(of_c, window.end));
      }
      if (of_du < complete.end) {
        gate_inputs(this->block_at(of_du, complete.end));
      }
      of_c += this->block_steps_;
      of_du += this->block_steps_;
    }
  }

  /// du of the first rows gets what the windows before gave those steps.
  void add_carry(std::int64_t overlap) {
    const Tag tag;
    for_overlap(0, overlap, [&](const T* carry, T* row) HWY_ATTR {
      hn::StoreU(hn::Add(hn::LoadU(tag, carry), hn::LoadU(tag, row)), tag, row);
    });
  }
  void keep_carry(std::int64_t overlap) {
    const Tag tag;
    for_overlap(this->size_ - overlap, overlap, [&](T* carry, const T* row) HWY_ATTR {
      hn::StoreU(hn::LoadU(tag, row), tag, carry);
    });
  }
  template <class Body>
  void for_overlap(std::int64_t first, std::int64_t overlap, const Body& body) {
    T* carry = carry_;
    for (std::int64_t unit = 0; unit < this->width_ / this->unit_; ++unit) {
      for (std::int64_t n = first; n < first + overlap; ++n) {
        body(carry, g_ + unit * this->unit_scalars_ + this->row_at(n));
        carry += this->lanes_;
      }
    }
  }

  void gate_output(Block block) {
    post_.read(block);
    dy_.read(block);
    gate_gradient(block, dy_.x(), this->u_, dpost_);
  }
  void gate_inputs(Block block) {
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
    this->unpack_product(block, other, packed, to.dq(block));
    to.write(block);
  }

  void clear_correlations() {
    for (std::int64_t i = 0; i < this->kept_units() * this->spectrum_scalars(); ++i) {
      if (this->is_direct_) {
        direct_correlation_[i] = 0;
      } else {
        correlation_[i] = 0;
      }
    }
  }

  /// dh and dskip of the unit at channel c of the tile.
  void filter_gradient(const Tile& tile, std::int64_t c) {
    if (arguments_.dreverse_DK != nullptr) {
      correlation_rows(c, Direction::kReverse);
      this->unpack_taps(this->taps_, tile, c, static_cast<T*>(arguments_.dreverse_DK));
    }
    correlation_rows(c, Direction::kCausal);
    this->unpack_taps(this->taps_, tile, c, static_cast<T*>(arguments_.dh_DK));
    if (arguments_.dskip_D != nullptr) {
      T* dskip = static_cast<T*>(arguments_.dskip_D) + tile.first + c;
      for (std::int64_t lane = 0; lane < this->unit_ && c + lane < tile.channels; ++lane) {
        dskip[lane] = this->taps_[lane] * this->scale_;
      }
    }
  }

  enum class Direction { kCausal, kReverse };

  /// The first K steps of taps_ <- the gradient of the filter, over scale_; step 0 also if K = 0.
  void correlation_rows(std::int64_t c, Direction direction) {
    const Tag tag;
    const std::int64_t scalars = this->spectrum_scalars();
    if (this->is_direct_) {
      const std::int64_t taps = this->shape_.filter_length * this->lanes_;
      const double* sums = direct_correlation_ + this->kept_unit(c) * scalars;
      sums += direction == Direction::kReverse ? taps : 0;
      for (std::int64_t i = 0; i < taps || i < this->lanes_; ++i) {
        this->taps_[i] = static_cast<T>(sums[i]);
      }
      return;
    }
    T* spectrum = correlation_ + this->kept_unit(c) * scalars;
    if (direction == Direction::kCausal) {
      return this->transform_.inverse(spectrum, this->taps_);
    }
    for (std::int64_t i = 0; i < scalars; i += 2 * this->lanes_) {
      const Complex<V> value = load(tag, spectrum + i);
      store(tag, {value.re, hn::Neg(value.im)}, xg_ + i);
    }
    this->transform_.inverse(xg_, this->taps_);
  }

  const GatedConvBackward& arguments_;
  Factor output_gradient_;
  FactorStream<T> dy_;
  FactorStream<T> post_;
  FactorStream<T> pre_;
  FactorStream<T> v_;
  FactorGradientStream<T> dpost_;
  FactorGradientStream<T> dpre_;
  FactorGradientStream<T> dv_;
  T* g_;                                  // packed rows of a tile: g, then du
  T* xg_;                                 // complex rows of one unit
  T* carry_;                              // du of the steps that the next window repeats
  T* correlation_;                        // sum over the batch of conj(U) G of the kept units
  double* direct_correlation_ = nullptr;  // or of its signals, in the layout of a direct filter
};

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_GATED_BACKWARD_INL_H_
