// The oracle of the Hyena mixer and of its pieces: one channel of one batch row, in float64, with
// running error bounds. Plain sums over lags, as the paper writes them; never optimised.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <vector>

#include "tests/oracle/running_error.h"

namespace hyena::oracle {

/// How the long convolutions of the implementation round.
enum class Rounding {
  kDirect,  ///< a sum of products
  kFft,     ///< norm-wise: 2 unit log2(2L) ||h|| ||u|| at every output, as long_conv.h promises
};

inline Bounded round_sum(const Sum& sum, Rounding rounding, const BoundedRow& a,
                         const BoundedRow& b, const Arithmetic& arithmetic) {
  if (rounding == Rounding::kDirect) {
    return sum.result(arithmetic);
  }
  const double points = 2.0 * static_cast<double>(std::max(a.size(), b.size()));
  return {sum.value(),
          sum.error_of_terms() + 2.0 * arithmetic.unit * std::log2(points) * norm(a) * norm(b)};
}

/// y[t] = sum_s h[s] u[t-s]
inline BoundedRow convolve(const BoundedRow& h, const BoundedRow& u, Rounding rounding,
                           const Arithmetic& arithmetic) {
  BoundedRow y(u.size());
  for (std::size_t t = 0; t < u.size(); ++t) {
    Sum sum;
    for (std::size_t s = 0; s < h.size() && s <= t; ++s) {
      sum.add(h[s] * u[t - s]);
    }
    y[t] = round_sum(sum, rounding, h, u, arithmetic);
  }
  return y;
}

/// y[t] = sum_s h[s] u[t+s]: the transpose of convolve, and the reverse filter.
inline BoundedRow convolve_reverse(const BoundedRow& h, const BoundedRow& u, Rounding rounding,
                                   const Arithmetic& arithmetic) {
  BoundedRow y(u.size());
  for (std::size_t t = 0; t < u.size(); ++t) {
    Sum sum;
    for (std::size_t s = 0; s < h.size() && t + s < u.size(); ++s) {
      sum.add(h[s] * u[t + s]);
    }
    y[t] = round_sum(sum, rounding, h, u, arithmetic);
  }
  return y;
}

/// c[s] = sum_t a[t] b[t-s] for the first `lags` lags: the gradient of a filter.
inline BoundedRow correlate(const BoundedRow& a, const BoundedRow& b, std::size_t lags,
                            Rounding rounding, const Arithmetic& arithmetic) {
  BoundedRow c(lags);
  for (std::size_t s = 0; s < lags; ++s) {
    Sum sum;
    for (std::size_t t = s; t < a.size(); ++t) {
      sum.add(a[t] * b[t - s]);
    }
    c[s] = round_sum(sum, rounding, a, b, arithmetic);
  }
  return c;
}

inline Bounded dot(const BoundedRow& a, const BoundedRow& b, const Arithmetic& arithmetic) {
  Sum sum;
  for (std::size_t t = 0; t < a.size(); ++t) {
    sum.add(a[t] * b[t]);
  }
  return sum.result(arithmetic);
}

/// S v = h * v + skip v, stored.
inline BoundedRow long_conv(const BoundedRow& h, const Bounded& skip, const BoundedRow& v,
                            Rounding rounding, const Arithmetic& arithmetic) {
  BoundedRow y = convolve(h, v, rounding, arithmetic);
  for (std::size_t t = 0; t < y.size(); ++t) {
    Sum sum;
    sum.add(y[t]);
    sum.add(skip * v[t]);
    y[t] = stored(sum.result(arithmetic), arithmetic);
  }
  return y;
}

/// The transpose: S^T g = sum_s h[s] g[t+s] + skip g, stored.
inline BoundedRow long_conv_transposed(const BoundedRow& h, const Bounded& skip,
                                       const BoundedRow& g, Rounding rounding,
                                       const Arithmetic& arithmetic) {
  BoundedRow y = convolve_reverse(h, g, rounding, arithmetic);
  for (std::size_t t = 0; t < y.size(); ++t) {
    Sum sum;
    sum.add(y[t]);
    sum.add(skip * g[t]);
    y[t] = stored(sum.result(arithmetic), arithmetic);
  }
  return y;
}

/// q[t] = bias + sum_j taps[j] p[t-(T-1)+j]; the implementation may store its taps and the result.
inline BoundedRow short_conv(const BoundedRow& p, const std::vector<double>& taps, double bias,
                             const Arithmetic& arithmetic) {
  const std::size_t T = taps.size();
  BoundedRow q(p.size());
  for (std::size_t t = 0; t < p.size(); ++t) {
    Sum sum;
    sum.add(stored({bias, 0.0}, arithmetic));
    for (std::size_t j = 0; j < T; ++j) {
      if (t + j + 1 >= T) {
        sum.add(stored({taps[j], 0.0}, arithmetic) * p[t + j + 1 - T]);
      }
    }
    q[t] = stored(sum.result(arithmetic), arithmetic);
  }
  return q;
}

struct ShortConvGradients {
  BoundedRow p;
  BoundedRow taps;
  Bounded bias;
};

/// dp[t] = sum_j taps[j] dq[t+(T-1)-j];  dtaps[j] = sum_t dq[t] p[t-(T-1)+j];  dbias = sum_t dq[t]
inline ShortConvGradients short_conv_backward(const BoundedRow& dq, const BoundedRow& p,
                                              const std::vector<double>& taps,
                                              const Arithmetic& arithmetic) {
  const std::size_t T = taps.size();
  const std::size_t L = p.size();
  ShortConvGradients gradients{.p = BoundedRow(L), .taps = BoundedRow(T), .bias = {}};
  Sum bias;
  for (std::size_t t = 0; t < L; ++t) {
    Sum sum;
    for (std::size_t j = 0; j < T; ++j) {
      if (t + T - 1 - j < L) {
        sum.add(stored({taps[j], 0.0}, arithmetic) * dq[t + T - 1 - j]);
      }
    }
    gradients.p[t] = stored(sum.result(arithmetic), arithmetic);
    bias.add(dq[t]);
  }
  for (std::size_t j = 0; j < T; ++j) {
    Sum sum;
    for (std::size_t t = 0; t < L; ++t) {
      if (t + j + 1 >= T) {
        sum.add(dq[t] * p[t + j + 1 - T]);
      }
    }
    gradients.taps[j] = stored(sum.result(arithmetic), arithmetic);
  }
  gradients.bias = stored(bias.result(arithmetic), arithmetic);
  return gradients;
}

/// One channel of the mixer. Chunks are numbered as the projections are cut: gates first, v last.
struct MixerChannel {
  bool safari = true;                     ///< else Algorithm 3 of the paper
  std::vector<std::vector<double>> p;     ///< N+1 rows
  std::vector<std::vector<double>> taps;  ///< N+1 short filters
  std::vector<double> bias;               ///< N+1
  std::vector<std::vector<double>> h;     ///< N-1 (safari) or N long filters
  std::vector<double> skip;               ///< as many
  Rounding rounding = Rounding::kFft;

  [[nodiscard]] std::size_t order() const { return p.size() - 1; }
};

struct MixerGradients {
  std::vector<BoundedRow> p;
  std::vector<BoundedRow> taps;
  BoundedRow bias;
  std::vector<BoundedRow> h;
  BoundedRow skip;
};

/// The chunks after the short convolution.
inline std::vector<BoundedRow> projections(const MixerChannel& channel,
                                           const Arithmetic& arithmetic) {
  std::vector<BoundedRow> q;
  q.reserve(channel.p.size());
  for (std::size_t i = 0; i < channel.p.size(); ++i) {
    q.push_back(short_conv(exact(channel.p[i]), channel.taps[i], channel.bias[i], arithmetic));
  }
  return q;
}

/// safari  v <- S_o (x_{N-1-o} v) for o = 0..N-2, y = x_0 v;   paper  v <- x^n (S_n v), y = v.
/// From the chunks after the short convolution.
inline BoundedRow recurrence(const MixerChannel& channel, const std::vector<BoundedRow>& q,
                             const Arithmetic& arithmetic) {
  const std::size_t N = channel.order();
  BoundedRow v = q[N];
  for (std::size_t o = 0; o < channel.h.size(); ++o) {
    const BoundedRow h = exact(channel.h[o]);
    const Bounded skip{channel.skip[o], 0.0};
    if (channel.safari) {
      v = gated(v, q[N - 1 - o], arithmetic);
      v = long_conv(h, skip, v, channel.rounding, arithmetic);
    } else {
      v = long_conv(h, skip, v, channel.rounding, arithmetic);
      v = gated(v, q[o], arithmetic);
    }
  }
  return channel.safari ? gated(v, q[0], arithmetic) : v;
}

inline BoundedRow mixer(const MixerChannel& channel, const Arithmetic& arithmetic) {
  return recurrence(channel, projections(channel, arithmetic), arithmetic);
}

/// The chain rule along `recurrence`, backwards, with every intermediate written down.
inline MixerGradients mixer_backward(const MixerChannel& channel, const std::vector<double>& dy,
                                     const Arithmetic& arithmetic) {
  const std::size_t N = channel.order();
  const std::size_t M = channel.h.size();
  const std::vector<BoundedRow> q = projections(channel, arithmetic);
  // Every long convolution reads `input` and writes `output`; its gate reads the other one.
  std::vector<BoundedRow> input(M);
  std::vector<BoundedRow> output(M);
  std::vector<BoundedRow> before(M);  // v when step o begins
  BoundedRow v = q[N];
  for (std::size_t o = 0; o < M; ++o) {
    before[o] = v;
    input[o] = channel.safari ? gated(v, q[N - 1 - o], arithmetic) : v;
    output[o] = long_conv(exact(channel.h[o]), {channel.skip[o], 0.0}, input[o], channel.rounding,
                          arithmetic);
    v = channel.safari ? output[o] : gated(output[o], q[o], arithmetic);
  }
  std::vector<BoundedRow> dq(N + 1);
  BoundedRow dv = exact(dy);
  if (channel.safari) {
    dq[0] = gated(dv, v, arithmetic);
    dv = gated(dv, q[0], arithmetic);
  }
  MixerGradients gradients;
  gradients.h.resize(M);
  gradients.skip.resize(M);
  for (std::size_t o = M; o-- > 0;) {
    if (!channel.safari) {
      dq[o] = gated(dv, output[o], arithmetic);
      dv = gated(dv, q[o], arithmetic);
    }
    gradients.h[o] = correlate(dv, input[o], channel.h[o].size(), channel.rounding, arithmetic);
    gradients.skip[o] = dot(dv, input[o], arithmetic);
    dv = long_conv_transposed(exact(channel.h[o]), {channel.skip[o], 0.0}, dv, channel.rounding,
                              arithmetic);
    if (channel.safari) {
      dq[N - 1 - o] = gated(dv, before[o], arithmetic);
      dv = gated(dv, q[N - 1 - o], arithmetic);
    }
  }
  dq[N] = dv;
  for (std::size_t i = 0; i <= N; ++i) {
    const ShortConvGradients chunk =
        short_conv_backward(dq[i], exact(channel.p[i]), channel.taps[i], arithmetic);
    gradients.p.push_back(chunk.p);
    gradients.taps.push_back(chunk.taps);
    gradients.bias.push_back(chunk.bias);
  }
  return gradients;
}

}  // namespace hyena::oracle
