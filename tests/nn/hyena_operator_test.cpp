// The options of the operator, each against what its header says, written out channel by channel.
#include "hyena/nn/operators/hyena_operator.h"

#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/nn/operators/activation.h"
#include "hyena/ops/long_conv.h"
#include "hyena/ops/short_conv.h"
#include "tests/support/tensors.h"

namespace hyena::nn {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

HyenaOperator made(const HyenaOperatorOptions& options, std::uint64_t seed = 5) {
  torch::manual_seed(seed);
  HyenaOperator op(options);
  op->to(at::kDouble);
  op->eval();
  return op;
}

at::Tensor parameter(HyenaOperator& op, const std::string& name) {
  return op->named_parameters()[name];
}

/// The operator by its definition, one channel of D' after the other; direct sums, no transform.
at::Tensor definition(HyenaOperator& op, const at::Tensor& u_BLD) {
  const HyenaOperatorOptions& o = op->options();
  const std::int64_t inner = o.d_model * o.inner_factor;
  const std::int64_t per_head = inner / o.num_heads;
  const std::int64_t N = o.order;
  const bool safari = o.mode == ops::MixerMode::kSafari;
  const std::int64_t L = u_BLD.size(1);
  const std::int64_t block = L / o.num_blocks;
  const at::Tensor p =
      at::linear(u_BLD, parameter(op, "in_proj.weight"), parameter(op, "in_proj.bias"))
          .transpose(1, 2);
  const at::Tensor q = ops::composed::short_conv(p, parameter(op, "short_filter.weight").squeeze(1),
                                                 parameter(op, "short_filter.bias"));
  const auto chunk = [&](std::int64_t i) { return q.narrow(1, i * inner, inner); };
  const at::Tensor h_MDK = op->filters(L).narrow(2, 0, block);
  const at::Tensor skip_MD = op->skip();
  const auto convolved = [&](const at::Tensor& v, std::int64_t m) {
    std::vector<at::Tensor> blocks;
    for (const at::Tensor& part : v.split(block, 2)) {
      std::vector<at::Tensor> channels;
      for (std::int64_t c = 0; c < inner; ++c) {
        const std::int64_t shared = c % per_head;
        at::Tensor y = at::zeros_like(part.select(1, c));
        for (std::int64_t s = 0; s < block; ++s) {
          y.narrow(1, s, block - s) +=
              h_MDK[m][shared][s] * part.select(1, c).narrow(1, 0, block - s);
        }
        channels.push_back(skip_MD.defined() ? y + skip_MD[m][shared] * part.select(1, c) : y);
      }
      blocks.push_back(at::stack(channels, 1));
    }
    at::Tensor y = at::cat(blocks, 2);
    if (o.post_order_ffn) {  // new head j = sum_i w[m,i,j] old head i
      const at::Tensor w = parameter(op, "ord_proj_w")[m];
      at::Tensor mixed = at::zeros_like(y);
      for (std::int64_t i = 0; i < o.num_heads; ++i) {
        for (std::int64_t j = 0; j < o.num_heads; ++j) {
          mixed.narrow(1, j * per_head, per_head) += w[i][j] * y.narrow(1, i * per_head, per_head);
        }
      }
      y = mixed;
    }
    return y;
  };
  const auto gate = [&](std::int64_t i) {
    at::Tensor x = chunk(i).clone();
    if (o.outer_mixing) {
      for (std::int64_t head = 0; head < o.num_heads; ++head) {
        at::Tensor part = x.narrow(1, head * per_head, per_head);
        part.copy_(part.sum(1, true).expand_as(part).clone());
      }
    }
    return x;
  };
  at::Tensor v = chunk(N);
  for (std::int64_t m = 0; m < h_MDK.size(0); ++m) {
    v = safari ? convolved(v * gate(N - 1 - m), m) : gate(m) * convolved(v, m);
  }
  const at::Tensor y = safari ? v * chunk(0) : v;
  return at::linear(activate(o.activation, y.transpose(1, 2)), parameter(op, "out_proj.weight"),
                    parameter(op, "out_proj.bias"));
}

using Change = std::function<void(HyenaOperatorOptions&)>;

TEST(HyenaOperator, EveryOptionIsItsDefinition) {
  const std::vector<std::pair<std::string, Change>> changes{
      {"plain", [](auto&) {}},
      {"short_filter_order 5", [](auto& o) { o.short_filter_order = 5; }},
      {"inner_factor 2", [](auto& o) { o.inner_factor = 2; }},
      {"num_heads 2", [](auto& o) { o.num_heads = 2; }},
      {"num_blocks 3", [](auto& o) { o.num_blocks = 3; }},
      {"outer_mixing", [](auto& o) { o.outer_mixing = true; }},
      {"outer_mixing, 2 heads",
       [](auto& o) {
         o.outer_mixing = true;
         o.num_heads = 2;
       }},
      {"post_order_ffn, 1 head", [](auto& o) { o.post_order_ffn = true; }},
      {"post_order_ffn, 4 heads",
       [](auto& o) {
         o.post_order_ffn = true;
         o.num_heads = 4;
       }},
      {"activation tanh", [](auto& o) { o.activation = "tanh"; }},
      {"no skip", [](auto& o) { o.filter.bias = false; }},
      {"normalized", [](auto& o) { o.filter.normalized = true; }},
      {"standalone layout", [](auto& o) { o.filter.layout = ops::ChannelLayout::kStandalone; }},
      {"everything", [](auto& o) {
         o.inner_factor = 2;
         o.num_heads = 4;
         o.num_blocks = 2;
         o.outer_mixing = true;
         o.post_order_ffn = true;
         o.activation = "gelu";
       }}};
  for (const auto mode : {ops::MixerMode::kSafari, ops::MixerMode::kPaper}) {
    for (std::int64_t order = mode == ops::MixerMode::kSafari ? 2 : 1; order <= 3; ++order) {
      for (const auto& [name, change] : changes) {
        SCOPED_TRACE(fmt::format("{} order {} {}", ops::to_string(mode), order, name));
        HyenaOperatorOptions options{.d_model = 4, .order = order, .l_max = 18, .mode = mode};
        options.filter.w = 5.0;
        change(options);
        HyenaOperator op = made(options);
        const torch::NoGradGuard no_grad;
        for (const std::int64_t L : {18, 12}) {
          const at::Tensor u = normal({2, L, 4}, 3);
          EXPECT_LT(relative_error(op(u), definition(op, u)), 1e-12) << "L " << L;
        }
      }
    }
  }
}

TEST(HyenaOperator, NoOptionLooksIntoTheFuture) {
  const std::vector<Change> changes{[](auto&) {}, [](auto& o) { o.num_blocks = 4; },
                                    [](auto& o) { o.outer_mixing = true; },
                                    [](auto& o) { o.post_order_ffn = true; }};
  for (const Change& change : changes) {
    HyenaOperatorOptions options{.d_model = 4, .order = 3, .l_max = 32};
    change(options);
    HyenaOperator op = made(options);
    const at::Tensor u = normal({1, 32, 4}, 9).requires_grad_(true);
    for (const std::int64_t t : {0, 7, 8, 20, 31}) {
      const at::Tensor g = torch::autograd::grad({op(u).select(1, t).sum()}, {u})[0];
      const auto past = g.narrow(1, 0, t + 1).abs().max().item<double>();
      if (t < 31) {
        EXPECT_LT(g.narrow(1, t + 1, 31 - t).abs().max().item<double>(), 1e-14 * past) << t;
      }
      EXPECT_GT(g.select(1, t).abs().max().item<double>(), 0.0) << t;
    }
  }
}

TEST(HyenaOperator, AShorterInputUsesTheFirstRowsOfTheFilter) {
  HyenaOperator op = made({.d_model = 4, .order = 3, .l_max = 33});
  const torch::NoGradGuard no_grad;
  EXPECT_LT(relative_error(op->filters(20), op->filters(33).narrow(2, 0, 20)), 1e-14);
  const at::Tensor u = normal({2, 33, 4}, 9);
  EXPECT_LT(relative_error(op(u.narrow(1, 0, 20)), op(u).narrow(1, 0, 20)), 1e-12);
}

TEST(HyenaOperator, DropoutActsInTrainingOnly) {
  HyenaOperatorOptions options{.d_model = 4, .l_max = 16};
  HyenaOperator without = made(options);
  options.dropout = 0.5;
  HyenaOperator with = made(options);
  const at::Tensor u = normal({2, 16, 4}, 9);
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(with(u), without(u)));
  with->train();
  EXPECT_GT(relative_error(with(u), without(u)), 1e-2);
}

TEST(HyenaOperator, ParametersCarryThePublishedNames) {
  // PAPER 14.1 with N = 3, D = 4, E = 5, W = 6, T = 3, l_max = 7.
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> expected{
      {"in_proj.weight", {16, 4}},
      {"in_proj.bias", {16}},
      {"out_proj.weight", {4, 4}},
      {"out_proj.bias", {4}},
      {"short_filter.weight", {16, 1, 3}},
      {"short_filter.bias", {16}},
      {"filter_fn.bias", {8}},
      {"filter_fn.pos_emb.z", {1, 7, 5}},
      {"filter_fn.pos_emb.t", {1, 7, 1}},
      {"filter_fn.implicit_filter.0.weight", {6, 5}},
      {"filter_fn.implicit_filter.0.bias", {6}},
      {"filter_fn.implicit_filter.1.freq", {1, 6}},
      {"filter_fn.implicit_filter.2.weight", {6, 6}},
      {"filter_fn.implicit_filter.2.bias", {6}},
      {"filter_fn.implicit_filter.4.weight", {6, 6}},
      {"filter_fn.implicit_filter.4.bias", {6}},
      {"filter_fn.implicit_filter.6.weight", {8, 6}},
      {"filter_fn.modulation.deltas", {1, 1, 8}}};
  HyenaOperatorOptions options{.d_model = 4, .order = 3, .l_max = 7};
  options.filter.emb_dim = 5;
  options.filter.filter_order = 6;
  HyenaOperator op = made(options);
  std::map<std::string, at::Tensor> ours;
  for (const auto& item : op->named_parameters())
    ours.emplace(item.key(), item.value());
  for (const auto& item : op->named_buffers())
    ours.emplace(item.key(), item.value());
  EXPECT_EQ(ours.size(), expected.size());
  for (const auto& [name, shape] : expected) {
    ASSERT_TRUE(ours.contains(name)) << name;
    EXPECT_EQ(ours.at(name).sizes(), at::IntArrayRef(shape)) << name;
  }
  // Buffers by default: t and deltas; z is trainable.
  EXPECT_EQ(op->named_buffers().size(), 2U);
  options.filter.train_features = false;
  options.filter.train_decay = true;
  HyenaOperator other = made(options);
  EXPECT_TRUE(other->named_buffers().contains("filter_fn.pos_emb.z"));
  EXPECT_TRUE(other->named_parameters().contains("filter_fn.modulation.deltas"));
}

std::string user_error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(HyenaOperator, RefusesOptionsWithoutAMeaning) {
  const auto error = [](const Change& change) {
    return user_error_of([&] {
      HyenaOperatorOptions options{.d_model = 4, .l_max = 16};
      change(options);
      HyenaOperator op(options);
    });
  };
  EXPECT_EQ(error([](auto& o) { o.order = 1; }),
            "order: expected at least 2 in safari mode, got 1");
  EXPECT_EQ(error([](auto& o) {
              o.mode = ops::MixerMode::kPaper;
              o.order = 0;
            }),
            "order: expected at least 1 in paper mode, got 0");
  EXPECT_EQ(error([](auto& o) { o.num_heads = 3; }),
            "num_heads: expected a divisor of d_model * inner_factor = 4, got 3");
  EXPECT_EQ(error([](auto& o) { o.num_blocks = 3; }),
            "num_blocks: expected a divisor of l_max = 16, got 3");
  EXPECT_EQ(error([](auto& o) { o.dropout = 1.0; }),
            "dropout: expected a probability in [0, 1), got 1");
  EXPECT_EQ(error([](auto& o) { o.short_filter_order = 0; }),
            "short_filter_order: expected at least 1, got 0");
  EXPECT_EQ(error([](auto& o) { o.activation = "sillu"; }),
            "activation: expected one of id, tanh, relu, gelu, gelu_tanh, silu, sigmoid, sqrelu, "
            "got 'sillu', did you mean 'silu'?");
  EXPECT_EQ(error([](auto& o) { o.filter.emb_dim = 4; }),
            "emb_dim: expected an odd number of at least 3 (time, cosines, sines), got 4");
  HyenaOperator op = made({.d_model = 4, .l_max = 16, .num_blocks = 4});
  EXPECT_EQ(user_error_of([&] {
              (void)op(normal({1, 17, 4}, 1));
            }),
            "sequence of 17 positions is longer than the model's l_max = 16");
  EXPECT_EQ(user_error_of([&] {
              (void)op(normal({1, 6, 4}, 1));
            }),
            "num_blocks: expected a divisor of the sequence length 6, got 4");
}

}  // namespace
}  // namespace hyena::nn
