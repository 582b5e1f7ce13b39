// One problem for gated_conv: random data in any layout and storage, run forward and backward in
// guarded buffers, compared with the float64 oracle channel by channel.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "hyena/kernels/gated_conv.h"
#include "tests/kernels/guarded_buffer.h"
#include "tests/oracle/gated_conv_oracle.h"
#include "tests/support/within_bound.h"

namespace hyena::kernels {

/// bfloat16 with the arithmetic of a test: every bit pattern of a float's upper half.
struct Bf16 {
  std::uint16_t bits = 0x7FC0;
};
inline double to_double(float x) {
  return static_cast<double>(x);
}
inline double to_double(double x) {
  return x;
}
inline double to_double(Bf16 x) {
  return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16));
}

enum class Layout : std::uint8_t { kChannelsLast, kContiguous, kGaps };

struct GatedCase {
  std::int64_t B = 2;
  std::int64_t D = 3;
  std::int64_t L = 17;
  std::int64_t K = 17;
  std::int64_t T = 3;
  bool post = true;
  bool pre = true;
  bool skip = true;
  bool reverse = false;
  bool short_filters = true;
  Layout layout = Layout::kChannelsLast;
  std::uint64_t seed = 1;
  LaneAxis lane_axis = LaneAxis::kAuto;
  std::int64_t threads = 1;
};

inline std::string describe(const GatedCase& c) {
  return "B " + std::to_string(c.B) + " D " + std::to_string(c.D) + " L " + std::to_string(c.L) +
         " K " + std::to_string(c.K) + " T " + std::to_string(c.T) + " post " +
         std::to_string(c.post) + " pre " + std::to_string(c.pre) + " skip " +
         std::to_string(c.skip) + " reverse " + std::to_string(c.reverse) + " short " +
         std::to_string(c.short_filters) + " layout " + std::to_string(static_cast<int>(c.layout)) +
         " seed " + std::to_string(c.seed);
}

/// Strides of `channels` channels as three chunks of p would have them.
inline Strides strides_of(Layout layout, std::int64_t channels, std::int64_t L) {
  switch (layout) {
    case Layout::kChannelsLast:
      return {L * channels, 1, channels};
    case Layout::kContiguous:
      return {L * channels, L, 1};
    default:
      return {3 * L * channels + 5, 3, 3 * channels};
  }
}
inline std::size_t extent(const Strides& s, std::int64_t B, std::int64_t C, std::int64_t L) {
  return B * C * L == 0 ? 0
                        : static_cast<std::size_t>((B - 1) * s.batch + (C - 1) * s.channel +
                                                   (L - 1) * s.time + 1);
}

template <class S, class T>
class GatedProblem {
 public:
  explicit GatedProblem(const GatedCase& c)
      : case_(c),
        p_strides_(strides_of(c.layout, 3 * c.D, c.L)),
        y_strides_(strides_of(c.layout, c.D, c.L)),
        p_(extent(p_strides_, c.B, 3 * c.D, c.L)),
        dp_(p_.size()),
        y_(extent(y_strides_, c.B, c.D, c.L)),
        dy_(y_.size()),
        h_(count(c.D * c.K)),
        reverse_(count(c.D * c.K)),
        skip_(count(c.D)),
        weight_(count(3 * c.D * c.T)),
        bias_(count(3 * c.D)),
        dh_(h_.size()),
        dreverse_(h_.size()),
        dskip_(skip_.size()),
        dweight_(weight_.size()),
        dbias_(bias_.size()),
        random_(c.seed) {
    for (auto* buffer : {&p_, &dy_}) {
      for (std::size_t i = 0; i < buffer->size(); ++i) {
        set((*buffer)[i]);
      }
    }
    for (auto* buffer : {&h_, &reverse_, &skip_, &weight_, &bias_}) {
      for (std::size_t i = 0; i < buffer->size(); ++i) {
        (*buffer)[i] = static_cast<T>(normal_(random_));  // filters do not decay
      }
    }
  }

  /// One call per range of `items_per_call` items, each with fresh scratch.
  void run(std::int64_t items_per_call = 1 << 20) {
    const GatedConvPlan plan(
        {case_.B, case_.D, case_.L, case_.K, taps(), type(), case_.lane_axis, case_.threads});
    transform_length_ = plan.transform_length();
    const auto in_ranges = [&](std::int64_t items, std::size_t bytes, const auto& call) {
      for (std::int64_t begin = 0; begin < items; begin += items_per_call) {
        GuardedBuffer<double> scratch(bytes / sizeof(double));
        call(begin, std::min(items, begin + items_per_call), scratch.data());
        EXPECT_TRUE(scratch.intact()) << "scratch of items from " << begin;
      }
    };
    const FilterArguments filter{h_.data(), case_.skip ? skip_.data() : nullptr,
                                 case_.reverse ? reverse_.data() : nullptr};
    const GatedConvForward forward{factor(0, case_.post),
                                   factor(1, case_.pre),
                                   factor(2, true),
                                   filter,
                                   {y_.data(), y_strides_}};
    in_ranges(plan.num_forward_items(), plan.forward_workspace_bytes(),
              [&](auto begin, auto end, void* scratch) {
                gated_conv_forward(plan, forward, begin, end, scratch);
              });
    if (plan.spectrum_bytes() > 0) {
      check_kept_spectrum(plan, forward, in_ranges);
    }
    const GatedConvBackward backward{forward.post,
                                     forward.pre,
                                     forward.v,
                                     filter,
                                     {dy_.data(), y_strides_},
                                     gradient(0),
                                     gradient(1),
                                     gradient(2),
                                     dh_.data(),
                                     case_.skip ? dskip_.data() : nullptr,
                                     case_.reverse ? dreverse_.data() : nullptr};
    in_ranges(plan.num_backward_items(), plan.backward_workspace_bytes(),
              [&](auto begin, auto end, void* scratch) {
                gated_conv_backward(plan, backward, begin, end, scratch);
              });
    for (const auto* buffer : {&p_, &dp_, &y_, &dy_}) {
      EXPECT_TRUE(buffer->intact());
    }
    for (const auto* buffer : {&dh_, &dreverse_, &dskip_, &dweight_, &dbias_}) {
      EXPECT_TRUE(buffer->intact());
    }
  }

  /// Every result against the oracle, within the bounds that gated_conv.h promises.
  void check() {
    for (std::int64_t d = 0; d < case_.D; ++d) {
      const oracle::GatedConvResult expected = oracle::gated_conv(channel(d));
      for (std::int64_t b = 0; b < case_.B; ++b) {
        const auto row = static_cast<std::size_t>(b);
        expect("y", y_.data() + b * y_strides_.batch + d * y_strides_.channel, y_strides_.time,
               expected.y[row], kStore);
        expect_dx("dpost", 0, case_.post, b, d, expected.post);
        expect_dx("dpre", 1, case_.pre, b, d, expected.pre);
        expect_dx("dv", 2, true, b, d, expected.v);
      }
      expect("dh", dh_.data() + d * case_.K, 1, expected.dh, 0);
      if (case_.skip) {
        expect("dskip", dskip_.data() + d, 1, expected.dskip, 0);
      }
      if (case_.reverse) {
        expect("dreverse", dreverse_.data() + d * case_.K, 1, expected.dreverse, 0);
      }
      expect_parameters("post", 0, case_.post, d, expected.post);
      expect_parameters("pre", 1, case_.pre, d, expected.pre);
      expect_parameters("v", 2, true, d, expected.v);
    }
  }

  /// After check(): root mean square error over root mean square value, by result.
  [[nodiscard]] std::map<std::string, double> relative_errors() const {
    std::map<std::string, double> errors;
    for (const auto& [name, squares] : squares_) {
      errors[name] = std::sqrt(squares.error / squares.value);
    }
    return errors;
  }

  GuardedBuffer<S>& y() { return y_; }
  GuardedBuffer<S>& dp() { return dp_; }
  GuardedBuffer<T>& dh() { return dh_; }
  GuardedBuffer<T>& dweight() { return dweight_; }

 private:
  static constexpr double kRoundoff = sizeof(T) == 4 ? 0x1p-24 : 0x1p-53;
  static constexpr double kStore = sizeof(S) == 2 ? 0x1p-8 : 0.0;

  /// A spectrum that another plan of this transform made gives the same bits of y.
  template <class InRanges>
  void check_kept_spectrum(const GatedConvPlan& plan, GatedConvForward forward,
                           const InRanges& in_ranges) {
    const GatedConvPlan maker(
        {1, case_.D, plan.transform_length(), case_.K, 0, type(), plan.lane_axis(), 1});
    ASSERT_EQ(maker.spectrum_bytes(), plan.spectrum_bytes());
    GuardedBuffer<double> spectrum(maker.spectrum_bytes() / sizeof(double));
    in_ranges(maker.num_backward_items(), maker.forward_workspace_bytes(),
              [&](auto begin, auto end, void* scratch) {
                gated_conv_spectrum(maker, forward.filter, begin, end, spectrum.data(), scratch);
              });
    EXPECT_TRUE(spectrum.intact());
    GuardedBuffer<S> y(y_.size());
    forward.filter = {.reverse_DK = forward.filter.reverse_DK, .spectrum = spectrum.data()};
    forward.y.data = y.data();
    in_ranges(plan.num_forward_items(), plan.forward_workspace_bytes(),
              [&](auto begin, auto end, void* scratch) {
                gated_conv_forward(plan, forward, begin, end, scratch);
              });
    EXPECT_TRUE(y.intact());
    EXPECT_EQ(std::memcmp(y.data(), y_.data(), y.size() * sizeof(S)), 0)
        << "kept spectrum of " << describe(case_);
  }

  static std::size_t count(std::int64_t n) { return static_cast<std::size_t>(n); }
  [[nodiscard]] std::int64_t taps() const { return case_.short_filters ? case_.T : 0; }
  static constexpr DataType type() {
    return sizeof(S) == 2   ? DataType::kBFloat16
           : sizeof(S) == 8 ? DataType::kFloat64
                            : DataType::kFloat32;
  }

  void set(S& x) {
    const double value = normal_(random_);
    if constexpr (sizeof(S) == 2) {
      x.bits =
          static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16);
    } else {
      x = static_cast<S>(value);
    }
  }

  Factor factor(std::int64_t chunk, bool present) {
    if (!present) {
      return {};
    }
    Factor factor{{p_.data() + chunk * case_.D * p_strides_.channel, p_strides_}};
    if (case_.short_filters) {
      factor.weight_DT = weight_.data() + chunk * case_.D * case_.T;
      factor.bias_D = bias_.data() + chunk * case_.D;
    }
    return factor;
  }
  FactorGradient gradient(std::int64_t chunk) {
    return {{dp_.data() + chunk * case_.D * p_strides_.channel, p_strides_},
            dweight_.data() + chunk * case_.D * case_.T,
            dbias_.data() + chunk * case_.D};
  }

  oracle::Batch rows(GuardedBuffer<S>& x, const Strides& strides, std::int64_t channel) {
    oracle::Batch batch;
    for (std::int64_t b = 0; b < case_.B; ++b) {
      oracle::Samples row;
      for (std::int64_t t = 0; t < case_.L; ++t) {
        row.push_back(
            to_double(x[count(b * strides.batch + channel * strides.channel + t * strides.time)]));
      }
      batch.push_back(row);
    }
    return batch;
  }
  oracle::Samples parameters(GuardedBuffer<T>& x, std::int64_t begin, std::int64_t n) {
    oracle::Samples samples;
    for (std::int64_t i = begin; i < begin + n; ++i) {
      samples.push_back(to_double(x[count(i)]));
    }
    return samples;
  }
  oracle::GatedFactor oracle_factor(std::int64_t chunk, bool present, std::int64_t d) {
    const std::int64_t channel = chunk * case_.D + d;
    oracle::GatedFactor factor{present, rows(p_, p_strides_, channel), {}, 0.0};
    if (case_.short_filters) {
      factor.weight = parameters(weight_, channel * case_.T, case_.T);
      factor.bias = to_double(bias_[count(channel)]);
    }
    return factor;
  }
  oracle::GatedConvCase channel(std::int64_t d) {
    oracle::GatedConvCase c;
    c.length = count(case_.L);
    c.post = oracle_factor(0, case_.post, d);
    c.pre = oracle_factor(1, case_.pre, d);
    c.v = oracle_factor(2, true, d);
    c.h = parameters(h_, d * case_.K, case_.K);
    c.reverse = case_.reverse ? parameters(reverse_, d * case_.K, case_.K) : oracle::Samples{};
    c.skip = case_.skip ? to_double(skip_[count(d)]) : 0.0;
    c.dy = rows(dy_, y_strides_, d);
    // The direct form's sums of K products are within the same bound: K <= 2 log2(2K) does not
    // hold, but the sum of |h||u| is at most ||h|| ||u||, and its K roundings are counted here.
    c.fft = transform_length_ > 0 ? std::log2(2.0 * static_cast<double>(transform_length_))
                                  : static_cast<double>(case_.K) + 1.0;
    return c;
  }

  template <class X>
  void expect(const std::string& name, const X* actual, std::int64_t stride,
              const oracle::Measured& expected, double store) {
    const std::size_t n = expected.value.size();
    std::vector<double> values(n);
    std::vector<double> bounds(n);
    for (std::size_t i = 0; i < n; ++i) {
      values[i] = to_double(actual[static_cast<std::ptrdiff_t>(i) * stride]);
      bounds[i] = kRoundoff * expected.units[i];
      bounds[i] += store * (std::abs(expected.value[i]) + bounds[i]);
      Squares& squares = squares_[name];
      squares.error += (values[i] - expected.value[i]) * (values[i] - expected.value[i]);
      squares.value += expected.value[i] * expected.value[i];
    }
    EXPECT_TRUE(testing_support::within_bound(expected.value, values, bounds))
        << name << " of " << describe(case_);
  }
  void expect_dx(const std::string& name, std::int64_t chunk, bool present, std::int64_t b,
                 std::int64_t d, const oracle::GatedFactorGradient& expected) {
    if (present) {
      expect(name, dp_.data() + b * p_strides_.batch + (chunk * case_.D + d) * p_strides_.channel,
             p_strides_.time, expected.dx[static_cast<std::size_t>(b)], kStore);
    }
  }
  void expect_parameters(const std::string& name, std::int64_t chunk, bool present, std::int64_t d,
                         const oracle::GatedFactorGradient& expected) {
    if (present && case_.short_filters) {
      expect("dweight of " + name, dweight_.data() + (chunk * case_.D + d) * case_.T, 1,
             expected.dweight, 0);
      expect("dbias of " + name, dbias_.data() + chunk * case_.D + d, 1, expected.dbias, 0);
    }
  }

  struct Squares {
    double error = 0.0;
    double value = 0.0;
  };

  GatedCase case_;
  std::map<std::string, Squares> squares_;
  Strides p_strides_;
  Strides y_strides_;
  GuardedBuffer<S> p_;
  GuardedBuffer<S> dp_;
  GuardedBuffer<S> y_;
  GuardedBuffer<S> dy_;
  GuardedBuffer<T> h_;
  GuardedBuffer<T> reverse_;
  GuardedBuffer<T> skip_;
  GuardedBuffer<T> weight_;
  GuardedBuffer<T> bias_;
  GuardedBuffer<T> dh_;
  GuardedBuffer<T> dreverse_;
  GuardedBuffer<T> dskip_;
  GuardedBuffer<T> dweight_;
  GuardedBuffer<T> dbias_;
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  std::int64_t transform_length_ = 0;
};

}  // namespace hyena::kernels
