// The mixer of order 2 and all its gradients in float64, row by row.
//
// Long convolutions go through a zero-padded radix-2 FFT of at least 2 L points, so that a million
// points are possible; mixer_oracle_test.cpp holds it against the triple loop.
#pragma once

#include <cmath>
#include <complex>
#include <cstddef>
#include <numbers>
#include <utility>
#include <vector>

namespace hyena::oracle {

using Signal = std::vector<double>;
using Spectrum = std::vector<std::complex<double>>;

/// In place, exp(-2 pi i n k / N); N a power of two.
inline void transform(Spectrum& x) {
  const std::size_t n = x.size();
  for (std::size_t i = 1, j = 0; i < n; ++i) {
    std::size_t bit = n >> 1;
    for (; (j & bit) != 0; bit >>= 1)
      j ^= bit;
    j ^= bit;
    if (i < j) std::swap(x[i], x[j]);
  }
  Spectrum root(n / 2 + 1);
  for (std::size_t i = 0; i < n / 2; ++i) {
    root[i] =
        std::polar(1.0, -2.0 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(n));
  }
  for (std::size_t length = 2; length <= n; length *= 2) {
    for (std::size_t i = 0; i < n; i += length) {
      for (std::size_t j = 0; j < length / 2; ++j) {
        const auto a = x[i + j];
        const auto b = x[i + j + length / 2] * root[j * (n / length)];
        x[i + j] = a + b;
        x[i + j + length / 2] = a - b;
      }
    }
  }
}
inline Spectrum padded_spectrum(const Signal& x, std::size_t points) {
  Spectrum s(x.begin(), x.end());
  s.resize(points);
  transform(s);
  return s;
}
/// First `length` real parts of the inverse.
inline Signal inverse(Spectrum s, std::size_t length) {
  for (auto& v : s)
    v = std::conj(v);
  transform(s);
  Signal x(length);
  for (std::size_t i = 0; i < length; ++i)
    x[i] = s[i].real() / static_cast<double>(s.size());
  return x;
}

/// Parameters of one channel d: its three short convolutions [x0, x1, v], filter and skip.
struct MixerChannel {
  std::vector<Signal> weight;  // [3][taps], conv1d order
  Signal bias;                 // [3]
  Signal h;
  double skip = 0.0;
  Signal reverse;  // towards the future, lag 0 included; may be empty
};
struct MixerChannelGradients {
  std::vector<Signal> weight;
  Signal bias;
  Signal h;
  double skip = 0.0;
  Signal reverse;
};

/// Forward and backward of one channel, batch rows one after the other.
class MixerOracle {
 public:
  MixerOracle(MixerChannel channel, std::size_t length) : c_(std::move(channel)), length_(length) {
    while (points_ < 2 * length)
      points_ *= 2;
    h_spectrum_ = padded_spectrum(c_.h, points_);
    const Spectrum reverse = padded_spectrum(c_.reverse, points_);
    for (std::size_t k = 0; k < points_; ++k)
      h_spectrum_[k] += std::conj(reverse[k]);
    sum_.resize(points_);
    gradients_.weight.assign(3, Signal(c_.weight[0].size()));
    gradients_.bias.assign(3, 0.0);
  }

  /// p: the rows of x0, x1, v before the short convolution.
  Signal forward(const std::vector<Signal>& p) {
    prepare(p);
    Signal y(length_);
    for (std::size_t n = 0; n < length_; ++n)
      y[n] = q_[0][n] * conv_[n];
    return y;
  }

  /// dp of one batch row; accumulates the parameters' gradients. Call after forward(p).
  std::vector<Signal> backward(const std::vector<Signal>& p, const Signal& dy) {
    Signal g(length_);
    for (std::size_t n = 0; n < length_; ++n)
      g[n] = dy[n] * q_[0][n];
    const Spectrum g_spectrum = padded_spectrum(g, points_);
    Spectrum product(points_);
    for (std::size_t k = 0; k < points_; ++k) {
      product[k] = g_spectrum[k] * std::conj(h_spectrum_[k]);
      sum_[k] += std::conj(z_spectrum_[k]) * g_spectrum[k];
    }
    Signal dz = inverse(product, length_);
    std::vector<Signal> dq(3, Signal(length_));
    for (std::size_t n = 0; n < length_; ++n) {
      dz[n] += c_.skip * g[n];
      gradients_.skip += g[n] * z_[n];
      dq[0][n] = dy[n] * conv_[n];
      dq[1][n] = dz[n] * q_[2][n];
      dq[2][n] = dz[n] * q_[1][n];
    }
    std::vector<Signal> dp(3, Signal(length_));
    const std::size_t taps = c_.weight[0].size();
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t n = 0; n < length_; ++n) {
        gradients_.bias[c] += dq[c][n];
        for (std::size_t lag = 0; lag < taps && lag <= n; ++lag) {
          gradients_.weight[c][taps - 1 - lag] += dq[c][n] * p[c][n - lag];
          dp[c][n - lag] += c_.weight[c][taps - 1 - lag] * dq[c][n];
        }
      }
    }
    return dp;
  }

  MixerChannelGradients gradients() {
    gradients_.h = inverse(sum_, c_.h.size());
    Spectrum other_way = sum_;
    for (auto& v : other_way)
      v = std::conj(v);
    gradients_.reverse = inverse(std::move(other_way), c_.reverse.size());
    return gradients_;
  }

 private:
  void prepare(const std::vector<Signal>& p) {
    q_.assign(3, Signal(length_));
    const std::size_t taps = c_.weight[0].size();
    for (std::size_t c = 0; c < 3; ++c) {
      for (std::size_t n = 0; n < length_; ++n) {
        q_[c][n] = c_.bias[c];
        for (std::size_t lag = 0; lag < taps && lag <= n; ++lag)
          q_[c][n] += c_.weight[c][taps - 1 - lag] * p[c][n - lag];
      }
    }
    z_.resize(length_);
    for (std::size_t n = 0; n < length_; ++n)
      z_[n] = q_[1][n] * q_[2][n];
    z_spectrum_ = padded_spectrum(z_, points_);
    Spectrum product(points_);
    for (std::size_t k = 0; k < points_; ++k)
      product[k] = z_spectrum_[k] * h_spectrum_[k];
    conv_ = inverse(std::move(product), length_);
    for (std::size_t n = 0; n < length_; ++n)
      conv_[n] += c_.skip * z_[n];
  }

  MixerChannel c_;
  std::size_t length_;
  std::size_t points_ = 1;
  Spectrum h_spectrum_, z_spectrum_, sum_;
  std::vector<Signal> q_;
  Signal z_, conv_;
  MixerChannelGradients gradients_;
};

}  // namespace hyena::oracle
