// short_conv on every instruction set against the equation, with a bound per element.
#include "hyena/kernels/short_conv.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "tests/kernels/guarded_buffer.h"
#include "tests/kernels/instruction_sets.h"
#include "tests/support/within_bound.h"

namespace hyena::kernels {
namespace {

using Param = std::tuple<std::int64_t, std::int64_t>;  // target, T
constexpr double kRoundoff = 0x1p-24;

class ShortConv : public testing::TestWithParam<Param> {};

INSTANTIATE_TEST_SUITE_P(EveryTarget, ShortConv,
                         testing::Combine(testing::ValuesIn(compiled_targets()),
                                          testing::Values(1, 2, 3, 4, 11)),
                         [](const auto& tested) {
                           return std::string(hwy::TargetName(std::get<0>(tested.param))) + "_T" +
                                  std::to_string(std::get<1>(tested.param));
                         });

/// Values and bounds of one array of results.
struct Expected {
  explicit Expected(std::size_t n) : value(n), bound(n) {}
  void add(std::size_t i, double term, double roundings) {
    value[i] += term;
    bound[i] += roundings * kRoundoff * std::abs(term);
  }
  std::vector<double> value;
  std::vector<double> bound;
};

testing::AssertionResult matches(const Expected& expected, GuardedBuffer<float>& actual) {
  return testing_support::within_bound(
      expected.value, std::vector<float>(actual.data(), actual.data() + actual.size()),
      expected.bound);
}

TEST_P(ShortConv, ForwardAndEveryGradientMatchTheEquation) {
  const auto [target, taps] = GetParam();
  if (!runs_here(target)) {
    GTEST_SKIP() << "not on this CPU";
  }
  const OnlyTarget only(target);
  const auto T = static_cast<std::size_t>(taps);
  const std::size_t B = 2;
  for (const std::size_t C : {std::size_t{1}, std::size_t{7}, std::size_t{70}}) {
    for (const std::size_t L :
         {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{9}, std::size_t{600}}) {
      SCOPED_TRACE(testing::Message() << "C " << C << " L " << L);
      std::mt19937_64 random(C + L);
      std::normal_distribution<float> normal;
      GuardedBuffer<float> x(B * L * C);
      GuardedBuffer<float> dq(B * L * C);
      GuardedBuffer<float> w(C * T);
      GuardedBuffer<float> bias(C);
      for (auto* buffer : {&x, &dq, &w, &bias}) {
        for (std::size_t i = 0; i < buffer->size(); ++i) {
          (*buffer)[i] = normal(random);
        }
      }
      Expected q(B * L * C);
      Expected dx(B * L * C);
      Expected dw(C * T);
      Expected db(C);
      const auto roundings = static_cast<double>(T + 1);
      for (std::size_t b = 0; b < B; ++b) {
        for (std::size_t c = 0; c < C; ++c) {
          for (std::size_t t = 0; t < L; ++t) {
            const std::size_t at = (b * L + t) * C + c;
            q.add(at, static_cast<double>(bias[c]), roundings);
            db.add(c, static_cast<double>(dq[at]), 300.0);  // at most 256 added in float32
            for (std::size_t r = 0; r < T && r <= t; ++r) {
              const std::size_t past = at - r * C;
              const std::size_t tap = c * T + T - 1 - r;
              q.add(at, static_cast<double>(w[tap]) * static_cast<double>(x[past]), roundings);
              dx.add(past, static_cast<double>(w[tap]) * static_cast<double>(dq[at]), roundings);
              dw.add(tap, static_cast<double>(dq[at]) * static_cast<double>(x[past]), 300.0);
            }
          }
        }
      }
      const auto signed_size = [](std::size_t n) { return static_cast<std::int64_t>(n); };
      const ShortConvShape shape{signed_size(B), signed_size(C), signed_size(L), taps,
                                 DataType::kFloat32};
      const Strides strides{signed_size(L * C), 1, signed_size(C)};
      GuardedBuffer<float> y(x.size());
      GuardedBuffer<float> gx(x.size());
      GuardedBuffer<float> gw(w.size());
      GuardedBuffer<float> gb(C);
      GuardedBuffer<double> scratch(short_conv_workspace_bytes(shape) / sizeof(double));
      const Factor factor{{x.data(), strides}, w.data(), bias.data()};
      const std::int64_t items = short_conv_items(shape);
      short_conv_forward(shape, factor, {y.data(), strides}, 0, items, scratch.data());
      short_conv_backward(shape, factor, {dq.data(), strides},
                          {{gx.data(), strides}, gw.data(), gb.data()}, 0, items, scratch.data());
      EXPECT_TRUE(matches(q, y));
      EXPECT_TRUE(matches(dx, gx));
      EXPECT_TRUE(matches(dw, gw));
      EXPECT_TRUE(matches(db, gb));
      for (const auto* buffer : {&x, &dq, &w, &bias, &y, &gx, &gw, &gb}) {
        EXPECT_TRUE(buffer->intact());
      }
      EXPECT_TRUE(scratch.intact());
    }
  }
}

}  // namespace
}  // namespace hyena::kernels
