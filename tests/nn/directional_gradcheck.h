// Gradients of a module against central differences, one random direction per tensor.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace hyena::testing_support {

/// For every tensor x of `tensors` (float64 leaves) and a random unit direction d:
///     | <grad f, d> - (f(x + eps d) - f(x - eps d)) / 2 eps |  <=  1e-6 (|<grad f, d>| + |f|)
/// with f the sum of `forward()` weighted by fixed random numbers of order one. The truncation,
/// eps^2 f'''/6, and the rounding, 2^-52 |f| / eps, are near 1e-10 at eps = 1e-5 for functions
/// whose derivatives are of order one; a forgotten factor is of order one.
inline void expect_gradients(const std::function<at::Tensor()>& forward,
                             const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  constexpr double kStep = 1e-5;
  at::Tensor weight;
  const auto value = [&] {
    const at::Tensor y = forward();
    if (!weight.defined()) {
      weight = at::randn_like(y.detach());
    }
    return (y * weight).sum();
  };
  std::vector<at::Tensor> leaves;
  for (const auto& entry : tensors) {
    ASSERT_EQ(entry.second.scalar_type(), at::kDouble) << entry.first;
    leaves.push_back(entry.second);
  }
  const at::Tensor f = value();
  const auto gradients = torch::autograd::grad({f}, leaves, {}, std::nullopt, false, true);
  const torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    ASSERT_TRUE(gradients[i].defined()) << tensors[i].first << " is not part of the graph";
    at::Tensor direction = at::randn_like(leaves[i]);
    direction /= direction.norm();
    leaves[i].add_(direction, kStep);
    const auto above = value().item<double>();
    leaves[i].sub_(direction, 2 * kStep);
    const auto below = value().item<double>();
    leaves[i].add_(direction, kStep);
    const double numeric = (above - below) / (2 * kStep);
    const auto analytic = (gradients[i] * direction).sum().item<double>();
    EXPECT_NEAR(analytic, numeric, 1e-6 * (std::abs(numeric) + std::abs(f.item<double>())))
        << tensors[i].first;
  }
}

/// Every parameter of `module` (made float64 here) and the inputs given.
inline void expect_module_gradients(torch::nn::Module& module,
                                    const std::function<at::Tensor()>& forward,
                                    std::vector<std::pair<std::string, at::Tensor>> inputs = {}) {
  module.to(at::kDouble);
  for (const auto& entry : module.named_parameters()) {
    inputs.emplace_back(entry.key(), entry.value());
  }
  expect_gradients(forward, inputs);
}

}  // namespace hyena::testing_support
