#include "hyena/ops/short_conv.h"

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
using ShortConv =
    std::function<at::Tensor(const at::Tensor&, const at::Tensor&, const OptionalTensor&)>;

struct Inputs {
  at::Tensor p_BCL;
  at::Tensor weight_CT;
  OptionalTensor bias_C;
  at::Tensor dq_BCL;
};

struct Expectation {
  oracle::BoundedRow q, dp, dweight, dbias;
};

Expectation expectation(const Inputs& in) {
  const oracle::Arithmetic arithmetic = arithmetic_of(in.p_BCL.scalar_type());
  const Rows p(in.p_BCL);
  const Rows dq(in.dq_BCL);
  const Rows weight(in.weight_CT);
  const std::int64_t C = in.p_BCL.size(1);
  const auto T = static_cast<std::size_t>(in.weight_CT.size(1));
  Expectation e;
  std::vector<std::vector<oracle::Sum>> dweight(static_cast<std::size_t>(C),
                                                std::vector<oracle::Sum>(T));
  std::vector<oracle::Sum> dbias(static_cast<std::size_t>(C));
  for (std::int64_t row = 0; row < in.p_BCL.size(0) * C; ++row) {
    const auto c = static_cast<std::size_t>(row % C);
    const std::vector<double> taps = weight[row % C];
    const double bias = in.bias_C ? (*in.bias_C)[row % C].item<double>() : 0.0;
    for (const auto& x : oracle::short_conv(oracle::exact(p[row]), taps, bias, arithmetic)) {
      e.q.push_back(x);
    }
    const auto g = oracle::short_conv_backward(oracle::exact(dq[row]), oracle::exact(p[row]), taps,
                                               arithmetic);
    e.dp.insert(e.dp.end(), g.p.begin(), g.p.end());
    for (std::size_t j = 0; j < T; ++j) {
      dweight[c][j].add(g.taps[j]);
    }
    dbias[c].add(g.bias);
  }
  for (std::size_t c = 0; c < dbias.size(); ++c) {
    for (const oracle::Sum& sum : dweight[c]) {
      e.dweight.push_back(sum.result(arithmetic));
    }
    e.dbias.push_back(dbias[c].result(arithmetic));
  }
  return e;
}

void expect_oracle(const Inputs& in, const ShortConv& op) {
  const Expectation e = expectation(in);
  std::vector<at::Tensor> arguments{in.p_BCL, in.weight_CT};
  if (in.bias_C) {
    arguments.push_back(*in.bias_C);
  }
  for (const at::Tensor& x : arguments) {
    x.requires_grad_(true);
  }
  const at::Tensor q = op(in.p_BCL, in.weight_CT, in.bias_C);
  EXPECT_EQ(q.scalar_type(), in.p_BCL.scalar_type());
  EXPECT_TRUE(within_running_error(e.q, q)) << "q";
  const auto g = torch::autograd::grad({q}, arguments, {in.dq_BCL});
  EXPECT_TRUE(within_running_error(e.dp, g[0])) << "dp";
  EXPECT_TRUE(within_running_error(e.dweight, g[1])) << "dweight";
  if (in.bias_C) {
    EXPECT_TRUE(within_running_error(e.dbias, g[2])) << "dbias";
  }
  for (const at::Tensor& x : arguments) {
    x.requires_grad_(false);
  }
}

Inputs inputs(std::int64_t B, std::int64_t C, std::int64_t L, std::int64_t T, bool bias,
              at::ScalarType type) {
  const bool half = type == at::kBFloat16 || type == at::kHalf;
  const at::ScalarType parameter = half ? at::kFloat : type;
  return {.p_BCL = normal({B, C, L}, 5, type),
          .weight_CT = normal({C, T}, 6, parameter),
          .bias_C = bias ? OptionalTensor(normal({C}, 7, parameter)) : std::nullopt,
          .dq_BCL = normal({B, C, L}, 8, type)};
}

const ShortConv kRegistered = short_conv;
const ShortConv kComposed = composed::short_conv;

TEST(ShortConv, EveryNumberOfTapsAndLengthAgreesWithTheOracle) {
  for (const std::int64_t L : {1, 2, 3, 7, 8, 9, 17, 255, 1009}) {
    for (const std::int64_t T : {1, 2, 3, 4, 5, 12}) {
      for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
        for (const bool bias : {true, false}) {
          SCOPED_TRACE(fmt::format("L {} T {} bias {} {}", L, T, bias, c10::toString(type)));
          const Inputs in = inputs(2, 3, L, T, bias, type);
          expect_oracle(in, kRegistered);
          expect_oracle(in, kComposed);
        }
      }
    }
  }
}

TEST(ShortConv, TakesAnyStridesAndKeepsTheLayout) {
  Inputs in = inputs(2, 5, 9, 3, true, at::kFloat);
  const at::Tensor p = in.p_BCL;
  EXPECT_TRUE(short_conv(p, in.weight_CT, in.bias_C).is_contiguous());
  in.p_BCL = channels_last(p);
  in.dq_BCL = channels_last(in.dq_BCL);
  EXPECT_TRUE(short_conv(in.p_BCL, in.weight_CT, in.bias_C).transpose(1, 2).is_contiguous());
  expect_oracle(in, kRegistered);
  in.p_BCL = with_gaps(p);
  in.dq_BCL = with_gaps(in.dq_BCL);
  in.weight_CT = with_gaps(in.weight_CT);
  in.bias_C = with_gaps(*in.bias_C);
  EXPECT_TRUE(short_conv(in.p_BCL, in.weight_CT, in.bias_C).is_contiguous());
  expect_oracle(in, kRegistered);
  in.p_BCL = p.narrow(0, 0, 1).expand({2, 5, 9});
  expect_oracle(in, kRegistered);
  in.p_BCL = p.narrow(2, 1, 7);
  in.dq_BCL = in.dq_BCL.narrow(2, 1, 7);
  expect_oracle(in, kRegistered);
}

TEST(ShortConv, EmptyInputs) {
  for (const auto& [B, L] : {std::pair<std::int64_t, std::int64_t>{0, 5}, {2, 0}, {0, 0}}) {
    const Inputs in = inputs(B, 3, L, 2, true, at::kFloat);
    const std::vector<at::Tensor> arguments{in.p_BCL, in.weight_CT, *in.bias_C};
    for (const at::Tensor& x : arguments) {
      x.requires_grad_(true);
    }
    const at::Tensor q = short_conv(in.p_BCL, in.weight_CT, in.bias_C);
    EXPECT_EQ(q.sizes(), in.p_BCL.sizes());
    const auto g = torch::autograd::grad({q}, arguments, {in.dq_BCL});
    for (std::size_t i = 0; i < g.size(); ++i) {
      EXPECT_EQ(g[i].sizes(), arguments[i].sizes());
      EXPECT_EQ(g[i].abs().sum().item<double>(), 0.0);
    }
  }
}

TEST(ShortConv, GradientsAreSlopes) {
  for (const std::int64_t T : {1, 2, 3, 5, 9}) {
    SCOPED_TRACE(T);
    const Inputs in = inputs(2, 3, 7, T, true, at::kDouble);
    EXPECT_TRUE(
        gradcheck([](const std::vector<at::Tensor>& x) { return short_conv(x[0], x[1], x[2]); },
                  {{"p", in.p_BCL}, {"weight", in.weight_CT}, {"bias", *in.bias_C}}));
  }
}

TEST(ShortConv, IsCausalBitForBit) {
  const Inputs in = inputs(2, 4, 50, 4, true, at::kFloat);
  const at::Tensor before = short_conv(in.p_BCL, in.weight_CT, in.bias_C);
  const at::Tensor changed = in.p_BCL.clone();
  changed.narrow(2, 20, 30).fill_(1e6);
  const at::Tensor after = short_conv(changed, in.weight_CT, in.bias_C);
  EXPECT_TRUE(at::equal(before.narrow(2, 0, 20), after.narrow(2, 0, 20)));
  EXPECT_FALSE(at::equal(before.select(2, 20), after.select(2, 20)));
}

}  // namespace
}  // namespace hyena::ops
