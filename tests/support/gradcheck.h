// Gradients against central differences in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/support/tensors.h"

namespace hyena::testing_support {

using Function = std::function<at::Tensor(const std::vector<at::Tensor>&)>;

struct NamedInput {
  std::string name;
  at::Tensor tensor;  ///< float64
};

/// Compares autograd's gradients of <w, f(inputs)>, w random, with central differences, for every
/// element of every input.
///
/// The bound needs no knowledge of f: with steps e and e/2 the truncation error of the finer
/// difference is a third of the distance between the two (its leading term falls by 4), so the
/// whole distance covers it; rounding adds at most eps * |terms of the loss| / step, times the
/// number of operations on the way to a term, taken as `depth`. Where the bound exceeds 1e-4 of
/// the largest gradient (or, for gradients that vanish, 1e-6 of the terms of the loss) the
/// differences prove nothing, and that fails as well.
inline testing::AssertionResult gradcheck(const Function& f, const std::vector<NamedInput>& inputs,
                                          double depth = 256.0) {
  std::vector<at::Tensor> leaves;
  leaves.reserve(inputs.size());
  for (const NamedInput& input : inputs) {
    leaves.push_back(input.tensor.detach().clone().requires_grad_(true));
  }
  const at::Tensor y = f(leaves);
  const at::Tensor w = normal(y.sizes(), 4711);
  const auto gradients = torch::autograd::grad({(y * w).sum()}, leaves, {}, {}, false,
                                               /*allow_unused=*/true);
  const torch::NoGradGuard no_grad;
  std::vector<at::Tensor> point;
  point.reserve(leaves.size());
  for (const at::Tensor& leaf : leaves) {
    point.push_back(leaf.detach().clone());
  }
  const auto loss = [&] { return (f(point) * w).sum().item<double>(); };
  const auto terms = (y * w).abs().sum().item<double>();
  constexpr double kStep = 1e-4;
  for (std::size_t i = 0; i < point.size(); ++i) {
    if (!gradients[i].defined()) {
      return testing::AssertionFailure() << inputs[i].name << ": no gradient";
    }
    if (!gradients[i].sizes().equals(point[i].sizes())) {
      return testing::AssertionFailure() << inputs[i].name << ": gradient of another shape";
    }
    std::vector<double> expected;
    std::vector<double> bound;
    auto* x = point[i].mutable_data_ptr<double>();
    double largest = 0.0;
    double loosest = 0.0;
    for (std::int64_t n = 0; n < point[i].numel(); ++n) {
      const double kept = x[n];
      const auto difference = [&](double step) {
        x[n] = kept + step;
        const double above = loss();
        x[n] = kept - step;
        const double below = loss();
        x[n] = kept;
        return (above - below) / (2.0 * step);
      };
      const double coarse = difference(kStep);
      const double fine = difference(kStep / 2.0);
      expected.push_back(fine);
      bound.push_back(std::abs(coarse - fine) + depth * 0x1p-53 * terms / kStep);
      largest = std::max(largest, std::abs(fine));
      loosest = std::max(loosest, bound.back());
    }
    if (loosest > 1e-4 * std::max(largest, 1e-2 * terms)) {
      return testing::AssertionFailure()
             << inputs[i].name << ": the differences prove nothing: gradients up to " << largest
             << ", bounds up to " << loosest;
    }
    const auto result = within_bound(expected, values(gradients[i]), bound);
    if (!result) {
      return testing::AssertionFailure() << inputs[i].name << ": " << result.message();
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace hyena::testing_support
