// Every refusal, word for word: which op, which argument, what was expected, what came.
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/ops/hyena_matrix.h"
#include "hyena/ops/hyena_mixer.h"
#include "hyena/ops/implicit_filter.h"
#include "hyena/ops/long_conv.h"
#include "hyena/ops/short_conv.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using testing_support::value_error_of;

at::Tensor f32(at::IntArrayRef sizes) {
  return at::ones(sizes);
}
at::Tensor f64(at::IntArrayRef sizes) {
  return at::ones(sizes, at::kDouble);
}

TEST(Errors, ShortConv) {
  const auto error = [](const at::Tensor& p, const at::Tensor& weight,
                        const std::optional<at::Tensor>& bias = std::nullopt) {
    return value_error_of([&] { (void)short_conv(p, weight, bias); });
  };
  EXPECT_EQ(error(f32({3, 7}), f32({3, 2})),
            "[short_conv] p: expected shape (B, C, L), got (3, 7): rank differs.");
  EXPECT_EQ(error(f32({2, 3, 7}), f32({4, 2})),
            "[short_conv] weight: expected shape (C=3, T), got (4, 2): C differs.");
  EXPECT_EQ(error(f32({2, 3, 7}), f32({3, 1, 2})),
            "[short_conv] weight: expected shape (C=3, T), got (3, 1, 2): rank differs.");
  EXPECT_EQ(error(f32({2, 3, 7}), f32({3, 0})),
            "[short_conv] weight: expected at least one tap, got 0.");
  EXPECT_EQ(error(f32({2, 3, 7}), f32({3, 2}), f32({2})),
            "[short_conv] bias: expected shape (C=3), got (2): C differs.");
  EXPECT_EQ(error(f32({2, 3, 7}), f64({3, 2})),
            "[short_conv] weight: expected Float for an input of Float, got Double.");
  EXPECT_EQ(error(at::ones({2, 3, 7}, at::kBFloat16), at::ones({3, 2}, at::kHalf)),
            "[short_conv] weight: expected BFloat16 or Float for an input of BFloat16, got Half.");
  EXPECT_EQ(error(f32({2, 3, 7}), f32({3, 2}), f64({3})),
            "[short_conv] bias: expected Float for an input of Float, got Double.");
  EXPECT_EQ(error(at::ones({2, 3, 7}, at::kInt), f32({3, 2})),
            "[short_conv] p: expected float32, float64, bfloat16 or float16, got Int.");
}

TEST(Errors, LongConv) {
  using Optional = std::optional<at::Tensor>;
  const auto error = [](const at::Tensor& u, const at::Tensor& h, const Optional& skip = {},
                        const Optional& reverse = {}) {
    return value_error_of([&] { (void)long_conv(u, h, skip, reverse); });
  };
  const at::Tensor u = f32({2, 3, 7});
  EXPECT_EQ(error(f32({7}), f32({3, 7})),
            "[long_conv] u: expected shape (B, D, L), got (7): rank differs.");
  EXPECT_EQ(error(u, f32({5, 7})),
            "[long_conv] h: expected shape (D=3, K), got (5, 7): D differs.");
  EXPECT_EQ(error(u, f32({3, 8})),
            "[long_conv] h: expected 1 <= K <= L=7 taps, got K=8: cut the filter to its first L "
            "taps.");
  EXPECT_EQ(error(u, f32({3, 0})),
            "[long_conv] h: expected 1 <= K <= L=7 taps, got K=0: cut the filter to its first L "
            "taps.");
  EXPECT_EQ(error(u, f64({3, 7})),
            "[long_conv] h: expected Float for an input of Float, got Double.");
  EXPECT_EQ(error(u.to(at::kBFloat16), at::ones({3, 7}, at::kBFloat16)),
            "[long_conv] h: expected float32 or float64, got BFloat16: filters keep full "
            "precision, only u may be half precision.");
  EXPECT_EQ(error(u, f32({3, 7}), f32({4})),
            "[long_conv] skip: expected shape (D=3), got (4): D differs.");
  EXPECT_EQ(error(u, f32({3, 7}), f64({3})),
            "[long_conv] skip: expected Float for an input of Float, got Double.");
  EXPECT_EQ(error(u, f32({3, 7}), {}, f32({3, 6})),
            "[long_conv] reverse: expected shape (D=3, K=7), got (3, 6): K differs.");
  EXPECT_EQ(error(u, f32({3, 7}), {}, f32({2, 6})),
            "[long_conv] reverse: expected shape (D=3, K=7), got (2, 6): D, K differs.");
  EXPECT_EQ(error(at::ones({2, 3, 7}, at::kComplexFloat), f32({3, 7})),
            "[long_conv] u: expected float32, float64, bfloat16 or float16, got ComplexFloat.");
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("hyena::long_conv", "");
  EXPECT_EQ(value_error_of([&] {
              torch::jit::Stack stack{u, f32({3, 7}), c10::IValue(), c10::IValue(), "fast"};
              op.callBoxed(&stack);
            }),
            "[long_conv] algorithm: expected 'auto', 'direct' or 'fft', got 'fast'.");
}

TEST(Errors, HyenaMixer) {
  using Optional = std::optional<at::Tensor>;
  const auto error = [](const at::Tensor& p, const at::Tensor& weight, const Optional& bias,
                        const at::Tensor& h, const Optional& skip = {},
                        MixerMode mode = MixerMode::kSafari) {
    return value_error_of([&] { (void)hyena_mixer(p, weight, bias, h, skip, mode); });
  };
  const at::Tensor p = f32({2, 9, 7});
  const at::Tensor weight = f32({9, 3});
  const at::Tensor h = f32({1, 3, 7});
  EXPECT_EQ(error(f32({9, 7}), weight, {}, h),
            "[hyena_mixer] p: expected shape (B, C, L), got (9, 7): rank differs.");
  EXPECT_EQ(error(p, weight, {}, f32({3, 7})),
            "[hyena_mixer] h: expected shape (M, D, K), got (3, 7): rank differs.");
  EXPECT_EQ(error(p, weight, {}, f32({0, 3, 7})),
            "[hyena_mixer] h: expected M >= 1 filters (order 2 in safari mode has one), got 0.");
  EXPECT_EQ(error(f32({2, 8, 7}), weight, {}, h),
            "[hyena_mixer] p: expected (N+1) D = 9 channels for h of M=1, D=3 in safari mode, got "
            "8.");
  EXPECT_EQ(error(p, weight, {}, h, {}, MixerMode::kPaper),
            "[hyena_mixer] p: expected (N+1) D = 6 channels for h of M=1, D=3 in paper mode, got "
            "9.");
  EXPECT_EQ(error(p, weight, {}, f32({1, 3, 8})),
            "[hyena_mixer] h: expected 1 <= K <= L=7 taps, got K=8: cut the filter to its first L "
            "taps.");
  EXPECT_EQ(error(p, f32({8, 3}), {}, h),
            "[hyena_mixer] short_weight: expected shape (C=9, T), got (8, 3): C differs.");
  EXPECT_EQ(error(p, f32({9, 0}), {}, h),
            "[hyena_mixer] short_weight: expected at least one tap, got 0.");
  EXPECT_EQ(error(p, weight, f32({3}), h),
            "[hyena_mixer] short_bias: expected shape (C=9), got (3): C differs.");
  EXPECT_EQ(error(p, weight, {}, h, f32({3})),
            "[hyena_mixer] skip: expected shape (M=1, D=3), got (3): rank differs.");
  EXPECT_EQ(error(p, weight, {}, f64({1, 3, 7})),
            "[hyena_mixer] h: expected Float for an input of Float, got Double.");
  EXPECT_EQ(error(p.to(at::kHalf), weight, {}, h.to(at::kHalf)),
            "[hyena_mixer] h: expected float32 or float64, got Half.");
  EXPECT_EQ(error(p, f64({9, 3}), {}, h),
            "[hyena_mixer] short_weight: expected Float for an input of Float, got Double.");
  EXPECT_EQ(value_error_of([] { (void)mixer_mode("standalone"); }),
            "[hyena_mixer] mode: expected 'safari' or 'paper', got 'standalone'.");
}

TEST(Errors, ImplicitFilter) {
  std::vector<at::Tensor> weights{f32({4, 5}), f32({4, 4}), f32({6, 4})};
  std::vector<at::Tensor> biases{f32({4}), f32({4})};
  FilterWindow window{.t_K = f32({9}), .deltas_C = f32({6})};
  at::Tensor z = f32({9, 5});
  at::Tensor freq = f32({4});
  std::int64_t M = 2;
  const auto error = [&] {
    return value_error_of([&] {
      (void)implicit_filter(z, weights, biases, freq, window, M, ChannelLayout::kSafari);
    });
  };
  const auto with = [&](auto& place, auto value) {
    const auto kept = std::exchange(place, std::move(value));
    std::string message = error();
    place = kept;
    return message;
  };
  EXPECT_EQ(with(z, f32({9})),
            "[implicit_filter] z: expected shape (K, E), got (9): rank differs.");
  EXPECT_EQ(with(z, at::ones({9, 5}, at::kBFloat16)),
            "[implicit_filter] z: expected float32 or float64, got BFloat16.");
  EXPECT_EQ(with(z, f32({9, 3})),
            "[implicit_filter] weights[0]: expected shape (W=4, E=3), got (4, 5): E differs.");
  EXPECT_EQ(with(z, f32({8, 5})), "[implicit_filter] t: expected shape (K=8), got (9): K differs.");
  EXPECT_EQ(with(biases, std::vector<at::Tensor>{f32({4})}),
            "[implicit_filter] weights: expected at least two, and a bias for every one but the "
            "last, got 3 weights and 1 biases.");
  EXPECT_EQ(with(biases[1], f32({5})),
            "[implicit_filter] biases[1]: expected shape (W=4), got (5): W differs.");
  EXPECT_EQ(with(biases[1], f64({4})),
            "[implicit_filter] biases[1]: expected Float for an input of Float, got Double.");
  EXPECT_EQ(with(weights[1], f32({4, 3})),
            "[implicit_filter] weights[1]: expected shape (W=4, W=4), got (4, 3): W differs.");
  EXPECT_EQ(with(weights[2], f64({6, 4})),
            "[implicit_filter] weights[2]: expected Float for an input of Float, got Double.");
  EXPECT_EQ(with(freq, f32({1, 4})),
            "[implicit_filter] freq: expected shape (W=4), got (1, 4): rank differs.");
  EXPECT_EQ(with(M, std::int64_t{4}),
            "[implicit_filter] num_filters: expected a divisor of C=6, got 4.");
  EXPECT_EQ(with(window.deltas_C, at::Tensor()),
            "[implicit_filter] t and deltas: expected both or neither.");
  EXPECT_EQ(with(window.deltas_C, f32({3})),
            "[implicit_filter] deltas: expected shape (C=6), got (3): C differs.");
  EXPECT_EQ(with(window.t_K, f64({9})),
            "[implicit_filter] t: expected Float for an input of Float, got Double.");
  EXPECT_EQ(value_error_of([] { (void)channel_layout("v o"); }),
            "[implicit_filter] layout: expected 'safari' or 'standalone', got 'v o'.");
}

TEST(Errors, HyenaMatrix) {
  EXPECT_EQ(value_error_of([] {
              (void)hyena_matrix(f32({2, 8, 7}), f32({1, 3, 7}));
            }),
            "[hyena_matrix] q: expected shape (B, C=9, L), got (2, 8, 7): C differs.");
  EXPECT_EQ(value_error_of([] {
              (void)hyena_matrix(f32({2, 9, 7}), f32({3, 7}));
            }),
            "[hyena_matrix] h: expected shape (M, D, K), got (3, 7): rank differs.");
  EXPECT_EQ(value_error_of([] { (void)toeplitz_matrix(f32({7}), 7); }),
            "[toeplitz_matrix] h: expected shape (D, K), got (7): rank differs.");
}

/// The backward ops are public, too: what they are given is checked like the forward's arguments.
TEST(Errors, Backward) {
  const auto error = [](const char* op, torch::jit::Stack stack) {
    return value_error_of([&] {
      c10::Dispatcher::singleton()
          .findSchemaOrThrow((std::string("hyena::") + op).c_str(), "")
          .callBoxed(&stack);
    });
  };
  const c10::IValue none;
  const at::Tensor u = f32({2, 3, 7});
  EXPECT_EQ(error("short_conv_backward", {f32({2, 3, 6}), u, f32({3, 2}), true}),
            "[short_conv_backward] dq: expected shape (B=2, C=3, L=7), got (2, 3, 6): L differs.");
  EXPECT_EQ(error("short_conv_backward", {u, u, f32({4, 2}), true}),
            "[short_conv] weight: expected shape (C=3, T), got (4, 2): C differs.");
  EXPECT_EQ(error("long_conv_backward", {f32({1, 1, 1}), u, f32({3, 7}), none, none, "auto"}),
            "[long_conv_backward] dy: expected shape (B=2, D=3, L=7), got (1, 1, 1): B, D, L "
            "differs.");
  EXPECT_EQ(error("long_conv_backward", {u, u, f32({3, 7}), f32({1}), none, "auto"}),
            "[long_conv] skip: expected shape (D=3), got (1): D differs.");
  const at::Tensor p = f32({2, 9, 7});
  EXPECT_EQ(error("hyena_mixer_backward",
                  {f64({2, 3, 7}), p, f32({9, 3}), none, f32({1, 3, 7}), none, "safari"}),
            "[hyena_mixer_backward] dy: expected Float for an input of Float, got Double.");
  EXPECT_EQ(error("hyena_mixer_backward",
                  {f32({2, 9, 7}), p, f32({9, 3}), none, f32({1, 3, 7}), none, "safari"}),
            "[hyena_mixer_backward] dy: expected shape (B=2, D=3, L=7), got (2, 9, 7): D differs.");
  EXPECT_EQ(
      error("hyena_mixer_backward", {u, p, f32({9, 3}), none, f32({1, 3, 8}), none, "safari"}),
      "[hyena_mixer] h: expected 1 <= K <= L=7 taps, got K=8: cut the filter to its first L "
      "taps.");
  const std::vector<at::Tensor> weights{f32({4, 5}), f32({6, 4})};
  EXPECT_EQ(error("implicit_filter_backward",
                  {f32({1, 1, 1}), f32({9, 5}), weights, std::vector<at::Tensor>{f32({4})},
                   f32({4}), none, none, 0.0, false, 2, "safari"}),
            "[implicit_filter_backward] dh: expected shape (M=2, D=3, K=9), got (1, 1, 1): M, D, K "
            "differs.");
}

}  // namespace
}  // namespace hyena::ops
