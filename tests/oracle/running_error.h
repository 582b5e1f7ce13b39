// Numbers that carry a bound on the rounding error of the implementation under test.
//
// Written for the oracles: they evaluate a formula in float64 and, beside every value, what an
// implementation in a smaller format may have lost on the way to it. The bound of a test then
// follows from the formula instead of from what happened to pass.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace hyena::oracle {

/// The arithmetic of the implementation: unit roundoffs (half the distance from 1 to the next).
struct Arithmetic {
  double unit;   ///< of one operation: 2^-24 for float32
  double store;  ///< of a stored tensor: `unit`, or 2^-8 for bfloat16 and 2^-11 for float16
};

/// |implementation - value| <= error.
struct Bounded {
  double value = 0.0;
  double error = 0.0;

  [[nodiscard]] double magnitude() const { return std::abs(value) + error; }
};
using BoundedRow = std::vector<Bounded>;

inline BoundedRow exact(const std::vector<double>& values) {
  BoundedRow row;
  for (const double value : values) {
    row.push_back({value, 0.0});
  }
  return row;
}

/// The product before it is rounded.
inline Bounded operator*(const Bounded& a, const Bounded& b) {
  return {a.value * b.value,
          std::abs(a.value) * b.error + std::abs(b.value) * a.error + a.error * b.error};
}

inline Bounded stored(const Bounded& x, const Arithmetic& arithmetic) {
  return {x.value, x.error + arithmetic.store * x.magnitude()};
}

/// A product of two tensors, stored as a tensor.
inline BoundedRow gated(const BoundedRow& a, const BoundedRow& b, const Arithmetic& arithmetic) {
  BoundedRow y(a.size());
  for (std::size_t t = 0; t < a.size(); ++t) {
    y[t] = stored(a[t] * b[t], arithmetic);
  }
  return y;
}

/// A sum of products in whatever order. With n terms every product meets at most n roundings, its
/// own and n-1 additions; the extra one pays for the second order, and for storing in `unit`.
class Sum {
 public:
  void add(const Bounded& term) {
    value_ += term.value;
    error_ += term.error;
    magnitude_ += term.magnitude();
    ++terms_;
  }
  [[nodiscard]] double value() const { return value_; }
  [[nodiscard]] double error_of_terms() const { return error_; }
  [[nodiscard]] Bounded result(const Arithmetic& arithmetic) const {
    return {value_, error_ + (terms_ + 1.0) * arithmetic.unit * magnitude_};
  }

 private:
  double value_ = 0.0;
  double error_ = 0.0;
  double magnitude_ = 0.0;
  double terms_ = 0.0;
};

/// The Euclidean norm of what the implementation may hold.
inline double norm(const BoundedRow& row) {
  double sum = 0.0;
  for (const Bounded& x : row) {
    sum += x.magnitude() * x.magnitude();
  }
  return std::sqrt(sum);
}

}  // namespace hyena::oracle
