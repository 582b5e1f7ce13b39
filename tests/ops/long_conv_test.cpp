#include "hyena/ops/long_conv.h"

#include <array>
#include <functional>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/ops/mixer_case.h"
#include "tests/support/gradcheck.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it
using OptionalTensor = std::optional<at::Tensor>;

struct Inputs {
  at::Tensor u_BDL;
  at::Tensor h_DK;
  OptionalTensor skip_D;
  OptionalTensor reverse_DK;
  at::Tensor dy_BDL;

  [[nodiscard]] std::vector<at::Tensor> arguments() const {
    std::vector<at::Tensor> all{u_BDL, h_DK};
    if (skip_D) all.push_back(*skip_D);
    if (reverse_DK) all.push_back(*reverse_DK);
    return all;
  }
};

struct Sizes {
  std::int64_t B = 2;
  std::int64_t D = 3;
  std::int64_t L = 17;
  std::int64_t K = 17;
  bool skip = true;
  bool reverse = false;
  at::ScalarType type = at::kFloat;

  [[nodiscard]] std::string text() const {
    return fmt::format("B {} D {} L {} K {} skip {} reverse {} {}", B, D, L, K, skip, reverse,
                       c10::toString(type));
  }
};

Inputs inputs(const Sizes& s) {
  const auto filter = s.type == at::kDouble ? at::kDouble : at::kFloat;
  return {.u_BDL = normal({s.B, s.D, s.L}, 15, s.type),
          .h_DK = normal({s.D, s.K}, 16, filter),
          .skip_D = s.skip ? OptionalTensor(normal({s.D}, 17, filter)) : std::nullopt,
          .reverse_DK = s.reverse ? OptionalTensor(normal({s.D, s.K}, 18, filter)) : std::nullopt,
          .dy_BDL = normal({s.B, s.D, s.L}, 19, s.type)};
}

struct Expectation {
  oracle::BoundedRow y, du, dh, dskip, dreverse;
};

Expectation expectation(const Inputs& in, oracle::Rounding rounding) {
  const oracle::Arithmetic arithmetic = arithmetic_of(in.u_BDL.scalar_type());
  const oracle::Arithmetic sums{.unit = arithmetic.unit, .store = arithmetic.unit};
  const std::int64_t D = in.u_BDL.size(1);
  const auto K = static_cast<std::size_t>(in.h_DK.size(1));
  const auto channels = static_cast<std::size_t>(D);
  const Rows us(in.u_BDL);
  const Rows dys(in.dy_BDL);
  const Rows hs(in.h_DK);
  std::vector<oracle::Sum> dh(channels * K);
  std::vector<oracle::Sum> dreverse(channels * K);
  std::vector<oracle::Sum> dskip(channels);
  Expectation e;
  for (std::int64_t row = 0; row < in.u_BDL.size(0) * D; ++row) {
    const auto d = static_cast<std::size_t>(row % D);
    const auto u = oracle::exact(us[row]);
    const auto dy = oracle::exact(dys[row]);
    const auto h = oracle::exact(hs[row % D]);
    const oracle::Bounded skip{in.skip_D ? (*in.skip_D)[row % D].item<double>() : 0.0, 0.0};
    const auto reverse =
        in.reverse_DK ? oracle::exact(Rows(*in.reverse_DK)[row % D]) : oracle::BoundedRow(K);
    const auto past = oracle::convolve(h, u, rounding, sums);
    const auto future = oracle::convolve_reverse(reverse, u, rounding, sums);
    const auto du_past = oracle::convolve_reverse(h, dy, rounding, sums);
    const auto du_future = oracle::convolve(reverse, dy, rounding, sums);
    const auto total = [&](const oracle::Bounded& a, const oracle::Bounded& b,
                           const oracle::Bounded& skipped) {
      oracle::Sum sum;
      sum.add(a);
      sum.add(b);
      sum.add(skip * skipped);
      return oracle::stored(sum.result(sums), arithmetic);
    };
    for (std::size_t t = 0; t < u.size(); ++t) {
      e.y.push_back(total(past[t], future[t], u[t]));
      e.du.push_back(total(du_past[t], du_future[t], dy[t]));
    }
    const auto dh_row = oracle::correlate(dy, u, K, rounding, sums);
    const auto dreverse_row = oracle::correlate(u, dy, K, rounding, sums);
    for (std::size_t s = 0; s < K; ++s) {
      dh[d * K + s].add(dh_row[s]);
      dreverse[d * K + s].add(dreverse_row[s]);
    }
    dskip[d].add(oracle::dot(dy, u, sums));
  }
  for (std::size_t i = 0; i < dh.size(); ++i) {
    e.dh.push_back(dh[i].result(sums));
    e.dreverse.push_back(dreverse[i].result(sums));
  }
  for (const oracle::Sum& sum : dskip) {
    e.dskip.push_back(sum.result(sums));
  }
  return e;
}

using LongConv = std::function<at::Tensor(const Inputs&, LongConvAlgorithm)>;

at::Tensor registered(const Inputs& in, LongConvAlgorithm algorithm) {
  return long_conv(in.u_BDL, in.h_DK, in.skip_D, in.reverse_DK, algorithm);
}

at::Tensor plain(const Inputs& in, LongConvAlgorithm algorithm) {
  return composed::long_conv(in.u_BDL, in.h_DK, in.skip_D, in.reverse_DK, algorithm);
}

/// `direct` is held to the bound of a sum, element by element. Its gradients, like everything of
/// the other algorithms, are held to the bound of a transform.
void expect_oracle(const Inputs& in, LongConvAlgorithm algorithm, const LongConv& op) {
  const bool direct = algorithm == LongConvAlgorithm::kDirect;
  const Expectation e = expectation(in, oracle::Rounding::kFft);
  for (const at::Tensor& x : in.arguments()) {
    x.requires_grad_(true);
  }
  const at::Tensor y = op(in, algorithm);
  EXPECT_EQ(y.scalar_type(), in.u_BDL.scalar_type());
  EXPECT_TRUE(within_running_error(direct ? expectation(in, oracle::Rounding::kDirect).y : e.y, y))
      << "y";
  const auto g = torch::autograd::grad({y}, in.arguments(), {in.dy_BDL});
  EXPECT_TRUE(within_running_error(e.du, g[0])) << "du";
  EXPECT_TRUE(within_running_error(e.dh, g[1])) << "dh";
  if (in.skip_D) {
    EXPECT_TRUE(within_running_error(e.dskip, g[2])) << "dskip";
  }
  if (in.reverse_DK) {
    EXPECT_TRUE(within_running_error(e.dreverse, g.back())) << "dreverse";
  }
  for (const at::Tensor& x : in.arguments()) {
    x.requires_grad_(false);
  }
}

constexpr std::array kAll{LongConvAlgorithm::kAuto, LongConvAlgorithm::kDirect,
                          LongConvAlgorithm::kFft};

TEST(LongConv, EveryLengthAndAlgorithmAgreesWithTheOracle) {
  for (const std::int64_t L : {1, 2, 3, 7, 8, 9, 17, 101, 255}) {
    for (const std::int64_t K : {L, (L + 1) / 2, std::int64_t{1}}) {
      for (const auto type : {at::kFloat, at::kDouble}) {
        for (const bool reverse : {false, true}) {
          const Sizes sizes{.L = L, .K = K, .skip = K != 1, .reverse = reverse, .type = type};
          SCOPED_TRACE(sizes.text());
          const Inputs in = inputs(sizes);
          for (const LongConvAlgorithm algorithm : kAll) {
            expect_oracle(in, algorithm, registered);
            expect_oracle(in, algorithm, plain);
          }
        }
      }
    }
  }
}

TEST(LongConv, LongRowsAgreeWithTheOracle) {
  for (const std::int64_t L : {1000, 1009}) {
    for (const std::int64_t K : {std::int64_t{201}, L}) {
      const Inputs in = inputs({.B = 1, .D = 2, .L = L, .K = K, .reverse = true});
      for (const LongConvAlgorithm algorithm : kAll) {
        SCOPED_TRACE(fmt::format("L {} K {} algorithm {}", L, K, static_cast<int>(algorithm)));
        expect_oracle(in, algorithm, registered);
      }
    }
  }
}

TEST(LongConv, HalfPrecisionInputsAreRoundedOnceOnStore) {
  for (const auto type : {at::kBFloat16, at::kHalf}) {
    for (const bool reverse : {false, true}) {
      const Sizes sizes{.L = 101, .K = 101, .reverse = reverse, .type = type};
      SCOPED_TRACE(sizes.text());
      for (const LongConvAlgorithm algorithm : kAll) {
        expect_oracle(inputs(sizes), algorithm, registered);
      }
    }
  }
}

TEST(LongConv, AnImpulseAtTheFarEndOfTheFilterArrives) {
  for (const LongConvAlgorithm algorithm : kAll) {
    const std::int64_t L = 1000;
    at::Tensor u = at::zeros({1, 2, L});
    u.select(2, 0).fill_(1.0);
    at::Tensor h = at::zeros({2, L});
    h.select(1, L - 1).fill_(3.0);
    const at::Tensor y = long_conv(u, h, {}, {}, algorithm);
    // The transform's bound with unit norms: 2 * 2^-24 * log2(2000) * 3.
    EXPECT_NEAR(y[0][1][L - 1].item<double>(), 3.0, 4e-6);
    EXPECT_LT(y.narrow(2, 0, L - 1).abs().max().item<double>(), 4e-6);
  }
}

TEST(LongConv, TakesAnyStridesAndKeepsTheLayout) {
  for (const LongConvAlgorithm algorithm : kAll) {
    Inputs in = inputs({.L = 9, .K = 7, .reverse = true});
    const at::Tensor u = in.u_BDL;
    EXPECT_TRUE(registered(in, algorithm).is_contiguous());
    in.u_BDL = channels_last(u);
    in.dy_BDL = channels_last(in.dy_BDL);
    EXPECT_TRUE(registered(in, algorithm).transpose(1, 2).is_contiguous());
    expect_oracle(in, algorithm, registered);
    in.u_BDL = with_gaps(u);
    in.dy_BDL = with_gaps(in.dy_BDL);
    in.h_DK = with_gaps(in.h_DK);
    in.skip_D = with_gaps(*in.skip_D);
    in.reverse_DK = with_gaps(*in.reverse_DK);
    EXPECT_TRUE(registered(in, algorithm).is_contiguous());
    expect_oracle(in, algorithm, registered);
    in.u_BDL = u.narrow(0, 0, 1).expand({2, 3, 9});
    expect_oracle(in, algorithm, registered);
  }
}

TEST(LongConv, EmptyInputs) {
  for (const auto& [B, L] : {std::pair<std::int64_t, std::int64_t>{0, 5}, {2, 0}, {0, 0}}) {
    for (const LongConvAlgorithm algorithm : kAll) {
      const Inputs in = inputs({.B = B, .L = L, .K = L, .reverse = true});
      for (const at::Tensor& x : in.arguments()) {
        x.requires_grad_(true);
      }
      const at::Tensor y = registered(in, algorithm);
      EXPECT_EQ(y.sizes(), in.u_BDL.sizes());
      const auto g = torch::autograd::grad({y}, in.arguments(), {in.dy_BDL});
      for (std::size_t i = 0; i < g.size(); ++i) {
        EXPECT_EQ(g[i].sizes(), in.arguments()[i].sizes());
        EXPECT_EQ(g[i].abs().sum().item<double>(), 0.0);
      }
    }
  }
}

TEST(LongConv, GradientsAreSlopes) {
  for (const std::int64_t K : {1, 4, 7}) {
    for (const LongConvAlgorithm algorithm : kAll) {
      const Inputs in = inputs({.L = 7, .K = K, .reverse = true, .type = at::kDouble});
      EXPECT_TRUE(gradcheck(
          [&](const std::vector<at::Tensor>& x) {
            return long_conv(x[0], x[1], x[2], x[3], algorithm);
          },
          {{"u", in.u_BDL}, {"h", in.h_DK}, {"skip", *in.skip_D}, {"reverse", *in.reverse_DK}}))
          << "K " << K;
    }
  }
}

/// <v, S u> = <S^T v, u> at a length where no double loop runs.
TEST(LongConv, BackwardIsTheAdjointAtLength65536) {
  const Inputs in = inputs({.B = 1, .D = 2, .L = 65536, .K = 65536, .type = at::kDouble});
  in.u_BDL.requires_grad_(true);
  in.h_DK.requires_grad_(true);
  const at::Tensor y = long_conv(in.u_BDL, in.h_DK);
  const auto g = torch::autograd::grad({y}, {in.u_BDL, in.h_DK}, {in.dy_BDL});
  const auto expected = (in.dy_BDL * y).sum().item<double>();
  // Cauchy-Schwarz over the norm-wise bound: 2 * 2^-53 * log2(2L) * sqrt(L) ||h|| ||u|| ||dy||.
  const double bound = 2.0 * 0x1p-53 * 17.0 * 256.0 *
                       (in.h_DK.norm() * in.u_BDL.norm() * in.dy_BDL.norm()).item<double>();
  EXPECT_NEAR((g[0] * in.u_BDL).sum().item<double>(), expected, bound);
  EXPECT_NEAR((g[1] * in.h_DK).sum().item<double>(), expected, bound);
  EXPECT_GT(std::abs(expected), 1e3 * bound);
}

TEST(LongConv, DirectIsCausalBitForBit) {
  const Inputs in = inputs({.L = 64, .K = 64});
  const at::Tensor changed = in.u_BDL.clone();
  changed.narrow(2, 30, 34).fill_(1e6);
  const auto both = [&](LongConvAlgorithm algorithm) {
    return std::pair{long_conv(in.u_BDL, in.h_DK, in.skip_D, {}, algorithm),
                     long_conv(changed, in.h_DK, in.skip_D, {}, algorithm)};
  };
  const auto [before, after] = both(LongConvAlgorithm::kDirect);
  EXPECT_TRUE(at::equal(before.narrow(2, 0, 30), after.narrow(2, 0, 30)));
  EXPECT_FALSE(at::equal(before.select(2, 30), after.select(2, 30)));
}

}  // namespace
}  // namespace hyena::ops
