#include "hyena/ops/implicit_filter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/ops/mixer_case.h"
#include "tests/oracle/implicit_filter_oracle.h"
#include "tests/support/gradcheck.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

struct Case {
  std::int64_t K = 9;
  std::int64_t E = 5;
  std::int64_t W = 4;
  std::int64_t layers = 4;  // linear ones
  std::int64_t M = 2;
  std::int64_t D = 3;
  bool window = true;
  double shift = 0.05;
  bool normalized = false;
  ChannelLayout layout = ChannelLayout::kSafari;
  at::ScalarType type = at::kFloat;

  [[nodiscard]] std::string text() const {
    return fmt::format("K {} E {} W {} layers {} M {} D {} window {} shift {} normalized {} {} {}",
                       K, E, W, layers, M, D, window, shift, normalized, to_string(layout),
                       c10::toString(type));
  }
};

struct Inputs {
  at::Tensor z_KE;
  std::vector<at::Tensor> weights;
  std::vector<at::Tensor> biases;
  at::Tensor freq_W;
  FilterWindow window;

  [[nodiscard]] std::vector<NamedInput> named() const {
    std::vector<NamedInput> all{{"z", z_KE}, {"freq", freq_W}};
    for (const at::Tensor& weight : weights)
      all.push_back({"weight", weight});
    for (const at::Tensor& bias : biases)
      all.push_back({"bias", bias});
    if (window.deltas_C.defined()) all.push_back({"deltas", window.deltas_C});
    return all;
  }
  [[nodiscard]] std::vector<at::Tensor> arguments() const {
    std::vector<at::Tensor> all;
    for (const NamedInput& input : named())
      all.push_back(input.tensor);
    return all;
  }
  /// The inverse of arguments().
  [[nodiscard]] Inputs with(const std::vector<at::Tensor>& x) const {
    Inputs other = *this;
    std::size_t i = 0;
    other.z_KE = x[i++];
    other.freq_W = x[i++];
    for (at::Tensor& weight : other.weights)
      weight = x[i++];
    for (at::Tensor& bias : other.biases)
      bias = x[i++];
    if (window.deltas_C.defined()) other.window.deltas_C = x[i];
    return other;
  }
};

Inputs inputs(const Case& c) {
  Inputs in{.z_KE = normal({c.K, c.E}, 1, c.type),
            .weights = {},
            .biases = {},
            .freq_W = normal({c.W}, 2, c.type) + 3.0,
            .window = {.shift = c.shift, .normalized = c.normalized}};
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const bool last = i + 1 == c.layers;
    const std::int64_t columns = i == 0 ? c.E : c.W;
    in.weights.push_back(
        normal({last ? c.M * c.D : c.W, columns}, 10 + static_cast<std::uint64_t>(i), c.type) *
        0.5);
    if (!last) {
      in.biases.push_back(normal({c.W}, 20 + static_cast<std::uint64_t>(i), c.type));
    }
  }
  if (c.window) {
    in.window.t_K = at::linspace(0, 1, c.K, c.type);
    // Both signs: the window takes the magnitude.
    in.window.deltas_C = normal({c.M * c.D}, 30, c.type) * 3.0;
  }
  return in;
}

using Filter = std::function<at::Tensor(const Case&, const Inputs&)>;

at::Tensor registered(const Case& c, const Inputs& in) {
  return implicit_filter(in.z_KE, in.weights, in.biases, in.freq_W, in.window, c.M, c.layout);
}

at::Tensor plain(const Case& c, const Inputs& in) {
  return composed::implicit_filter(in.z_KE, in.weights, in.biases, in.freq_W, in.window, c.M,
                                   c.layout);
}

/// In the memory order of h_MDK.
oracle::BoundedRow expectation(const Case& c, const Inputs& in) {
  const auto matrix = [](const at::Tensor& x) {
    const Rows rows(x);
    oracle::Matrix result;
    for (std::int64_t i = 0; i < x.size(0); ++i)
      result.push_back(rows[i]);
    return result;
  };
  oracle::ImplicitFilter filter;
  filter.z = matrix(in.z_KE);
  filter.freq = values(in.freq_W);
  for (const at::Tensor& weight : in.weights)
    filter.weights.push_back(matrix(weight));
  for (const at::Tensor& bias : in.biases)
    filter.biases.push_back(values(bias));
  if (c.window) {
    filter.t = values(in.window.t_K);
    filter.deltas = values(in.window.deltas_C);
  }
  filter.shift = c.shift;
  filter.normalized = c.normalized;
  std::vector<oracle::BoundedRow> at_sample;
  at_sample.reserve(static_cast<std::size_t>(c.K));
  for (std::int64_t n = 0; n < c.K; ++n) {
    at_sample.push_back(
        oracle::implicit_filter(filter, static_cast<std::size_t>(n), arithmetic_of(c.type)));
  }
  oracle::BoundedRow h;
  for (std::int64_t o = 0; o < c.M; ++o) {
    for (std::int64_t d = 0; d < c.D; ++d) {
      const std::int64_t channel = c.layout == ChannelLayout::kSafari ? d * c.M + o : o * c.D + d;
      for (const oracle::BoundedRow& sample : at_sample) {
        h.push_back(sample[static_cast<std::size_t>(channel)]);
      }
    }
  }
  return h;
}

/// Every combination of the switches, with odd sizes.
std::vector<Case> cases() {
  std::vector<Case> all;
  std::int64_t turn = 0;
  for (const bool window : {true, false}) {
    for (const bool normalized : {false, true}) {
      for (const ChannelLayout layout : {ChannelLayout::kSafari, ChannelLayout::kStandalone}) {
        for (const std::int64_t M : {1, 2, 3}) {
          constexpr std::array<std::int64_t, 5> kLengths{1, 2, 7, 17, 33};
          all.push_back({.K = kLengths.at(static_cast<std::size_t>(turn % 5)),
                         .E = 3 + 2 * (turn % 3),
                         .W = 3 + turn % 4,
                         .layers = 2 + turn % 3,
                         .M = M,
                         .D = 2 + turn % 3,
                         .window = window,
                         .shift = turn % 2 == 0 ? 0.0 : 0.05,
                         .normalized = normalized,
                         .layout = layout});
          ++turn;
        }
      }
    }
  }
  return all;
}

TEST(ImplicitFilter, AgreesWithTheOracle) {
  for (Case c : cases()) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      c.type = type;
      SCOPED_TRACE(c.text());
      const Inputs in = inputs(c);
      const oracle::BoundedRow h = expectation(c, in);
      const at::Tensor actual = registered(c, in);
      EXPECT_EQ(actual.sizes(), at::IntArrayRef({c.M, c.D, c.K}));
      EXPECT_TRUE(actual.is_contiguous());
      EXPECT_TRUE(within_running_error(h, actual));
      EXPECT_TRUE(within_running_error(h, plain(c, in)));
    }
  }
}

TEST(ImplicitFilter, GradientsAreSlopes) {
  for (Case c : cases()) {
    c.type = at::kDouble;
    c.K = std::min<std::int64_t>(c.K, 7);
    SCOPED_TRACE(c.text());
    const Inputs in = inputs(c);
    EXPECT_TRUE(gradcheck(
        [&](const std::vector<at::Tensor>& x) { return registered(c, in.with(x)); }, in.named()));
  }
}

/// The explicit backward against autograd through the definition. In float64 both are the same
/// sums: rounding of at most a few thousand operations, 1e-12.
TEST(ImplicitFilter, ExplicitBackwardIsAutogradOfTheDefinition) {
  for (Case c : cases()) {
    c.type = at::kDouble;
    SCOPED_TRACE(c.text());
    const Inputs in = inputs(c);
    const at::Tensor dh = normal({c.M, c.D, c.K}, 40);
    for (const at::Tensor& x : in.arguments())
      x.requires_grad_(true);
    const auto explicitly = torch::autograd::grad({registered(c, in)}, in.arguments(), {dh});
    const auto automatic = torch::autograd::grad({plain(c, in)}, in.arguments(), {dh});
    for (std::size_t i = 0; i < explicitly.size(); ++i) {
      EXPECT_LT(relative_error(explicitly[i], automatic[i]), 1e-12) << in.named()[i].name;
    }
  }
}

/// Lengths around one block of the CPU path and more than one group of blocks (256 steps, 64
/// groups), channels that fill no vector.
std::vector<Case> long_cases() {
  std::vector<Case> all;
  for (const std::int64_t K : {1, 15, 255, 256, 257, 1027}) {
    for (const ChannelLayout layout : {ChannelLayout::kSafari, ChannelLayout::kStandalone}) {
      for (const std::int64_t M : {1, 2}) {
        all.push_back({.K = K, .M = M, .D = 7, .window = K != 255, .layout = layout});
      }
    }
  }
  all.push_back({.K = 64 * 256 + 300, .W = 3, .layers = 2, .M = 1, .D = 5});
  return all;
}

/// How much the layers magnify an error, at most: freq times the norm of each, in the maximum norm
/// forwards and backwards alike.
double magnification(const Inputs& in) {
  const auto freq = in.freq_W.abs().max().item<double>();
  double product = 1.0;
  for (const at::Tensor& weight : in.weights) {
    const at::Tensor size = weight.abs().to(at::kDouble);
    const auto rows = size.sum(1).max().item<double>();
    const double columns = size.sum(0).max().item<double>();
    product *= 1.0 + freq * std::max(rows, columns);
  }
  return product;
}

Inputs in_float64(const Inputs& in) {
  std::vector<at::Tensor> wide;
  for (const at::Tensor& x : in.arguments())
    wide.push_back(x.detach().to(at::kDouble));
  Inputs other = in.with(wide);
  if (in.window.t_K.defined()) other.window.t_K = in.window.t_K.to(at::kDouble);
  return other;
}

/// Every rounding, magnified at most as the layers can: in a sum of n terms there are n, and sums
/// over time are of K terms in 16 lanes, blocks of 256 and groups, so of at most K / 16 + 80 in a
/// row. Relative to the largest entry of a gradient.
TEST(ImplicitFilter, LongFiltersAndGradientsInFloat32MatchTheDefinitionInFloat64) {
  for (const Case& c : long_cases()) {
    SCOPED_TRACE(c.text());
    Inputs in = inputs(c);
    in.freq_W = in.freq_W / 4.0;
    const at::Tensor dh = normal({c.M, c.D, c.K}, 40, at::kFloat);
    const Inputs wide = in_float64(in);
    for (const at::Tensor& x : in.arguments())
      x.requires_grad_(true);
    for (const at::Tensor& x : wide.arguments())
      x.requires_grad_(true);
    const at::Tensor h = registered(c, in);
    const at::Tensor expected = plain(c, wide);
    const auto roundings = static_cast<double>(c.E + c.layers * c.W + c.M * c.D);
    const double bound = 0x1p-24 * roundings * magnification(in);
    EXPECT_LT(relative_error(h, expected), bound);
    const auto actual = torch::autograd::grad({h}, in.arguments(), {dh});
    const auto gradients =
        torch::autograd::grad({expected}, wide.arguments(), {dh.to(at::kDouble)});
    const double sums = static_cast<double>(c.K) / 16.0 + 80.0;
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_LT(relative_error(actual[i], gradients[i]), bound + 0x1p-24 * sums)
          << in.named()[i].name;
    }
  }
}

TEST(ImplicitFilter, TheNumberOfThreadsDoesNotChangeABit) {
  const int before = at::get_num_threads();
  const Case c{.K = 70 * 256 + 9, .W = 8, .layers = 3, .M = 2, .D = 9};
  const Inputs in = inputs(c);
  const at::Tensor dh = normal({c.M, c.D, c.K}, 40, at::kFloat);
  for (const at::Tensor& x : in.arguments())
    x.requires_grad_(true);
  std::vector<std::vector<at::Tensor>> results;
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    const at::Tensor h = registered(c, in);
    results.push_back(torch::autograd::grad({h}, in.arguments(), {dh}));
    results.back().push_back(h.detach());
  }
  at::set_num_threads(before);
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    EXPECT_TRUE(at::equal(results[0][i], results[1][i])) << i;
    EXPECT_TRUE(at::equal(results[0][i], results[2][i])) << i;
  }
}

/// Blocks and composition round in different places, so equal bits tell which of them ran.
TEST(CpuPath, TheEnvironmentAsksForTheComposedFilter) {
  const char* path = std::getenv("HYENA_CPU_PATH");  // NOLINT(concurrency-mt-unsafe): no setenv
  const bool generic = path != nullptr && std::string_view(path) == "generic";
  const Case c{.K = 300, .D = 40};
  const Inputs in = inputs(c);
  EXPECT_EQ(at::equal(registered(c, in), plain(c, in)), generic);
  const at::Tensor dh = normal({c.M, c.D, c.K}, 40, at::kFloat);
  const auto composed = composed::implicit_filter_backward(dh, in.z_KE, in.weights, in.biases,
                                                           in.freq_W, in.window, c.M, c.layout);
  for (const at::Tensor& x : in.arguments())
    x.requires_grad_(true);
  const auto gradients = torch::autograd::grad({registered(c, in)}, in.arguments(), {dh});
  EXPECT_EQ(at::equal(gradients[0], composed.z_KE), generic);
  EXPECT_EQ(at::equal(gradients[1], composed.freq_W), generic);
}

TEST(ImplicitFilter, APrefixOfTheFeaturesIsAPrefixOfTheFilter) {
  const Case c{.K = 33};
  Inputs in = inputs(c);
  const at::Tensor whole = registered(c, in);
  in.z_KE = in.z_KE.narrow(0, 0, 20);
  in.window.t_K = in.window.t_K.narrow(0, 0, 20);
  // Another size may take another matrix product, so: rounding, not bits.
  EXPECT_LT(relative_error(registered(c, in), whole.narrow(2, 0, 20)), 1e-6);
}

TEST(ImplicitFilter, TakesTransposedAndSpacedInputs) {
  const Case c{.K = 17};
  Inputs in = inputs(c);
  const oracle::BoundedRow h = expectation(c, in);
  in.z_KE = in.z_KE.t().contiguous().t();
  for (at::Tensor& weight : in.weights)
    weight = with_gaps(weight);
  in.freq_W = with_gaps(in.freq_W);
  in.window.t_K = with_gaps(in.window.t_K);
  in.window.deltas_C = with_gaps(in.window.deltas_C);
  EXPECT_TRUE(within_running_error(h, registered(c, in)));
}

TEST(ImplicitFilter, SplitChannelsNamesTheChannelsOfBothLayouts) {
  const at::Tensor c = at::arange(6, at::kDouble);
  EXPECT_EQ(values(split_channels(c, 2, ChannelLayout::kSafari)),
            (std::vector<double>{0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(values(split_channels(c, 2, ChannelLayout::kStandalone)),
            (std::vector<double>{0, 1, 2, 3, 4, 5}));
}

}  // namespace
}  // namespace hyena::ops
