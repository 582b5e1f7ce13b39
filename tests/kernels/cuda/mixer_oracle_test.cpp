// The oracle of the CUDA mixer against loops and central differences.
#include "tests/kernels/cuda/mixer_oracle.h"

#include <random>

#include <gtest/gtest.h>

#include "tests/oracle/long_conv_oracle.h"

namespace {

using hyena::oracle::MixerChannel;
using hyena::oracle::MixerOracle;
using hyena::oracle::Signal;

Signal noise(std::mt19937& random, std::size_t n) {
  std::normal_distribution<double> normal;
  Signal x(n);
  for (auto& v : x)
    v = normal(random);
  return x;
}

MixerChannel channel(std::mt19937& random, std::size_t taps, std::size_t filter_length) {
  MixerChannel c;
  for (int i = 0; i < 3; ++i)
    c.weight.push_back(noise(random, taps));
  c.bias = noise(random, 3);
  c.h = noise(random, filter_length);
  c.skip = noise(random, 1)[0];
  return c;
}

TEST(MixerOracle, ForwardIsTheTripleLoop) {
  std::mt19937 random(1);
  for (const std::size_t length : {1UL, 2UL, 7UL, 64UL, 101UL}) {
    MixerChannel c = channel(random, 3, (length + 1) / 2);
    c.reverse = noise(random, (length + 1) / 2);
    const std::vector<Signal> p{noise(random, length), noise(random, length),
                                noise(random, length)};
    const Signal y = MixerOracle(c, length).forward(p);
    std::vector<Signal> q(3, Signal(length));
    for (std::size_t i = 0; i < 3; ++i)
      for (std::size_t n = 0; n < length; ++n) {
        q[i][n] = c.bias[i] + c.weight[i][2] * p[i][n];
        if (n >= 1) q[i][n] += c.weight[i][1] * p[i][n - 1];
        if (n >= 2) q[i][n] += c.weight[i][0] * p[i][n - 2];
      }
    Signal z(length);
    for (std::size_t n = 0; n < length; ++n)
      z[n] = q[1][n] * q[2][n];
    Signal h = c.h;
    h.resize(length);
    const auto conv = hyena::oracle::long_conv(h, z);
    for (std::size_t n = 0; n < length; ++n) {
      double ahead = 0.0;
      for (std::size_t j = 0; j < c.reverse.size() && n + j < length; ++j)
        ahead += c.reverse[j] * z[n + j];
      EXPECT_NEAR(y[n], q[0][n] * (conv.value[n] + c.skip * z[n] + ahead), 1e-11) << n;
    }
  }
}

TEST(MixerOracle, GradientsAreCentralDifferences) {
  std::mt19937 random(2);
  const std::size_t length = 12;
  MixerChannel c = channel(random, 3, 9);
  c.reverse = noise(random, 9);
  std::vector<Signal> p{noise(random, length), noise(random, length), noise(random, length)};
  const Signal dy = noise(random, length);
  MixerOracle oracle(c, length);
  oracle.forward(p);
  const auto dp = oracle.backward(p, dy);
  const auto gradients = oracle.gradients();
  auto loss = [&] {
    const Signal y = MixerOracle(c, length).forward(p);
    double sum = 0.0;
    for (std::size_t n = 0; n < length; ++n)
      sum += y[n] * dy[n];
    return sum;
  };
  auto expect = [&](double& x, double gradient, const char* what) {
    const double saved = x;
    x = saved + 1e-5;
    const double up = loss();
    x = saved - 1e-5;
    const double down = loss();
    x = saved;
    EXPECT_NEAR((up - down) / 2e-5, gradient, 1e-6 * (1.0 + std::abs(gradient))) << what;
  };
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t n = 0; n < length; ++n)
      expect(p[i][n], dp[i][n], "dp");
    for (std::size_t k = 0; k < 3; ++k)
      expect(c.weight[i][k], gradients.weight[i][k], "dweight");
    expect(c.bias[i], gradients.bias[i], "dbias");
  }
  for (std::size_t j = 0; j < c.h.size(); ++j)
    expect(c.h[j], gradients.h[j], "dh");
  for (std::size_t j = 0; j < c.reverse.size(); ++j)
    expect(c.reverse[j], gradients.reverse[j], "dreverse");
  expect(c.skip, gradients.skip, "dskip");
}

}  // namespace
