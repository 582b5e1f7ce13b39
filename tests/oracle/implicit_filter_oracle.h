// The oracle of the implicit filter: positional features -> sine MLP -> window, in float64 with
// running error bounds, one number at a time.
#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

#include "tests/oracle/running_error.h"

namespace hyena::oracle {

using Matrix = std::vector<std::vector<double>>;

/// Row n of the features of l_max = L samples and E = 2K+1 columns:
///   [ n/(L-1) | cos(f_k w_n) | -sin(f_k w_n) ],  w_n = 2 pi n/L,  f = linspace(1e-4, K-1, K)
inline std::vector<double> positional_features(std::size_t n, std::size_t L, std::size_t E) {
  const std::size_t K = (E - 1) / 2;
  const auto real = [](std::size_t x) { return static_cast<double>(x); };
  std::vector<double> row(E);
  row[0] = L == 1 ? 0.0 : real(n) / (real(L) - 1.0);
  const double w = 2.0 * std::numbers::pi * real(n) / real(L);
  for (std::size_t k = 0; k < K; ++k) {
    const double f = K == 1 ? 1e-4 : 1e-4 + real(k) * (real(K) - 1.0 - 1e-4) / (real(K) - 1.0);
    row[1 + k] = std::cos(f * w);
    row[1 + K + k] = -std::sin(f * w);
  }
  return row;
}

struct ImplicitFilter {
  Matrix z;                                 ///< K rows of E
  std::vector<Matrix> weights;              ///< (out, in), the last without a bias
  std::vector<std::vector<double>> biases;  ///< one less
  std::vector<double> freq;
  std::vector<double> t;       ///< K; empty: no window
  std::vector<double> deltas;  ///< C; empty: no window
  double shift = 0.0;
  bool normalized = false;
};

/// The C channels at sample n, in the order of the last layer's rows.
inline BoundedRow implicit_filter(const ImplicitFilter& filter, std::size_t n,
                                  const Arithmetic& arithmetic) {
  // A library sine or exponential: within two units of the result (tests of vector libraries say
  // one unit in the last place, which is two unit roundoffs).
  const double function = 2.0 * arithmetic.unit;
  BoundedRow a = exact(filter.z[n]);
  for (std::size_t layer = 0; layer < filter.weights.size(); ++layer) {
    const bool last = layer + 1 == filter.weights.size();
    BoundedRow next;
    for (std::size_t i = 0; i < filter.weights[layer].size(); ++i) {
      Sum sum;
      for (std::size_t j = 0; j < a.size(); ++j) {
        sum.add(Bounded{filter.weights[layer][i][j], 0.0} * a[j]);
      }
      if (last) {
        next.push_back(sum.result(arithmetic));
        continue;
      }
      sum.add({filter.biases[layer][i], 0.0});
      const Bounded phase =
          stored(Bounded{filter.freq[i], 0.0} * sum.result(arithmetic), arithmetic);
      // |sin(x+e) - sin(x)| <= e
      next.push_back({std::sin(phase.value), phase.error + function});
    }
    a = next;
  }
  if (!filter.deltas.empty()) {
    for (std::size_t c = 0; c < a.size(); ++c) {
      const double exponent = -filter.t[n] * std::abs(filter.deltas[c]);
      const double decay = std::exp(exponent);
      const Bounded window{decay + filter.shift,
                           decay * (std::abs(exponent) * arithmetic.unit * 1.01 + function) +
                               arithmetic.unit * (decay + std::abs(filter.shift)) * 1.01};
      a[c] = stored(a[c] * window, arithmetic);
    }
  }
  if (filter.normalized) {
    Sum sum;
    for (const Bounded& x : a) {
      sum.add({std::abs(x.value), x.error});
    }
    const Bounded total = sum.result(arithmetic);
    for (Bounded& x : a) {
      const double quotient = x.value / total.value;
      const double error =
          (x.error + std::abs(quotient) * total.error) / (total.value - total.error);
      x = stored({quotient, error}, arithmetic);
    }
  }
  return a;
}

}  // namespace hyena::oracle
