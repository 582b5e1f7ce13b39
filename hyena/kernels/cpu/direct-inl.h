// Short long-convolutions as plain sums on rows of `lanes` independent signals, compiled per
// target.
//
// Layout    taps: 2 K rows, h then the reverse filter, and one row whose first lane tells whether
//           there is a reverse filter; signals are copied between K rows of zeros on either side
// Method    eight outputs in registers: a step loads one tap for eight multiply-adds
// Cost      K multiply-adds per output and filter
#if defined(HYENA_KERNELS_CPU_DIRECT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HYENA_KERNELS_CPU_DIRECT_INL_H_
#undef HYENA_KERNELS_CPU_DIRECT_INL_H_
#else
#define HYENA_KERNELS_CPU_DIRECT_INL_H_
#endif

#include <cstdint>

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
class Direct {
  using Tag = hn::ScalableTag<T>;
  using V = hn::Vec<Tag>;

 public:
  Direct(std::int64_t length, std::int64_t taps)
      : length_(length), taps_(taps), lanes_(static_cast<std::int64_t>(hn::Lanes(Tag()))) {}

  [[nodiscard]] std::int64_t filter_scalars() const { return (2 * taps_ + 1) * lanes_; }
  [[nodiscard]] std::int64_t padded_scalars() const {
    return (length_ + 2 * taps_ + kOutputs) * lanes_;
  }

  /// filter <- the causal taps and no reverse filter.
  void set_filter(const T* rows, T* filter) const {
    for (std::int64_t i = 0; i < taps_ * lanes_; ++i) {
      filter[i] = rows[i];
    }
    for (std::int64_t i = taps_ * lanes_; i < filter_scalars(); ++i) {
      filter[i] = 0;
    }
  }
  void set_reverse(const T* rows, T* filter) const {
    for (std::int64_t i = 0; i < taps_ * lanes_; ++i) {
      filter[taps_ * lanes_ + i] = rows[i];
    }
    filter[2 * taps_ * lanes_] = 1;
  }

  /// padded <- rows between zeros.
  void pad(const T* rows, T* padded) const {
    const Tag tag;
    const std::int64_t rows_after = taps_ + kOutputs;
    for (std::int64_t i = 0; i < taps_ * lanes_; i += lanes_) {
      hn::StoreU(hn::Zero(tag), tag, padded + i);
    }
    T* begin = padded + taps_ * lanes_;
    for (std::int64_t i = 0; i < length_ * lanes_; i += lanes_) {
      hn::StoreU(hn::LoadU(tag, rows + i), tag, begin + i);
    }
    for (std::int64_t i = length_ * lanes_; i < (length_ + rows_after) * lanes_; i += lanes_) {
      hn::StoreU(hn::Zero(tag), tag, begin + i);
    }
  }

  /// out[t] = sum_s h[s] x[t-s] + reverse[s] x[t+s]
  void convolve(const T* filter, const T* padded, T* out) const {
    apply(filter, filter + taps_ * lanes_, has_reverse(filter), padded, out);
  }
  /// out[t] = sum_s h[s] x[t+s] + reverse[s] x[t-s]
  void adjoint(const T* filter, const T* padded, T* out) const {
    const T* reverse = filter + taps_ * lanes_;
    if (has_reverse(filter)) {
      apply(reverse, filter, true, padded, out);
    } else {
      correlate_with_taps(filter, padded, out);
    }
  }

  /// sums: 2 K rows; += sum_t g[t] u[t-s], and with a reverse filter += sum_t g[t] u[t+s].
  void correlate(const T* filter, const T* padded_u, const T* padded_g, double* sums) const {
    const T* u = padded_u + taps_ * lanes_;
    const T* g = padded_g + taps_ * lanes_;
    for (std::int64_t begin = 0; begin < length_; begin += kPiece) {
      const std::int64_t end = begin + kPiece < length_ ? begin + kPiece : length_;
      for (std::int64_t s = 0; s < taps_; s += kLags) {
        correlate_lags<-1>(u, g, begin, end, s, sums);
        if (has_reverse(filter)) {
          correlate_lags<1>(u, g, begin, end, s, sums + taps_ * lanes_);
        }
      }
    }
  }

 private:
  static constexpr int kOutputs = 8;
  static constexpr int kLags = 8;
  static constexpr std::int64_t kPiece = 256;  // steps summed in T; pieces are summed in float64

  [[nodiscard]] bool has_reverse(const T* filter) const {
    return filter[2 * taps_ * lanes_] != T{0};
  }

  /// Lags s to s + kLags - 1, in registers.
  template <int kSign>
  HWY_INLINE void correlate_lags(const T* u, const T* g, std::int64_t begin, std::int64_t end,
                                 std::int64_t s, double* sums) const {
    const Tag tag;
    const int lags = taps_ - s < kLags ? static_cast<int>(taps_ - s) : kLags;
    V products[kLags];
    for (int i = 0; i < kLags; ++i) {
      products[i] = hn::Zero(tag);
    }
    if (lags == kLags) {
      for (std::int64_t t = begin; t < end; ++t) {
        const V now = hn::LoadU(tag, g + t * lanes_);
        const T* from = u + (t + kSign * s) * lanes_;
        for (int i = 0; i < kLags; ++i) {
          products[i] = hn::MulAdd(now, hn::LoadU(tag, from + kSign * i * lanes_), products[i]);
        }
      }
    } else {
      for (std::int64_t t = begin; t < end; ++t) {
        const V now = hn::LoadU(tag, g + t * lanes_);
        for (int i = 0; i < lags; ++i) {
          products[i] =
              hn::MulAdd(now, hn::LoadU(tag, u + (t + kSign * (s + i)) * lanes_), products[i]);
        }
      }
    }
    for (int i = 0; i < lags; ++i) {
      add(products[i], sums + (s + i) * lanes_);
    }
  }

  void apply(const T* causal, const T* anticausal, bool both, const T* padded, T* out) const {
    const Tag tag;
    const T* x = padded + taps_ * lanes_;
    for (std::int64_t t = 0; t < length_; t += kOutputs) {
      V sums[kOutputs];
      for (int i = 0; i < kOutputs; ++i) {
        sums[i] = hn::Zero(tag);
      }
      for (std::int64_t s = 0; s < taps_; ++s) {
        const V tap = hn::LoadU(tag, causal + s * lanes_);
        const T* from = x + (t - s) * lanes_;
        for (int i = 0; i < kOutputs; ++i) {
          sums[i] = hn::MulAdd(tap, hn::LoadU(tag, from + i * lanes_), sums[i]);
        }
      }
      for (std::int64_t s = 0; both && s < taps_; ++s) {
        const V tap = hn::LoadU(tag, anticausal + s * lanes_);
        const T* from = x + (t + s) * lanes_;
        for (int i = 0; i < kOutputs; ++i) {
          sums[i] = hn::MulAdd(tap, hn::LoadU(tag, from + i * lanes_), sums[i]);
        }
      }
      store(t, sums, out);
    }
  }

  void correlate_with_taps(const T* taps, const T* padded, T* out) const {
    const Tag tag;
    const T* x = padded + taps_ * lanes_;
    for (std::int64_t t = 0; t < length_; t += kOutputs) {
      V sums[kOutputs];
      for (int i = 0; i < kOutputs; ++i) {
        sums[i] = hn::Zero(tag);
      }
      for (std::int64_t s = 0; s < taps_; ++s) {
        const V tap = hn::LoadU(tag, taps + s * lanes_);
        const T* from = x + (t + s) * lanes_;
        for (int i = 0; i < kOutputs; ++i) {
          sums[i] = hn::MulAdd(tap, hn::LoadU(tag, from + i * lanes_), sums[i]);
        }
      }
      store(t, sums, out);
    }
  }

  HWY_INLINE void store(std::int64_t t, const V (&sums)[kOutputs], T* out) const {
    const Tag tag;
    for (int i = 0; i < kOutputs && t + i < length_; ++i) {
      hn::StoreU(sums[i], tag, out + (t + i) * lanes_);
    }
  }

  static HWY_INLINE void add(V values, double* sums) {
    const Tag tag;
    HWY_ALIGN T lanes[HWY_MAX_BYTES / sizeof(T)];
    hn::Store(values, tag, lanes);
    for (std::size_t i = 0; i < hn::Lanes(tag); ++i) {
      sums[i] += static_cast<double>(lanes[i]);
    }
  }

  std::int64_t length_;
  std::int64_t taps_;
  std::int64_t lanes_;
};

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HYENA_KERNELS_CPU_DIRECT_INL_H_
