// What holds for every op: the dispatcher finds it, its Meta kernel promises what the real one
// returns, and it says so where it has no second derivative.
#include <string>
#include <vector>

#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/ops/hyena_mixer.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it
using Stack = torch::jit::Stack;

/// Arguments of every registered op. `layout` is applied to sequences, so that the rule of layouts
/// is compared too.
struct Call {
  std::string op;
  Stack arguments;
};

std::vector<Call> calls(const std::function<at::Tensor(at::Tensor)>& layout, at::ScalarType type) {
  const std::int64_t B = 2;
  const std::int64_t D = 3;
  const std::int64_t L = 7;
  const std::int64_t K = 5;
  const std::int64_t T = 3;
  const auto parameter = type == at::kDouble ? at::kDouble : at::kFloat;
  const auto sequence = [&](std::int64_t channels) {
    return layout(normal({B, channels, L}, 1, type));
  };
  const auto tensor = [&](at::IntArrayRef sizes) { return normal(sizes, 2, parameter); };
  const c10::IValue none;
  const std::vector<at::Tensor> weights{tensor({4, 5}), tensor({4, 4}), tensor({2 * D, 4})};
  const std::vector<at::Tensor> biases{tensor({4}), tensor({4})};
  std::vector<Call> all{{"short_conv", {sequence(D), tensor({D, T}), tensor({D})}},
                        {"short_conv", {sequence(D), tensor({D, T}), none}},
                        {"short_conv_backward", {sequence(D), sequence(D), tensor({D, T}), true}},
                        {"short_conv_backward", {sequence(D), sequence(D), tensor({D, T}), false}}};
  for (const char* algorithm : {"auto", "direct", "fft"}) {
    all.push_back({"long_conv", {sequence(D), tensor({D, K}), none, none, algorithm}});
    all.push_back(
        {"long_conv", {sequence(D), tensor({D, K}), tensor({D}), tensor({D, K}), algorithm}});
    all.push_back(
        {"long_conv_backward", {sequence(D), sequence(D), tensor({D, K}), none, none, algorithm}});
    all.push_back(
        {"long_conv_backward",
         {sequence(D), sequence(D), tensor({D, K}), tensor({D}), tensor({D, K}), algorithm}});
  }
  for (const char* mode : {"safari", "paper"}) {
    const std::int64_t C = (std::string(mode) == "safari" ? 4 : 3) * D;
    const at::Tensor h = tensor({2, D, K});
    all.push_back(
        {"hyena_mixer", {sequence(C), tensor({C, T}), tensor({C}), h, tensor({2, D}), mode}});
    all.push_back({"hyena_mixer", {sequence(C), tensor({C, T}), none, h, none, mode}});
    all.push_back(
        {"hyena_mixer_backward",
         {sequence(D), sequence(C), tensor({C, T}), tensor({C}), h, tensor({2, D}), mode}});
    all.push_back(
        {"hyena_mixer_backward", {sequence(D), sequence(C), tensor({C, T}), none, h, none, mode}});
  }
  for (const char* channel_layout : {"safari", "standalone"}) {
    const at::Tensor z = tensor({K, 5});
    all.push_back({"implicit_filter",
                   {z, weights, biases, tensor({4}), tensor({K}), tensor({2 * D}), 0.05, true, 2,
                    channel_layout}});
    all.push_back({"implicit_filter",
                   {z, weights, biases, tensor({4}), none, none, 0.0, false, 2, channel_layout}});
    all.push_back({"implicit_filter_backward",
                   {tensor({2, D, K}), z, weights, biases, tensor({4}), tensor({K}),
                    tensor({2 * D}), 0.05, true, 2, channel_layout}});
    all.push_back({"implicit_filter_backward",
                   {tensor({2, D, K}), z, weights, biases, tensor({4}), none, none, 0.0, false, 2,
                    channel_layout}});
  }
  return all;
}

c10::IValue on_meta(const c10::IValue& value) {
  const auto move = [](const at::Tensor& x) {
    return at::empty_strided(x.sizes(), x.strides(), x.options().device(at::kMeta));
  };
  if (value.isTensor()) {
    return move(value.toTensor());
  }
  if (value.isTensorList()) {
    std::vector<at::Tensor> moved;
    for (const at::Tensor& x : value.toTensorVector())
      moved.push_back(move(x));
    return moved;
  }
  return value;
}

/// Results, lists unrolled.
std::vector<at::Tensor> results(const Call& call) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(("hyena::" + call.op).c_str(), "");
  Stack stack = call.arguments;
  op.callBoxed(&stack);
  std::vector<at::Tensor> all;
  for (const c10::IValue& value : stack) {
    if (value.isTensorList()) {
      for (const at::Tensor& x : value.toTensorVector())
        all.push_back(x);
    } else {
      all.push_back(value.toTensor());
    }
  }
  return all;
}

TEST(Registration, TheDispatcherFindsEveryOp) {
  for (const char* name : {"short_conv", "long_conv", "hyena_mixer", "implicit_filter"}) {
    for (const char* suffix : {"", "_backward"}) {
      const auto op =
          c10::Dispatcher::singleton().findSchema({std::string("hyena::") + name + suffix, ""});
      ASSERT_TRUE(op.has_value()) << name << suffix;
      for (const auto key : {c10::DispatchKey::CPU, c10::DispatchKey::CUDA, c10::DispatchKey::Meta,
                             c10::DispatchKey::Autograd}) {
        EXPECT_TRUE(op->hasKernelForDispatchKey(key)) << name << suffix << " " << key;
      }
    }
  }
}

TEST(Registration, MetaKernelsPromiseTheRealShapesStridesAndDtypes) {
  const std::vector<std::function<at::Tensor(at::Tensor)>> layouts{
      [](const at::Tensor& x) { return x; }, [](const at::Tensor& x) { return channels_last(x); },
      [](const at::Tensor& x) { return with_gaps(x); },
      [](const at::Tensor& x) { return padded_rows(x); },
      [](const at::Tensor& x) {
        return x.narrow(2, 0, 1).expand({-1, -1, 7});
      }};
  int compared = 0;
  for (const auto& layout : layouts) {
    for (const auto type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      for (const Call& call : calls(layout, type)) {
        Call meta = call;
        for (c10::IValue& argument : meta.arguments)
          argument = on_meta(argument);
        const auto real = results(call);
        const auto promised = results(meta);
        ASSERT_EQ(real.size(), promised.size()) << call.op;
        for (std::size_t i = 0; i < real.size(); ++i) {
          EXPECT_EQ(real[i].sizes(), promised[i].sizes()) << call.op << " result " << i;
          EXPECT_EQ(real[i].strides(), promised[i].strides()) << call.op << " result " << i;
          EXPECT_EQ(real[i].dtype(), promised[i].dtype()) << call.op << " result " << i;
          EXPECT_TRUE(promised[i].is_meta());
          ++compared;
        }
      }
    }
  }
  EXPECT_GT(compared, 500);
}

/// Ops must not return their inputs, nor one tensor twice, be it empty: autograd and compilers rely
/// on it.
TEST(Registration, NoResultSharesMemoryWithAnArgumentOrAnother) {
  for (const Call& call : calls([](const at::Tensor& x) { return x; }, at::kFloat)) {
    std::vector<at::Tensor> seen;
    for (const c10::IValue& argument : call.arguments) {
      if (argument.isTensor()) seen.push_back(argument.toTensor());
    }
    for (const at::Tensor& result : results(call)) {
      for (const at::Tensor& other : seen) {
        EXPECT_FALSE(result.is_alias_of(other)) << call.op;
      }
      seen.push_back(result);
    }
  }
}

TEST(Registration, SecondDerivativesAreRefused) {
  int refused = 0;
  for (const Call& call : calls([](const at::Tensor& x) { return x; }, at::kDouble)) {
    if (call.op.ends_with("_backward")) {
      continue;
    }
    Call tracked = call;
    const at::Tensor x = tracked.arguments[0].toTensor().requires_grad_(true);
    // Squared, so that the first gradient depends on x.
    const at::Tensor y = results(tracked)[0].square().sum();
    const auto first =
        torch::autograd::grad({y}, {x}, {}, /*retain_graph=*/true, /*create_graph=*/true);
    try {
      const auto second = torch::autograd::grad({first[0].sum()}, {x});
      ADD_FAILURE() << call.op << " returned a second derivative";
    } catch (const c10::Error& error) {
      EXPECT_NE(std::string(error.what_without_backtrace())
                    .find("derivative for hyena::" + call.op + "_backward is not implemented"),
                std::string::npos)
          << error.what_without_backtrace();
      ++refused;
    }
  }
  EXPECT_GT(refused, 8);
}

}  // namespace
}  // namespace hyena::ops
