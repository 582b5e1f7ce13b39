// The oracle is checked by hand and by the algebra of the paper, never against an op.
#include "tests/oracle/hyena_mixer_oracle.h"

#include <cmath>
#include <cstddef>
#include <vector>

#include <gtest/gtest.h>

namespace hyena::oracle {
namespace {

using Values = std::vector<double>;
constexpr Arithmetic kExact{.unit = 0.0, .store = 0.0};

Values values(const BoundedRow& row) {
  Values result;
  for (const Bounded& x : row) {
    result.push_back(x.value);
  }
  return result;
}

/// A short filter that passes its input on.
const Values kPass{0, 0, 1};

TEST(ShortConvOracle, LastTapWeighsNow) {
  const Values p{2, 3, 5, 7};
  EXPECT_EQ(values(short_conv(exact(p), {100, 10, 1}, 1000, kExact)),
            (Values{1002, 1023, 1235, 1357}));
}

TEST(ShortConvOracle, GradientsOfThreeSamplesByHand) {
  // q0 = b + w1 p0,  q1 = b + w0 p0 + w1 p1,  q2 = b + w0 p1 + w1 p2
  const ShortConvGradients g =
      short_conv_backward(exact({2, 3, 5}), exact({7, 11, 13}), {17, 19}, kExact);
  EXPECT_EQ(values(g.p), (Values{2 * 19 + 3 * 17, 3 * 19 + 5 * 17, 5 * 19}));
  EXPECT_EQ(values(g.taps), (Values{3 * 7 + 5 * 11, 2 * 7 + 3 * 11 + 5 * 13}));
  EXPECT_EQ(g.bias.value, 10);
}

TEST(LongConvOracle, ReverseLooksAhead) {
  const BoundedRow h = exact({1, 10, 100});
  EXPECT_EQ(values(convolve_reverse(h, exact({2, 3, 5, 7}), Rounding::kDirect, kExact)),
            (Values{2 + 30 + 500, 3 + 50 + 700, 5 + 70, 7}));
  EXPECT_EQ(values(correlate(exact({2, 3, 5}), exact({7, 11, 13}), 2, Rounding::kDirect, kExact)),
            (Values{2 * 7 + 3 * 11 + 5 * 13, 3 * 7 + 5 * 11}));
}

TEST(MixerOracle, OrderTwoByHand) {
  // x_0 = (2, 3), x_1 = (5, 7), v = (11, 13), h = (17, 19), skip 23:
  //   g = x_1 v = (55, 91);  S g = (40*55, 40*91 + 19*55);  y = x_0 (S g)
  MixerChannel channel{.p = {{2, 3}, {5, 7}, {11, 13}},
                       .taps = {kPass, kPass, kPass},
                       .bias = {0, 0, 0},
                       .h = {{17, 19}},
                       .skip = {23}};
  EXPECT_EQ(values(mixer(channel, kExact)), (Values{2 * 2200, 3 * 4685}));
  // Paper, order 2: v <- x^1 (S v), v <- x^2 (S' v), with S' = 1.
  channel.safari = false;
  channel.h = {{17, 19}, {1, 0}};
  channel.skip = {23, 0};
  EXPECT_EQ(values(mixer(channel, kExact)), (Values{2.0 * 440 * 5, 3.0 * (40 * 13 + 19 * 11) * 7}));
}

TEST(MixerOracle, SafariIsThePaperWithItsFirstFilterOne) {
  // PAPER 1.2: the code is the paper's recurrence with x^n := x_{N-n}, h^1 := 1, h^n := h_{n-2}.
  const MixerChannel safari{.p = {{1, -2, 3}, {2, 5, -1}, {-3, 1, 4}, {1, 2, -2}},
                            .taps = {kPass, kPass, kPass, kPass},
                            .bias = {0, 0, 0, 0},
                            .h = {{2, -1, 3}, {1, 4, -2}},
                            .skip = {3, -1}};
  MixerChannel paper = safari;
  paper.safari = false;
  paper.p = {safari.p[2], safari.p[1], safari.p[0], safari.p[3]};
  paper.h = {{1, 0, 0}, safari.h[0], safari.h[1]};
  paper.skip = {0, safari.skip[0], safari.skip[1]};
  EXPECT_EQ(values(mixer(safari, kExact)), values(mixer(paper, kExact)));
}

/// d/dx of 0.5 y . y by central differences; a polynomial of low degree, so the step may be large.
double slope(const MixerChannel& channel, const Values& dy, double& x) {
  const double kept = x;
  const auto loss = [&](double step) {
    x = kept + step;
    const Values y = values(mixer(channel, kExact));
    double sum = 0;
    for (std::size_t t = 0; t < y.size(); ++t) {
      sum += dy[t] * y[t];
    }
    return sum;
  };
  const double result = (loss(1e-5) - loss(-1e-5)) / 2e-5;
  x = kept;
  return result;
}

TEST(MixerOracle, BackwardIsTheSlope) {
  for (const bool is_safari : {true, false}) {
    MixerChannel channel{.safari = is_safari,
                         .p = {{1, -2, .5, 1}, {.3, 1, -1, 2}, {-1, 1, .7, -.2}, {1, .1, -.2, .4}},
                         .taps = {{.5, 1}, {-.3, 1}, {.2, -1}, {.4, .6}},
                         .bias = {.1, -.2, .3, .4},
                         .h = {{.2, -1, .3}, {1, .4, -.2}},
                         .skip = {.3, -1}};
    if (!is_safari) {
      channel.h.push_back({.5, .6, -.7});
      channel.skip.push_back(.8);
    }
    const Values dy{1, -.5, 2, .25};
    const MixerGradients g = mixer_backward(channel, dy, kExact);
    for (std::size_t i = 0; i < channel.p.size(); ++i) {
      for (std::size_t t = 0; t < 4; ++t) {
        EXPECT_NEAR(slope(channel, dy, channel.p[i][t]), g.p[i][t].value, 1e-8);
      }
      for (std::size_t j = 0; j < 2; ++j) {
        EXPECT_NEAR(slope(channel, dy, channel.taps[i][j]), g.taps[i][j].value, 1e-8);
      }
      EXPECT_NEAR(slope(channel, dy, channel.bias[i]), g.bias[i].value, 1e-8);
    }
    for (std::size_t o = 0; o < channel.h.size(); ++o) {
      for (std::size_t s = 0; s < 3; ++s) {
        EXPECT_NEAR(slope(channel, dy, channel.h[o][s]), g.h[o][s].value, 1e-8);
      }
      EXPECT_NEAR(slope(channel, dy, channel.skip[o]), g.skip[o].value, 1e-8);
    }
  }
}

TEST(RunningError, CoversAFloatEvaluation) {
  // The same sums in float32 stay inside; with a tenth of the bound some of them would not have to,
  // with a bound of zero they do not.
  const Arithmetic f32{.unit = 0x1p-24, .store = 0x1p-24};
  Values h;
  Values u;
  for (int t = 0; t < 200; ++t) {
    h.push_back(static_cast<float>(std::sin(1.0 + t * t)));
    u.push_back(static_cast<float>(std::cos(2.0 + 3.0 * t)));
  }
  const BoundedRow y = convolve(exact(h), exact(u), Rounding::kDirect, f32);
  int rounded = 0;
  for (std::size_t t = 0; t < u.size(); ++t) {
    float sum = 0.0F;
    for (std::size_t s = 0; s <= t; ++s) {
      sum += static_cast<float>(h[s]) * static_cast<float>(u[t - s]);
    }
    const double error = std::abs(static_cast<double>(sum) - y[t].value);
    EXPECT_LE(error, y[t].error) << "t " << t;
    rounded += error > 0.0 ? 1 : 0;
  }
  EXPECT_GT(rounded, 100);
}

}  // namespace
}  // namespace hyena::oracle
