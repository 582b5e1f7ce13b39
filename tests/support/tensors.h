// Tensors of tests: seeded numbers in, float64 vectors out, comparison against per-element bounds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/oracle/running_error.h"
#include "tests/support/within_bound.h"

namespace hyena::testing_support {

/// Normal numbers, the same for the same seed on every machine; rounded to `type`.
inline at::Tensor normal(at::IntArrayRef sizes, std::uint64_t seed,
                         at::ScalarType type = at::kDouble) {
  auto generator = at::detail::createCPUGenerator(seed);
  return at::randn(sizes, generator, at::kDouble).to(type);
}

/// Row-major values; exact for every floating dtype.
inline std::vector<double> values(const at::Tensor& x) {
  const at::Tensor flat = x.detach().to(at::kCPU, at::kDouble).contiguous();
  const auto* data = flat.const_data_ptr<double>();
  return {data, data + flat.numel()};
}

/// `x_BCL` as a transposed view of contiguous (B, L, C).
inline at::Tensor channels_last(const at::Tensor& x_BCL) {
  return x_BCL.transpose(1, 2).contiguous().transpose(1, 2);
}

/// `x_BCL` with rows that are padded as ops::padded_row says.
inline at::Tensor padded_rows(const at::Tensor& x_BCL) {
  const std::int64_t L = x_BCL.size(2);
  const at::Tensor rows =
      at::full({x_BCL.size(0), x_BCL.size(1), L % 8 == 0 ? L : (L + 15) / 16 * 16}, std::nan(""),
               x_BCL.options());
  return rows.narrow(2, 0, L).copy_(x_BCL);
}

/// The same values with gaps between all of them.
inline at::Tensor with_gaps(const at::Tensor& x) {
  std::vector<std::int64_t> sizes = x.sizes().vec();
  sizes.push_back(3);
  at::Tensor wide = at::full(sizes, std::nan(""), x.options());
  wide.select(-1, 1).copy_(x);
  return wide.select(-1, 1);
}

/// What the arithmetic of `type` may lose; parameters and sums are at least float32.
///
/// For float64 the oracle itself rounds as much as the implementation, hence the factor 2.
inline oracle::Arithmetic arithmetic_of(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return {.unit = 0x1p-52, .store = 0x1p-52};
    case at::kBFloat16:
      return {.unit = 0x1p-24, .store = 0x1p-8};
    case at::kHalf:
      return {.unit = 0x1p-24, .store = 0x1p-11};
    default:
      return {.unit = 0x1p-24, .store = 0x1p-24};
  }
}

/// Every element within its own bound. A bound as large as half of the largest value would
/// accept nonsense, so it fails too.
inline testing::AssertionResult within_running_error(const oracle::BoundedRow& expected,
                                                     const at::Tensor& actual) {
  std::vector<double> value;
  std::vector<double> error;
  double largest = 0.0;
  double loosest = 0.0;
  for (const oracle::Bounded& x : expected) {
    value.push_back(x.value);
    error.push_back(x.error);
    largest = std::max(largest, std::abs(x.value));
    loosest = std::max(loosest, x.error);
  }
  if (loosest > 0.5 * largest) {
    return testing::AssertionFailure()
           << "the bound says nothing: values up to " << largest << ", bounds up to " << loosest;
  }
  return within_bound(value, values(actual), error);
}

/// max |a - b| / max |b|: the distance of two evaluations of one tensor.
inline double relative_error(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wide = b.detach().to(at::kDouble);
  const auto scale = wide.abs().max().item<double>();
  const auto distance = (a.detach().to(at::kDouble) - wide).abs().max().item<double>();
  return scale > 0.0 ? distance / scale : distance;
}

/// The message of the c10::ValueError that `action` throws, without the place in the source.
template <typename Action>
std::string value_error_of(const Action& action) {
  try {
    action();
  } catch (const c10::ValueError& error) {
    const std::string message = error.what_without_backtrace();
    return message.substr(0, message.find('\n'));
  }
  return "nothing was thrown";
}

}  // namespace hyena::testing_support
