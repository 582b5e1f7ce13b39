// The chain over the composition of order 2, where the whole mixer's oracle can judge it; the CUDA
// kernel takes the composition's place in cuda_path_test.cpp.
#include "hyena/ops/mixer_chain.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/ops/long_conv.h"
#include "tests/ops/mixer_case.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

chain::OrderTwo composition() {
  return {
      .empty =
          [](const at::Tensor& like_BCL, std::int64_t channels) {
            // What a kernel leaves alone must not matter: 0 times NaN would show.
            return at::full({like_BCL.size(0), channels, like_BCL.size(2)}, NAN,
                            like_BCL.options());
          },
      .forward = [](const at::Tensor& p, const at::Tensor& weight, const at::Tensor& bias,
                    const at::Tensor& h, const std::optional<at::Tensor>& skip,
                    std::int64_t /*o*/) { return composed::hyena_mixer(p, weight, bias, h, skip); },
      .backward =
          [](const at::Tensor& dy, const at::Tensor& p, const at::Tensor& weight,
             const at::Tensor& bias, const at::Tensor& h, const std::optional<at::Tensor>& skip) {
            return composed::hyena_mixer_backward(dy, p, weight, bias, h, skip, MixerMode::kSafari);
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
  for (const bool has_skip : {false, true}) {
    const std::optional<at::Tensor> skip =
        has_skip ? std::optional(normal({3}, 4, at::kDouble)) : std::nullopt;
    // One rounding more than the composition makes: the gates multiply by one.
    constexpr double kTolerance = 1e-14;
    EXPECT_TRUE(at::allclose(chain::long_conv_forward(composition(), u, h, skip),
                             composed::long_conv(u, h, skip), 0.0, 33 * kTolerance));
    const auto [du, dh, dskip] = chain::long_conv_backward(composition(), dy, u, h, skip);
    const auto [eu, eh, eskip, none] = composed::long_conv_backward(dy, u, h, skip, std::nullopt);
    EXPECT_TRUE(at::allclose(du, eu, 0.0, 33 * kTolerance));
    EXPECT_TRUE(at::allclose(dh, eh, 0.0, 66 * kTolerance));
    ASSERT_EQ(dskip.defined(), has_skip);
    if (has_skip) {
      EXPECT_TRUE(at::allclose(dskip, eskip, 0.0, 66 * kTolerance));
    }
  }
}

}  // namespace
}  // namespace hyena::ops
