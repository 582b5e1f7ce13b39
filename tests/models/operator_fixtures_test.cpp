// The Hyena operator and the long convolution against the published code.
#include <filesystem>
#include <map>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/nn/filters/hyena_filter.h"
#include "hyena/nn/operators/hyena_operator.h"
#include "hyena/ops/long_conv.h"
#include "tests/models/reference_comparison.h"
#include "tests/support/fixtures.h"

namespace hyena::nn {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

ops::ChannelLayout layout_of(const std::string& spelled) {
  if (spelled == "v*(N-1)+o") return ops::ChannelLayout::kSafari;
  EXPECT_EQ(spelled, "o*D+v") << "unknown channel layout";
  return ops::ChannelLayout::kStandalone;
}

/// Everything from the entry's config; what the config does not say, from shapes of its state.
HyenaOperatorOptions options_of(const Fixture& fixture) {
  const io::Json& config = fixture.config();
  HyenaOperatorOptions options;
  options.d_model = config.at("d_model");
  options.order = config.at("order");
  options.l_max = config.at("l_max");
  options.short_filter_order = fixture.tensor("state.short_filter.weight").size(2);
  options.filter.emb_dim = config.at("emb_dim");
  options.filter.filter_order = config.at("filter_order");
  options.filter.w = config.at("w");
  options.filter.shift = config.at("shift");
  options.filter.modulate = config.at("modulate");
  options.filter.layout = layout_of(config.at("channel_layout"));
  options.filter.train_features = fixture.has("grad.filter_fn.pos_emb.z");
  options.filter.train_decay = fixture.has("grad.filter_fn.modulation.deltas");
  std::int64_t linears = 0;
  while (fixture.has(fmt::format("state.filter_fn.implicit_filter.{}.weight", 2 * linears))) {
    ++linears;
  }
  options.filter.num_inner_mlps = linears - 2;
  return options;
}

/// Copies the state of the fixture into the module; every tensor on either side must find its
/// partner, and the sine frequencies must be one tensor under all their names.
void load(HyenaOperator& op, const Fixture& fixture) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> ours;
  for (const auto& item : op->named_parameters())
    ours.emplace(item.key(), item.value());
  for (const auto& item : op->named_buffers())
    ours.emplace(item.key(), item.value());
  std::size_t loaded = 0;
  for (const auto& [name, value] : fixture.with_prefix("state.")) {
    if (name.ends_with(".freq") && !ours.contains(name)) {
      EXPECT_TRUE(at::equal(value, fixture.tensor("state.filter_fn.implicit_filter.1.freq")));
      continue;
    }
    ASSERT_TRUE(ours.contains(name)) << fixture.entry() << ": the operator has no " << name;
    ASSERT_EQ(ours.at(name).sizes(), value.sizes()) << fixture.entry() << ": " << name;
    ours.at(name).copy_(value);
    ++loaded;
    ++fixture_counts().states;
  }
  EXPECT_EQ(loaded, ours.size()) << fixture.entry() << ": some of our tensors got no value";
}

struct Evaluation {
  Tensors outputs;
  Tensors gradients;
};

/// The filters as the published module returns them: (L, C), channels in the entry's layout.
at::Tensor published_filter(HyenaOperator& op, std::int64_t L) {
  const at::Tensor h_MDK = op->filters(L);
  const at::Tensor ordered = op->options().filter.layout == ops::ChannelLayout::kSafari
                                 ? h_MDK.permute({2, 1, 0})
                                 : h_MDK.permute({2, 0, 1});
  return ordered.reshape({L, -1});
}

Evaluation evaluate(const Fixture& fixture, at::ScalarType type) {
  HyenaOperator op(options_of(fixture));
  load(op, fixture);
  op->to(type);
  op->eval();
  const at::Tensor x = fixture.tensor("x").to(type).requires_grad_(true);
  const at::Tensor y = op(x);
  (0.5 * y.square().sum()).backward();
  Evaluation result;
  result.outputs = {{"y", y}, {"filter_LC", published_filter(op, x.size(1))}};
  result.gradients.emplace("x", x.grad());
  for (const auto& item : op->named_parameters()) {
    EXPECT_TRUE(item.value().grad().defined()) << item.key() << " has no gradient";
    result.gradients.emplace(item.key(), item.value().grad());
  }
  return result;
}

TEST(OperatorFixtures, OutputsFiltersAndEveryGradient) {
  const auto folder = fixtures_folder();
  if (!folder) {
    GTEST_SKIP() << "no HYENA_FIXTURES and no ../shared/fixtures: 0 entries compared";
  }
  for (const Fixture& fixture : fixtures(*folder, FixtureKind::kOperator)) {
    SCOPED_TRACE(fixture.entry());
    ASSERT_EQ(fixture.config().at("loss"), "0.5*sum(y^2)");
    const Evaluation in_float64 = evaluate(fixture, at::kDouble);
    const Evaluation in_float32 = evaluate(fixture, at::kFloat);
    const Tensors outputs{{"y", fixture.tensor("y")}, {"filter_LC", fixture.tensor("filter_LC")}};
    const Tensors gradients = fixture.with_prefix("grad.");
    compare_with_reference(fixture.entry(), "outputs", outputs, in_float64.outputs,
                           in_float32.outputs, 1e-5);
    compare_with_reference(fixture.entry(), "gradients", gradients, in_float64.gradients,
                           in_float32.gradients, 1e-4);
    ++fixture_counts().entries;
    fixture_counts().outputs += static_cast<int>(outputs.size());
    fixture_counts().gradients += static_cast<int>(gradients.size());
  }
}

/// Two forms of one operator: the same numbers mean different filters from order 3 on.
TEST(OperatorFixtures, TheOtherChannelLayoutIsSeen) {
  const auto folder = fixtures_folder();
  if (!folder) {
    GTEST_SKIP() << "no HYENA_FIXTURES and no ../shared/fixtures: 0 entries compared";
  }
  for (const Fixture& fixture : fixtures(*folder, FixtureKind::kOperator)) {
    SCOPED_TRACE(fixture.entry());
    HyenaOperatorOptions options = options_of(fixture);
    options.filter.layout = options.filter.layout == ops::ChannelLayout::kSafari
                                ? ops::ChannelLayout::kStandalone
                                : ops::ChannelLayout::kSafari;
    HyenaOperator op(options);
    load(op, fixture);
    const torch::NoGradGuard no_grad;
    const double error = relative_error(op(fixture.tensor("x")), fixture.tensor("y"));
    if (options.order == 2) {
      EXPECT_LT(error, 1e-3);
    } else {
      EXPECT_GT(error, 1e-2);
    }
  }
}

TEST(FftconvFixtures, CausalReverseAndGelu) {
  const auto folder = fixtures_folder();
  if (!folder) {
    GTEST_SKIP() << "no HYENA_FIXTURES and no ../shared/fixtures: 0 entries compared";
  }
  for (const Fixture& fixture : fixtures(*folder, FixtureKind::kFftconv)) {
    for (const auto algorithm : {ops::LongConvAlgorithm::kAuto, ops::LongConvAlgorithm::kDirect,
                                 ops::LongConvAlgorithm::kFft}) {
      const auto outputs = [&](at::ScalarType type) {
        const auto tensor = [&](const char* name) { return fixture.tensor(name).to(type); };
        const at::Tensor y =
            ops::long_conv(tensor("u"), tensor("k"), tensor("D"), std::nullopt, algorithm);
        const at::Tensor both =
            ops::long_conv(tensor("u"), tensor("k"), tensor("D"), tensor("k_rev"), algorithm);
        return Tensors{{"y", y}, {"y_krev", both}, {"y_gelu", at::gelu(y)}};
      };
      const Tensors reference{{"y", fixture.tensor("y")},
                              {"y_krev", fixture.tensor("y_krev")},
                              {"y_gelu", fixture.tensor("y_gelu")}};
      compare_with_reference(fixture.entry(), "outputs", reference, outputs(at::kDouble),
                             outputs(at::kFloat), 1e-5);
      fixture_counts().outputs += static_cast<int>(reference.size());
    }
    ++fixture_counts().entries;
  }
}

}  // namespace
}  // namespace hyena::nn
