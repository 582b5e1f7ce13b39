// The oracle of the gated long convolution: y = post . (h * u + skip u), u = pre . v, factors
// behind short convolutions, and every gradient in closed form. One channel, all rows of the batch,
// in float64; plain sums, never optimised.
//
// Beside each value stands what rounding may do to it, in units of the roundoff, if the long
// convolution is accurate to `fft` units of ||h|| ||u||: each formula with magnitudes instead of
// values, times the number of roundings on the way.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace hyena::oracle {

using Samples = std::vector<double>;
using Batch = std::vector<Samples>;  // [b][t]

struct GatedFactor {
  bool present = true;
  Batch x;
  Samples weight;  // conv1d order, last tap now; empty: q = x
  double bias = 0.0;
};

struct GatedConvCase {
  std::size_t length = 0;
  GatedFactor post;
  GatedFactor pre;
  GatedFactor v;
  Samples h;
  Samples reverse;  // empty: none
  double skip = 0.0;
  Batch dy;
  double fft = 0.0;  // units of ||h|| ||u||
};

struct Measured {
  Samples value;
  Samples units;  // |error| <= units * roundoff
};

struct GatedFactorGradient {
  std::vector<Measured> dx;
  Measured dweight;
  Measured dbias;
};

struct GatedConvResult {
  std::vector<Measured> y;
  GatedFactorGradient post;
  GatedFactorGradient pre;
  GatedFactorGradient v;
  Measured dh;
  Measured dreverse;
  Measured dskip;
};

inline Measured zeros(std::size_t n) {
  return {Samples(n), Samples(n)};
}

inline double norm(const Samples& x) {
  double sum = 0.0;
  for (const double value : x) {
    sum += value * value;
  }
  return std::sqrt(sum);
}

/// q and its magnitude |bias| + sum |weight| |x| of row b; ones where the factor is absent.
struct FactorValues {
  Samples value;
  Samples magnitude;
};
inline FactorValues factor_values(const GatedFactor& factor, std::size_t b, std::size_t length) {
  FactorValues q{Samples(length, 1.0), Samples(length, 1.0)};
  for (std::size_t t = 0; factor.present && t < length; ++t) {
    const std::size_t taps = factor.weight.size();
    q.value[t] = taps == 0 ? factor.x[b][t] : factor.bias;
    q.magnitude[t] = std::abs(q.value[t]);
    for (std::size_t r = 0; r < taps && r <= t; ++r) {  // r: lag
      const double term = factor.weight[taps - 1 - r] * factor.x[b][t - r];
      q.value[t] += term;
      q.magnitude[t] += std::abs(term);
    }
  }
  return q;
}

/// Gradients of one factor from dq: through the short convolution, or dq itself.
inline void add_factor_gradient(const GatedFactor& factor, std::size_t b, const Measured& dq,
                                GatedFactorGradient& gradient) {
  const std::size_t length = dq.value.size();
  const std::size_t taps = factor.weight.size();
  if (taps == 0) {
    gradient.dx.push_back(dq);
    return;
  }
  Measured dx = zeros(length);
  const double roundings = static_cast<double>(taps) + 1.0;
  for (std::size_t t = 0; t < length; ++t) {
    for (std::size_t r = 0; r < taps; ++r) {
      const std::size_t tap = taps - 1 - r;
      if (t + r < length) {
        const double weight = factor.weight[tap];
        dx.value[t] += weight * dq.value[t + r];
        dx.units[t] += std::abs(weight) * (dq.units[t + r] + roundings * std::abs(dq.value[t + r]));
      }
      if (r <= t) {
        const double x = factor.x[b][t - r];
        gradient.dweight.value[tap] += dq.value[t] * x;
        gradient.dweight.units[tap] += std::abs(x) * (dq.units[t] + 40.0 * std::abs(dq.value[t]));
      }
    }
    gradient.dbias.value[0] += dq.value[t];
    gradient.dbias.units[0] += dq.units[t] + 40.0 * std::abs(dq.value[t]);
  }
  gradient.dx.push_back(dx);
}

/// `a . b` with its error: `units` of a times |b|, plus `roundings` of b times |a|.
inline Measured product(const Samples& a, double units_of_a, const FactorValues& b,
                        double roundings) {
  Measured result = zeros(a.size());
  for (std::size_t t = 0; t < a.size(); ++t) {
    result.value[t] = a[t] * b.value[t];
    result.units[t] = b.magnitude[t] * (units_of_a + roundings * std::abs(a[t]));
  }
  return result;
}

inline GatedConvResult gated_conv(const GatedConvCase& problem) {
  const std::size_t L = problem.length;
  const std::size_t K = problem.h.size();
  GatedConvResult result;
  for (auto [factor, gradient] : {std::pair{&problem.post, &result.post},
                                  {&problem.pre, &result.pre},
                                  {&problem.v, &result.v}}) {
    gradient->dweight = zeros(factor->weight.size());
    gradient->dbias = zeros(1);
  }
  result.dh = zeros(K);
  result.dreverse = zeros(problem.reverse.size());
  result.dskip = zeros(1);

  Samples taps = problem.h;  // as one filter, for its norm
  if (!taps.empty()) {
    taps[0] += problem.skip;
  }
  const double h_norm = norm(taps) + norm(problem.reverse);
  const std::size_t most_taps =
      std::max({problem.post.weight.size(), problem.pre.weight.size(), problem.v.weight.size()});
  const double roundings = static_cast<double>(most_taps) + 3.0;  // of a factor and one product

  for (std::size_t b = 0; b < problem.v.x.size(); ++b) {
    const FactorValues post = factor_values(problem.post, b, L);
    const FactorValues pre = factor_values(problem.pre, b, L);
    const FactorValues v = factor_values(problem.v, b, L);
    Samples u(L);
    Samples u_magnitude(L);
    Samples g(L);
    Samples g_magnitude(L);
    for (std::size_t t = 0; t < L; ++t) {
      u[t] = pre.value[t] * v.value[t];
      u_magnitude[t] = pre.magnitude[t] * v.magnitude[t];
      g[t] = problem.dy[b][t] * post.value[t];
      g_magnitude[t] = std::abs(problem.dy[b][t]) * post.magnitude[t];
    }
    Samples c(L);
    Samples du(L);
    for (std::size_t t = 0; t < L; ++t) {
      c[t] = problem.skip * u[t];
      du[t] = problem.skip * g[t];
      for (std::size_t s = 0; s < K; ++s) {
        if (s <= t) {
          c[t] += problem.h[s] * u[t - s];
          result.dh.value[s] += g[t] * u[t - s];
        }
        if (t + s < L) {
          du[t] += problem.h[s] * g[t + s];
        }
      }
      for (std::size_t s = 0; s < problem.reverse.size(); ++s) {
        if (t + s < L) {
          c[t] += problem.reverse[s] * u[t + s];
          result.dreverse.value[s] += g[t] * u[t + s];
        }
        if (s <= t) {
          du[t] += problem.reverse[s] * g[t - s];
        }
      }
      result.dskip.value[0] += g[t] * u[t];
    }
    const double u_norm = norm(u_magnitude);
    const double g_norm = norm(g_magnitude);
    const double convolution_units = problem.fft + 2.0 * roundings;
    for (Measured* gradient : {&result.dh, &result.dreverse, &result.dskip}) {
      for (double& units : gradient->units) {
        units += convolution_units * u_norm * g_norm;
      }
    }
    const double c_units = convolution_units * h_norm * u_norm;
    const double du_units = convolution_units * h_norm * g_norm;
    result.y.push_back(product(c, c_units, post, roundings));
    if (problem.post.present) {
      const FactorValues dy{problem.dy[b], g_magnitude};
      Measured dq = zeros(L);
      for (std::size_t t = 0; t < L; ++t) {
        dq.value[t] = dy.value[t] * c[t];
        dq.units[t] = std::abs(dy.value[t]) * (c_units + std::abs(c[t]));
      }
      add_factor_gradient(problem.post, b, dq, result.post);
    }
    if (problem.pre.present) {
      add_factor_gradient(problem.pre, b, product(du, du_units, v, roundings), result.pre);
    }
    add_factor_gradient(problem.v, b, product(du, du_units, pre, roundings), result.v);
  }
  return result;
}

}  // namespace hyena::oracle
