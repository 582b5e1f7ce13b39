#include "hyena/ops/hyena_mixer.h"

#include <functional>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/ops/mixer_case.h"
#include "tests/support/gradcheck.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it
using Mixer = std::function<at::Tensor(const MixerCase&, const MixerInputs&)>;

at::Tensor registered(const MixerCase& c, const MixerInputs& in) {
  return hyena_mixer(in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD, c.mode);
}

at::Tensor plain(const MixerCase& c, const MixerInputs& in) {
  return composed::hyena_mixer(in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD,
                               c.mode);
}

struct Gradients {
  at::Tensor dp_BCL;
  at::Tensor dshort_weight_CT;
  at::Tensor dshort_bias_C;
  at::Tensor dh_MDK;
  at::Tensor dskip_MD;
};

Gradients by_autograd(const MixerInputs& in, const at::Tensor& y) {
  const auto g = torch::autograd::grad({y}, in.arguments(), {in.dy_BDL});
  return {g[0], g[1], in.short_bias_C ? g[3] : at::Tensor(), g[2],
          in.skip_MD ? g.back() : at::Tensor()};
}

void expect_gradients(const MixerExpectation& e, const Gradients& g) {
  EXPECT_TRUE(within_running_error(e.dp, g.dp_BCL)) << "dp";
  EXPECT_TRUE(within_running_error(e.dshort_weight, g.dshort_weight_CT)) << "dshort_weight";
  EXPECT_TRUE(within_running_error(e.dh, g.dh_MDK)) << "dh";
  if (g.dshort_bias_C.defined()) {
    EXPECT_TRUE(within_running_error(e.dshort_bias, g.dshort_bias_C)) << "dshort_bias";
  }
  if (g.dskip_MD.defined()) {
    EXPECT_TRUE(within_running_error(e.dskip, g.dskip_MD)) << "dskip";
  }
}

/// Output and every gradient of `mixer` against the oracle. The registered op brings the backward
/// of its kernel, the composed one autograd's.
void expect_oracle(const MixerCase& c, const MixerInputs& in, const MixerExpectation& e,
                   const Mixer& mixer) {
  for (const at::Tensor& x : in.arguments()) {
    x.requires_grad_(true);
  }
  const at::Tensor y = mixer(c, in);
  EXPECT_EQ(y.scalar_type(), c.type);
  EXPECT_TRUE(within_running_error(e.y, y)) << "y";
  expect_gradients(e, by_autograd(in, y));
  for (const at::Tensor& x : in.arguments()) {
    x.requires_grad_(false);
  }
}

void expect_oracle(const MixerCase& c, std::uint64_t seed) {
  SCOPED_TRACE(c.text());
  const MixerInputs in = mixer_inputs(c, seed);
  const MixerExpectation e = mixer_expectation(c, in);
  {
    SCOPED_TRACE("registered");
    expect_oracle(c, in, e, registered);
  }
  {
    SCOPED_TRACE("composed");
    expect_oracle(c, in, e, plain);
  }
  // What devices without a kernel run.
  SCOPED_TRACE("composed backward");
  const auto [dp, dweight, dbias, dh, dskip] = composed::hyena_mixer_backward(
      in.dy_BDL, in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD, c.mode);
  EXPECT_EQ(dbias.defined(), c.has_bias);
  EXPECT_EQ(dskip.defined(), c.has_skip);
  expect_gradients(e, {dp, dweight, dbias, dh, dskip});
}

/// Every order of both modes up to 4.
std::vector<MixerCase> orders() {
  std::vector<MixerCase> all;
  for (const MixerMode mode : {MixerMode::kSafari, MixerMode::kPaper}) {
    for (std::int64_t order = mode == MixerMode::kSafari ? 2 : 1; order <= 4; ++order) {
      all.push_back({.order = order, .mode = mode});
    }
  }
  return all;
}

TEST(HyenaMixer, EveryOrderAndLengthAgreesWithTheOracle) {
  std::uint64_t seed = 100;
  for (MixerCase c : orders()) {
    for (const std::int64_t L : {1, 2, 3, 7, 8, 9, 17, 101, 255}) {
      for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
        c.L = L;
        c.K = seed % 3 == 0 ? (L + 1) / 2 : L;
        c.T = 1 + static_cast<std::int64_t>(seed % 5);
        c.type = type;
        expect_oracle(c, seed++);
      }
    }
  }
}

TEST(HyenaMixer, LongRowsAgreeWithTheOracle) {
  for (const std::int64_t L : {1000, 1009}) {
    for (const std::int64_t K : {std::int64_t{1}, std::int64_t{200}, L}) {
      expect_oracle({.B = 1, .D = 2, .L = L, .K = K}, 7);
    }
  }
}

TEST(HyenaMixer, WithoutBiasAndWithoutSkip) {
  for (MixerCase c : orders()) {
    for (const bool has_bias : {false, true}) {
      c.has_bias = has_bias;
      c.has_skip = !has_bias;
      expect_oracle(c, 31);
      c.has_skip = false;
      expect_oracle(c, 37);
    }
  }
}

TEST(HyenaMixer, HalfPrecisionRoundsOnlyWhatItStores) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    for (MixerCase c : orders()) {
      if (c.order <= 2) {  // bounds of bfloat16 grow past the values after that
        c.type = type;
        expect_oracle(c, 41);
      }
    }
  }
}

TEST(HyenaMixer, OutputFollowsTheLayoutOfItsInput) {
  for (const MixerCase& c : orders()) {
    SCOPED_TRACE(c.text());
    MixerInputs in = mixer_inputs(c, 53);
    const MixerExpectation e = mixer_expectation(c, in);
    const at::Tensor contiguous = in.p_BCL;

    EXPECT_TRUE(registered(c, in).is_contiguous());
    in.p_BCL = channels_last(contiguous);
    in.dy_BDL = channels_last(in.dy_BDL);
    EXPECT_TRUE(registered(c, in).transpose(1, 2).is_contiguous());
    expect_oracle(c, in, e, registered);

    in.p_BCL = padded_rows(contiguous);
    in.dy_BDL = padded_rows(in.dy_BDL);
    EXPECT_EQ(registered(c, in).stride(1), 32);  // of 17 steps
    expect_oracle(c, in, e, registered);

    in.p_BCL = with_gaps(contiguous);
    in.dy_BDL = with_gaps(in.dy_BDL);
    in.short_weight_CT = with_gaps(in.short_weight_CT);
    in.short_bias_C = with_gaps(*in.short_bias_C);
    in.h_MDK = with_gaps(in.h_MDK);
    in.skip_MD = with_gaps(*in.skip_MD);
    EXPECT_TRUE(registered(c, in).is_contiguous());
    expect_oracle(c, in, e, registered);
  }
}

TEST(HyenaMixer, EmptyBatchChannelsAndLength) {
  using Sizes = std::tuple<std::int64_t, std::int64_t, std::int64_t>;
  for (const MixerCase& c : orders()) {
    for (const auto& [B, D, L] : {Sizes{0, 3, 5}, {2, 3, 0}, {0, 3, 0}, {2, 0, 5}}) {
      MixerCase empty = c;
      empty.B = B;
      empty.D = D;
      empty.L = empty.K = L;
      SCOPED_TRACE(empty.text());
      const MixerInputs in = mixer_inputs(empty, 3);
      for (const at::Tensor& x : in.arguments()) {
        x.requires_grad_(true);
      }
      const at::Tensor y = registered(empty, in);
      EXPECT_EQ(y.sizes(), at::IntArrayRef({B, empty.D, L}));
      const auto gradients = torch::autograd::grad({y}, in.arguments(), {in.dy_BDL});
      for (std::size_t i = 0; i < gradients.size(); ++i) {
        EXPECT_EQ(gradients[i].sizes(), in.arguments()[i].sizes()) << i;
        EXPECT_EQ(gradients[i].abs().sum().item<double>(), 0.0) << i;
      }
    }
  }
}

TEST(HyenaMixer, GradientsAreSlopes) {
  for (MixerCase c : orders()) {
    c.L = 6;
    c.K = 4;
    c.D = 2;
    c.type = at::kDouble;
    SCOPED_TRACE(c.text());
    const MixerInputs in = mixer_inputs(c, 61);
    EXPECT_TRUE(gradcheck(
        [&](const std::vector<at::Tensor>& x) {
          return hyena_mixer(x[0], x[1], x[2], x[3], x[4], c.mode);
        },
        {{"p", in.p_BCL},
         {"short_weight", in.short_weight_CT},
         {"short_bias", *in.short_bias_C},
         {"h", in.h_MDK},
         {"skip", *in.skip_MD}}));
  }
}

TEST(HyenaMixer, EqualInputsGiveEqualBitsAndRowsDoNotMeet) {
  const MixerCase c{.B = 3, .D = 37, .L = 100, .K = 100};
  MixerInputs in = mixer_inputs(c, 71);
  const at::Tensor y = registered(c, in);
  EXPECT_TRUE(at::equal(y, registered(c, in)));
  const at::Tensor order = torch::tensor({2, 0, 1});
  in.p_BCL = in.p_BCL.index_select(0, order);
  const at::Tensor permuted = registered(c, in);
  EXPECT_TRUE(at::equal(y.index_select(0, order), permuted));
  at::set_num_threads(4);
  EXPECT_TRUE(at::equal(permuted, registered(c, in)));
  at::set_num_threads(1);
}

/// Where no oracle runs: op and definition in float64, forward and backward, within the norm-wise
/// bound of their transforms (relative to norms near one: 1e-13).
TEST(HyenaMixer, EqualsItsDefinitionOnLongRows) {
  for (MixerCase c : orders()) {
    c.L = c.K = 4099;
    c.type = at::kDouble;
    SCOPED_TRACE(c.text());
    const MixerInputs in = mixer_inputs(c, 83);
    for (const at::Tensor& x : in.arguments()) {
      x.requires_grad_(true);
    }
    const at::Tensor y = registered(c, in);
    const at::Tensor expected = plain(c, in);
    EXPECT_LT(relative_error(y, expected), 1e-13);
    const auto g = torch::autograd::grad({y}, in.arguments(), {in.dy_BDL});
    const auto g_expected = torch::autograd::grad({expected}, in.arguments(), {in.dy_BDL});
    for (std::size_t i = 0; i < g.size(); ++i) {
      EXPECT_LT(relative_error(g[i], g_expected[i]), 1e-12) << i;
    }
  }
}

/// The future of a row may reach its past by rounding of the transform only: at most the norm-wise
/// bound of one convolution.
TEST(HyenaMixer, TheFutureLeaksByRoundingOnly) {
  for (MixerCase c : orders()) {
    c.L = c.K = 96;
    c.type = at::kDouble;
    SCOPED_TRACE(c.text());
    MixerInputs in = mixer_inputs(c, 73);
    const at::Tensor before = registered(c, in);
    in.p_BCL = in.p_BCL.clone();
    in.p_BCL.narrow(2, 60, 36).normal_();
    const at::Tensor after = registered(c, in);
    EXPECT_LT(relative_error(after.narrow(2, 0, 60), before.narrow(2, 0, 60)), 1e-13);
    EXPECT_GT(relative_error(after.narrow(2, 60, 36), before.narrow(2, 60, 36)), 1e-2);
  }
}

}  // namespace
}  // namespace hyena::ops
