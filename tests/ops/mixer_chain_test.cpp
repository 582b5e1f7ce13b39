// The chain over the composition of order 2, where the whole mixer's oracle can judge it; the CUDA
// kernel takes the composition's place in cuda_path_test.cpp.
#include "hyena/ops/mixer_chain.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/ops/long_conv.h"
#include "hyena/ops/short_conv.h"
#include "tests/ops/mixer_case.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

at::Tensor stage(const at::Tensor& p, const at::Tensor& weight, const at::Tensor& bias,
                 const chain::Filter& filter) {
  if (!filter.reverse_MDK) {
    return composed::hyena_mixer(p, weight, bias, filter.h_MDK, filter.skip_MD);
  }
  const auto q = composed::short_conv(p, weight, bias).chunk(3, 1);
  const auto skip = filter.skip_MD ? std::optional(filter.skip_MD->squeeze(0)) : std::nullopt;
  return q[0] * composed::long_conv(q[1] * q[2], filter.h_MDK.squeeze(0), skip,
                                    filter.reverse_MDK->squeeze(0));
}

chain::OrderTwo composition() {
  return {.empty =
              [](const at::Tensor& like_BCL, std::int64_t channels) {
                // What a kernel leaves alone must not matter: 0 times NaN would show.
                return at::full({like_BCL.size(0), channels, like_BCL.size(2)}, NAN,
                                like_BCL.options());
              },
          .forward = [](const at::Tensor& p, const at::Tensor& weight, const at::Tensor& bias,
                        const chain::Filter& filter,
                        std::int64_t /*o*/) { return stage(p, weight, bias, filter); },
          .backward =
              [](const at::Tensor& dy, const at::Tensor& p, const at::Tensor& weight,
                 const at::Tensor& bias, const chain::Filter& filter) {
                std::vector<at::Tensor> leaves;
                const auto leaf = [&](const at::Tensor& x) {
                  return leaves.emplace_back(x.detach().requires_grad_());
                };
                const at::Tensor leaf_p = leaf(p);
                const at::Tensor leaf_weight = leaf(weight);
                const at::Tensor leaf_bias = leaf(bias);
                chain::Filter leaf_filter{leaf(filter.h_MDK), {}, {}};
                if (filter.skip_MD) leaf_filter.skip_MD = leaf(*filter.skip_MD);
                if (filter.reverse_MDK) leaf_filter.reverse_MDK = leaf(*filter.reverse_MDK);
                const auto d = torch::autograd::grad(
                    {stage(leaf_p, leaf_weight, leaf_bias, leaf_filter)}, leaves, {dy});
                chain::StageGradients gradients{d[0], d[1], d[2], d[3], {}, {}};
                if (filter.skip_MD) gradients.dskip_MD = d[4];
                if (filter.reverse_MDK) gradients.dreverse_MDK = d.back();
                return gradients;
              }};
}

void expect_oracle(const MixerCase& c, std::uint64_t seed) {
  SCOPED_TRACE(c.text());
  const MixerInputs in = mixer_inputs(c, seed);
  const MixerExpectation e = mixer_expectation(c, in);
  const chain::OrderTwo kernel = composition();
  EXPECT_TRUE(within_running_error(
      e.y, chain::mixer_forward(kernel, in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK,
                                in.skip_MD, c.mode)))
      << "y";
  const auto [dp, dweight, dbias, dh, dskip] =
      chain::mixer_backward(kernel, in.dy_BDL, in.p_BCL, in.short_weight_CT, in.short_bias_C,
                            in.h_MDK, in.skip_MD, c.mode);
  EXPECT_TRUE(within_running_error(e.dp, dp)) << "dp";
  EXPECT_TRUE(within_running_error(e.dshort_weight, dweight)) << "dshort_weight";
  EXPECT_TRUE(within_running_error(e.dh, dh)) << "dh";
  ASSERT_EQ(dbias.defined(), c.has_bias);
  ASSERT_EQ(dskip.defined(), c.has_skip);
  if (c.has_bias) {
    EXPECT_TRUE(within_running_error(e.dshort_bias, dbias)) << "dshort_bias";
  }
  if (c.has_skip) {
    EXPECT_TRUE(within_running_error(e.dskip, dskip)) << "dskip";
  }
}

TEST(MixerChain, EveryOrderOfBothModesAgreesWithTheOracle) {
  std::uint64_t seed = 1;
  for (const MixerMode mode : {MixerMode::kSafari, MixerMode::kPaper}) {
    for (std::int64_t order = mode == MixerMode::kSafari ? 2 : 1; order <= 4; ++order) {
      for (const std::int64_t L : {1, 2, 17, 40}) {
        for (const std::int64_t T : {1, 3, 5}) {
          expect_oracle({.L = L,
                         .K = (L + 1) / 2,
                         .T = T,
                         .order = order,
                         .mode = mode,
                         .has_bias = seed % 2 == 0,
                         .has_skip = seed % 3 != 0,
                         .type = at::kDouble},
                        seed);
          ++seed;
        }
      }
    }
  }
}

TEST(MixerChain, LongConvolutionAloneIsAStageWithoutGates) {
  const at::Tensor u = normal({2, 3, 33}, 1, at::kDouble);
  const at::Tensor dy = normal({2, 3, 33}, 2, at::kDouble);
  const at::Tensor h = normal({3, 20}, 3, at::kDouble);
  for (const auto& [has_skip, has_reverse] :
       {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
    const std::optional<at::Tensor> skip =
        has_skip ? std::optional(normal({3}, 4, at::kDouble)) : std::nullopt;
    const std::optional<at::Tensor> reverse =
        has_reverse ? std::optional(normal({3, 20}, 5, at::kDouble)) : std::nullopt;
    // One rounding more than the composition makes: the gates multiply by one.
    constexpr double kTolerance = 1e-14;
    EXPECT_TRUE(at::allclose(chain::long_conv_forward(composition(), u, h, skip, reverse),
                             composed::long_conv(u, h, skip, reverse), 0.0, 33 * kTolerance));
    const auto [du, dh, dskip, dreverse] =
        chain::long_conv_backward(composition(), dy, u, h, skip, reverse);
    const auto [eu, eh, eskip, ereverse] = composed::long_conv_backward(dy, u, h, skip, reverse);
    EXPECT_TRUE(at::allclose(du, eu, 0.0, 33 * kTolerance));
    EXPECT_TRUE(at::allclose(dh, eh, 0.0, 66 * kTolerance));
    ASSERT_EQ(dskip.defined(), has_skip);
    if (has_skip) {
      EXPECT_TRUE(at::allclose(dskip, eskip, 0.0, 66 * kTolerance));
    }
    ASSERT_EQ(dreverse.defined(), has_reverse);
    if (has_reverse) {
      EXPECT_TRUE(at::allclose(dreverse, ereverse, 0.0, 66 * kTolerance));
    }
  }
}

}  // namespace
}  // namespace hyena::ops
