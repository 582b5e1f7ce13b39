// The implicit filter's kernels on every instruction set against float64, with a bound per element.
#include "hyena/kernels/implicit_filter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/guarded_buffer.h"
#include "tests/kernels/instruction_sets.h"
#include "tests/support/within_bound.h"

namespace hyena::kernels {
namespace {

constexpr double kUnit = 0x1p-24;
constexpr std::array<std::size_t, 6> kSteps{1, 2, 15, 16, 17, 37};
constexpr double kSine = 0x1p-23;  // what the header promises

class ImplicitFilter : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override {
    if (!runs_here(GetParam())) {
      GTEST_SKIP() << "not on this CPU";
    }
  }
};

INSTANTIATE_TEST_SUITE_P(EveryTarget, ImplicitFilter, testing::ValuesIn(compiled_targets()),
                         [](const auto& tested) { return hwy::TargetName(tested.param); });

std::int64_t signed_size(std::size_t n) {
  return static_cast<std::int64_t>(n);
}

GuardedBuffer<float> normals(std::size_t count, std::uint64_t seed) {
  GuardedBuffer<float> x(count);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < count; ++i) {
    x[i] = normal(random);
  }
  return x;
}

/// Values with bounds; where nobody may write, the buffer keeps its not-a-number.
struct Expected {
  explicit Expected(std::size_t n) : value(n), bound(n), written(n) {}
  void set(std::size_t i, double x, double error) {
    value[i] = x;
    bound[i] = error;
    written[i] = true;
  }
  [[nodiscard]] testing::AssertionResult matches(GuardedBuffer<float>& actual) const {
    std::vector<float> comparable(actual.data(), actual.data() + actual.size());
    for (std::size_t i = 0; i < comparable.size(); ++i) {
      if (!written[i]) {
        if (!std::isnan(comparable[i])) {
          return testing::AssertionFailure() << "[" << i << "] was written";
        }
        comparable[i] = 0.0F;
      }
    }
    if (!actual.intact()) {
      return testing::AssertionFailure() << "written outside";
    }
    return testing_support::within_bound(value, comparable, bound);
  }
  std::vector<double> value;
  std::vector<double> bound;
  std::vector<bool> written;
};

/// Every scale, all near-multiples of pi/2 that the vector form reduces, and beyond its range.
std::vector<float> arguments() {
  std::vector<float> x{0.0F,  std::numeric_limits<float>::denorm_min(), 12799.999F, 12800.0F,
                       1e10F, std::numeric_limits<float>::max()};
  std::mt19937_64 random(1);
  std::uniform_real_distribution<float> exponent(-30.0F, 17.0F);
  for (int i = 0; i < 200000; ++i) {
    x.push_back(std::exp2(exponent(random)));
  }
  for (int k = 0; k < 8200; ++k) {
    const auto multiple = static_cast<float>(k * std::numbers::pi / 4.0);
    x.insert(x.end(), {std::nextafter(multiple, 0.0F), multiple, std::nextafter(multiple, 1e9F)});
    x.push_back(static_cast<float>((8200 + k) * std::numbers::pi / 4.0));
  }
  const std::size_t half = x.size();
  for (std::size_t i = 0; i < half; ++i) {
    x.push_back(-x[i]);
  }
  return x;
}

TEST_P(ImplicitFilter, SineAndCosineStayWithinTheirBound) {
  const OnlyTarget only(GetParam());
  const std::vector<float> x = arguments();
  const FilterBlock block{1, signed_size(x.size()), signed_size(x.size())};
  const float freq = 1.0F;
  const float bias = 0.0F;
  std::vector<float> sin(x.size());
  std::vector<float> cos(x.size(), 1.0F);
  float dfreq = 0.0F;
  float dbias = 0.0F;
  filter_sine(block, {&freq, &bias}, x.data(), sin.data());
  filter_sine_backward(block, {&freq, &bias}, x.data(), cos.data(), &dfreq, &dbias);
  double worst = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto wide = static_cast<double>(x[i]);
    const double sine_error = std::abs(static_cast<double>(sin[i]) - std::sin(wide));
    const double cosine_error = std::abs(static_cast<double>(cos[i]) - std::cos(wide));
    ASSERT_LE(sine_error, kSine) << x[i];
    ASSERT_LE(cosine_error, kSine) << x[i];
    worst = std::max({worst, sine_error, cosine_error});
  }
  RecordProperty("worst_error_in_2_to_minus_24", std::to_string(worst / kUnit));
}

TEST_P(ImplicitFilter, TheSineOfNoNumberIsNone) {
  const OnlyTarget only(GetParam());
  const float freq = 1.0F;
  const float bias = 0.0F;
  for (const float x :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    float a = 0.0F;
    filter_sine({1, 1, 1}, {&freq, &bias}, &x, &a);
    EXPECT_TRUE(std::isnan(a)) << x;
  }
}

TEST_P(ImplicitFilter, SineLayersMatchTheEquation) {
  const OnlyTarget only(GetParam());
  for (const std::size_t W : {std::size_t{1}, std::size_t{5}}) {
    for (const std::size_t steps : kSteps) {
      SCOPED_TRACE(testing::Message() << "W " << W << " steps " << steps);
      const std::size_t stride = steps + 3;
      GuardedBuffer<float> product = normals(W * stride, steps);
      GuardedBuffer<float> freq = normals(W, 1);
      GuardedBuffer<float> bias = normals(W, 2);
      GuardedBuffer<float> da(W * stride);
      GuardedBuffer<float> given = normals(W * stride, 3);
      GuardedBuffer<float> a(W * stride);
      GuardedBuffer<float> dfreq(W);
      GuardedBuffer<float> dbias(W);
      Expected sine(W * stride);
      Expected dx(W * stride);
      Expected sum_freq(W);
      Expected sum_bias(W);
      for (std::size_t w = 0; w < W; ++w) {
        const auto f = static_cast<double>(freq[w]);
        double freq_sum = 1.0;  // the sums go on from what was there
        double freq_terms = 1.0;
        double bias_sum = 2.0;
        double bias_terms = 2.0;
        dfreq[w] = 1.0F;
        dbias[w] = 2.0F;
        for (std::size_t n = 0; n < steps; ++n) {
          const std::size_t i = w * stride + n;
          da[i] = given[i];
          const auto x = static_cast<double>(product[i]) + static_cast<double>(bias[w]);
          const double phase = f * x;
          const double error = kSine + 2.1 * kUnit * std::abs(phase);
          const auto d = static_cast<double>(da[i]);
          sine.set(i, std::sin(phase), error);
          const double slope = d * std::cos(phase) * f;
          const double slope_error = std::abs(d * f) * (error + 2.1 * kUnit);
          dx.set(i, slope, slope_error);
          bias_sum += slope;
          bias_terms += std::abs(slope) + slope_error / kUnit / static_cast<double>(steps + 2);
          freq_sum += d * std::cos(phase) * x;
          freq_terms +=
              std::abs(d * x) * (1.0 + (error / kUnit + 3.1) / static_cast<double>(steps + 2));
        }
        const double roundings = static_cast<double>(steps + 2) * kUnit * 1.01;
        sum_freq.set(w, freq_sum, roundings * freq_terms);
        sum_bias.set(w, bias_sum, roundings * bias_terms);
      }
      const FilterBlock block{signed_size(W), signed_size(steps), signed_size(stride)};
      const FilterSine layer{freq.data(), bias.data()};
      filter_sine(block, layer, product.data(), a.data());
      filter_sine_backward(block, layer, product.data(), da.data(), dfreq.data(), dbias.data());
      EXPECT_TRUE(sine.matches(a));
      EXPECT_TRUE(dx.matches(da));
      EXPECT_TRUE(sum_freq.matches(dfreq));
      EXPECT_TRUE(sum_bias.matches(dbias));
      EXPECT_TRUE(product.intact());
    }
  }
}

struct WindowCase {
  std::int64_t M;
  bool interleaved;
  bool window;
  std::size_t steps;
};

std::vector<WindowCase> window_cases() {
  std::vector<WindowCase> all;
  for (const std::int64_t M : {1, 2, 3}) {
    for (const bool interleaved : {true, false}) {
      for (const bool window : {true, false}) {
        for (const std::size_t steps : kSteps) {
          all.push_back({M, interleaved, window, steps});
        }
      }
    }
  }
  return all;
}

TEST_P(ImplicitFilter, WindowsMatchTheEquation) {
  const OnlyTarget only(GetParam());
  for (const WindowCase& c : window_cases()) {
    SCOPED_TRACE(testing::Message() << "M " << c.M << " interleaved " << c.interleaved << " window "
                                    << c.window << " steps " << c.steps);
    const std::size_t D = 3;
    const auto M = static_cast<std::size_t>(c.M);
    const std::size_t C = M * D;
    const std::size_t stride = c.steps + 3;
    const std::size_t K = c.steps + 5;
    const float shift = 0.05F;
    GuardedBuffer<float> m = normals(C * stride, 1);
    GuardedBuffer<float> dh = normals(C * K, 2);
    GuardedBuffer<float> t(c.steps);
    GuardedBuffer<float> deltas = normals(C, 3);
    deltas[0] = 0.0F;
    GuardedBuffer<float> h(C * K);
    GuardedBuffer<float> dm(C * stride);
    GuardedBuffer<float> ddeltas(C);
    Expected filters(C * K);
    Expected product(C * stride);
    Expected sums(C);
    for (std::size_t n = 0; n < c.steps; ++n) {
      t[n] = static_cast<float>(n) / 7.0F;
    }
    for (std::size_t channel = 0; channel < C; ++channel) {
      const std::size_t row = c.interleaved ? channel % M * D + channel / M : channel;
      const auto delta = static_cast<double>(deltas[channel]);
      double sum = 1.0;
      double error = 0.0;
      double terms = 1.0;
      for (std::size_t n = 0; n < c.steps; ++n) {
        const auto time = static_cast<double>(t[n]);
        const double e = std::exp(-time * std::abs(delta));
        // A product, an exponential of two units, and the shift.
        const double e_error = kUnit * 1.01 * e * (time * std::abs(delta) + 2.0);
        const double factor = c.window ? e + static_cast<double>(shift) : 1.0;
        const double factor_error = c.window ? e_error + kUnit * 2.0 * factor : 0.0;
        const auto x = static_cast<double>(m[channel * stride + n]);
        const auto g = static_cast<double>(dh[row * K + n]);
        filters.set(row * K + n, x * factor,
                    std::abs(x) * (factor_error + (c.window ? kUnit * factor * 1.01 : 0.0)));
        product.set(channel * stride + n, g * factor,
                    std::abs(g) * (factor_error + (c.window ? kUnit * factor * 1.01 : 0.0)));
        dm[channel * stride + n] = m[channel * stride + n];
        const double sign = delta > 0.0 ? 1.0 : (delta < 0.0 ? -1.0 : 0.0);
        sum -= sign * g * x * e * time;
        terms += std::abs(g * x * e * time);
        error += std::abs(g * x * time) * (e_error + 3.1 * kUnit * e);
      }
      ddeltas[channel] = 1.0F;
      sums.set(channel, c.window ? sum : 1.0,
               error + static_cast<double>(c.steps + 2) * kUnit * terms);
    }
    const FilterBlock block{signed_size(C), signed_size(c.steps), signed_size(stride)};
    const FilterWindowBlock window{t.data(), c.window ? deltas.data() : nullptr, shift,
                                   c.interleaved ? c.M : 1, signed_size(K)};
    filter_window(block, window, m.data(), h.data());
    filter_window_backward(block, window, dh.data(), dm.data(), ddeltas.data());
    EXPECT_TRUE(filters.matches(h));
    EXPECT_TRUE(product.matches(dm));
    EXPECT_TRUE(sums.matches(ddeltas));
    EXPECT_TRUE(m.intact() && dh.intact());
  }
}

}  // namespace
}  // namespace hyena::kernels
