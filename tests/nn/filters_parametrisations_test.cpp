// Each parametrisation against its definition in float64 loops (PAPER 7.1).
#include <cmath>
#include <complex>
#include <map>
#include <numbers>

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/nn/filters/parametrisations.h"
#include "hyena/nn/operators/hyena_operator.h"
#include "tests/nn/directional_gradcheck.h"

namespace hyena::nn {
namespace {

using Complex = std::complex<double>;
constexpr double kPi = std::numbers::pi;
constexpr std::int64_t kM = 2;
constexpr std::int64_t kD = 3;

FilterOptions small(std::int64_t l_max, std::int64_t size) {
  return {.channels = kD, .num_filters = kM, .l_max = l_max, .size = size, .width = 5};
}

/// A parameter as a float64 function of its indices.
class Values {
 public:
  Values(const LongFilter& filter, const std::string& name)
      : tensor_(filter.named_parameters()[name].detach().to(at::kDouble).contiguous()) {}
  double operator()(const std::vector<std::int64_t>& index) const {
    at::Tensor x = tensor_;
    for (const std::int64_t i : index) {
      x = x.select(0, i);
    }
    return x.item<double>();
  }
  [[nodiscard]] std::int64_t size(std::int64_t dim) const { return tensor_.size(dim); }

 private:
  at::Tensor tensor_;
};

/// h[o,d,s] of the definition.
using Definition = std::function<double(std::int64_t o, std::int64_t d, std::int64_t s)>;

/// In float64 every parametrisation is a sum of at most a few hundred products of factors of order
/// one: its rounding stays below 1e-12 of the largest tap.
void expect_definition(LongFilter& filter, std::int64_t length, const Definition& definition) {
  filter.to(at::kDouble);
  const torch::NoGradGuard no_grad;
  const at::Tensor h = filter.filters(length);
  ASSERT_EQ(h.size(0), kM);
  ASSERT_EQ(h.size(1), kD);
  const auto scale = h.abs().max().item<double>();
  ASSERT_GT(scale, 0.0);
  for (std::int64_t o = 0; o < kM; ++o) {
    for (std::int64_t d = 0; d < kD; ++d) {
      for (std::int64_t s = 0; s < h.size(2); ++s) {
        ASSERT_NEAR(h[o][d][s].item<double>(), definition(o, d, s), 1e-12 * scale)
            << "o " << o << ", d " << d << ", s " << s;
      }
    }
  }
}

TEST(Parametrisations, Conv1d) {
  Conv1dFilter filter(small(20, 7));
  const Values weight(filter, "weight");
  expect_definition(filter, 13, [&](auto o, auto d, auto s) { return weight({o, d, s}); });
  EXPECT_EQ(filter.filters(20).size(2), 7);
  EXPECT_EQ(filter.filters(4).size(2), 4) << "no more taps than samples";
}

TEST(Parametrisations, Fno) {
  for (const std::int64_t l_max : {12, 13}) {  // with l_max 12 the last mode is at n/2
    FnoFilter filter(small(l_max, 7));
    const Values modes(filter, "modes");
    expect_definition(filter, 9, [&](auto o, auto d, auto s) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < 7; ++k) {
        const double angle = 2 * kPi * static_cast<double>(k * s) / static_cast<double>(l_max);
        const Complex mode(modes({o, d, k, 0}), modes({o, d, k, 1}));
        sum += (k == 0 || 2 * k == l_max ? 1.0 : 2.0) * std::real(mode * std::polar(1.0, angle));
      }
      return sum / static_cast<double>(l_max);
    });
  }
}

double s4d_tap(const LongFilter& filter, const std::string& prefix, std::int64_t o, std::int64_t d,
               std::int64_t s, Discretisation discretisation) {
  const Values re(filter, prefix + "inv_A_real");
  const Values im(filter, prefix + "A_imag");
  const Values B(filter, prefix + "B");
  const Values C(filter, prefix + "C");
  const double dt = std::exp(Values(filter, prefix + "log_dt")({o, d}));
  Complex sum;
  for (std::int64_t n = 0; n < re.size(2); ++n) {
    const Complex A(-std::exp(re({o, d, n})), im({o, d, n}));
    const Complex BC =
        Complex(B({o, d, n, 0}), B({o, d, n, 1})) * Complex(C({o, d, n, 0}), C({o, d, n, 1}));
    const bool bilinear = discretisation == Discretisation::kBilinear;
    const Complex pole = bilinear ? (1.0 + dt * A / 2.0) / (1.0 - dt * A / 2.0) : std::exp(dt * A);
    Complex state = BC * (bilinear ? dt / (1.0 - dt * A / 2.0) : (pole - 1.0) / A);
    for (std::int64_t t = 0; t < s; ++t) {  // the recurrence itself
      state *= pole;
    }
    sum += state;
  }
  return 2.0 * sum.real();
}

TEST(Parametrisations, S4d) {
  for (const std::int64_t length : {1, 2, 17, 40}) {
    S4dFilter filter(small(40, 6));
    filter.to(at::kDouble);
    expect_definition(filter, length, [&](auto o, auto d, auto s) {
      return s4d_tap(filter, "kernel.", o, d, s, Discretisation::kBilinear);
    });
  }
}

/// A filter around a zero-order-hold kernel, to reach it by the same definition.
class ZeroOrderHold : public LongFilter {
 public:
  ZeroOrderHold()
      : kernel_(register_module("kernel", DiagonalSsm(kM, kD, 4, Discretisation::kZeroOrderHold))) {
  }
  at::Tensor filters(std::int64_t length) override { return kernel_->kernel(length); }
  at::Tensor skip() override { return {}; }

 private:
  DiagonalSsm kernel_{nullptr};
};

TEST(Parametrisations, S4dWithZeroOrderHold) {
  ZeroOrderHold filter;
  filter.to(at::kDouble);
  expect_definition(filter, 23, [&](auto o, auto d, auto s) {
    return s4d_tap(filter, "kernel.", o, d, s, Discretisation::kZeroOrderHold);
  });
}

TEST(Parametrisations, DiagonalKernelKeepsItsPhaseAt131072) {
  // |pole| = 1: nothing hides a wrong phase. One mode, so h[t] = 2 cos(t theta).
  const double theta = 2.718281828;
  const at::Tensor weight = at::ones({1, 1}, at::kComplexFloat);
  const at::Tensor pole = at::full({1, 1}, c10::complex<double>(0.0, theta), at::kComplexDouble);
  constexpr std::int64_t kLength = 131072;
  const at::Tensor h = diagonal_kernel(weight, pole, kLength);
  const at::Tensor exact = 2.0 * at::cos(theta * at::arange(kLength, at::kDouble));
  // Two factors and their product in float32, each rounded at most twice.
  EXPECT_LE((h[0].to(at::kDouble) - exact).abs().max().item<double>(), 2 * 8 * 0x1p-24);
}

TEST(Parametrisations, Shift) {
  ShiftFilter filter(small(20, 6));
  {
    const torch::NoGradGuard no_grad;
    EXPECT_LE(
        (filter.filters(20) - filter.named_parameters()["kernel.C"]).abs().max().item<float>(),
        1e-6)
        << "at first the filter is C";
    filter.named_parameters()["kernel.B"].normal_();
  }
  filter.to(at::kDouble);
  const Values B(filter, "kernel.B");
  const Values C(filter, "kernel.C");
  for (const std::int64_t length : {4, 20}) {
    expect_definition(filter, length, [&](auto o, auto d, auto s) {
      double sum = 0.0;
      for (std::int64_t m = 0; m + s < 6; ++m) {
        sum += B({o, d, m}) * C({o, d, m + s});
      }
      return sum;
    });
  }
}

TEST(Parametrisations, TransferFunction) {
  constexpr std::int64_t kLmax = 9;
  TransferFunctionFilter filter(small(kLmax, 4));
  filter.to(at::kDouble);
  const Values b(filter, "b");
  const Values a(filter, "a");
  const std::int64_t n = 2 * kLmax;
  expect_definition(filter, 8, [&](auto o, auto d, auto s) {
    Complex sum;
    for (std::int64_t j = 0; j < n; ++j) {
      const auto power = [&](std::int64_t k) {
        return std::polar(1.0, -2 * kPi * static_cast<double>(j * k) / n);
      };
      Complex numerator;
      Complex denominator = 1.0;
      for (std::int64_t k = 0; k < 4; ++k) {
        numerator += b({o, d, k}) * power(k);
        denominator += a({o, d, k}) * power(k + 1);
      }
      sum += numerator / denominator * power(-s);
    }
    return sum.real() / n;
  });
}

TEST(Parametrisations, StableTransferFunctionIsItsRecurrence) {
  // b = [1, 0], a = [-1/2, 0]: h_s = 2^-s, up to the response that wraps around, 2^-2 l_max.
  TransferFunctionFilter filter({.channels = 1, .num_filters = 1, .l_max = 32, .size = 2});
  filter.to(at::kDouble);
  const torch::NoGradGuard no_grad;
  filter.named_parameters()["b"].copy_(at::tensor({1.0, 0.0}));
  filter.named_parameters()["a"].copy_(at::tensor({-0.5, 0.0}));
  const at::Tensor h = filter.filters(32);
  for (std::int64_t s = 0; s < 32; ++s) {
    EXPECT_NEAR(h[0][0][s].item<double>(), std::ldexp(1.0, -static_cast<int>(s)), 1e-14);
  }
}

TEST(Parametrisations, CkConv) {
  FilterOptions options = small(12, 64);
  options.omega = 3.0;
  CkConvFilter filter(options);
  filter.to(at::kDouble);
  expect_definition(filter, 10, [&](auto o, auto d, auto s) {
    std::vector<double> x{-1.0 + 2.0 * static_cast<double>(s) / 11.0};
    for (const std::string layer : {"layers.0.", "layers.1.", "layers.2."}) {
      const Values v(filter, layer + "v");
      const Values g(filter, layer + "g");
      const Values bias(filter, layer + "bias");
      std::vector<double> y;
      for (std::int64_t i = 0; i < v.size(0); ++i) {
        double norm = 0.0;
        double sum = 0.0;
        for (std::int64_t j = 0; j < v.size(1); ++j) {
          norm += v({i, j}) * v({i, j});
          sum += v({i, j}) * x[static_cast<std::size_t>(j)];
        }
        sum = sum * g({i, 0}) / std::sqrt(norm) + bias({i});
        y.push_back(layer == "layers.2." ? sum : std::sin(3.0 * sum));
      }
      x = y;
    }
    return x[static_cast<std::size_t>(o * kD + d)];
  });
}

TEST(Parametrisations, ExplicitLongConv) {
  FilterOptions options = small(11, 64);
  options.threshold = 0.01;
  ExplicitFilter filter(options);
  filter.to(at::kDouble);
  const Values kernel(filter, "kernel");
  std::int64_t zeros = 0;
  expect_definition(filter, 8, [&](auto o, auto d, auto s) {
    const double k = kernel({o, d, s});
    zeros += std::abs(k) <= 0.01;
    return std::abs(k) <= 0.01 ? 0.0 : k - std::copysign(0.01, k);
  });
  EXPECT_GT(zeros, 0);
}

struct Case {
  const char* name;
  std::int64_t parameters;  // of M = 2, D = 3, l_max = 16, S = 4, W = 5, without the skip
};

class Every : public ::testing::TestWithParam<Case> {
 protected:
  static std::shared_ptr<LongFilter> make(std::int64_t l_max = 16) {
    return make_filter(
        GetParam().name,
        {.channels = kD, .num_filters = kM, .l_max = l_max, .emb_dim = 3, .filter_order = 5},
        small(l_max, 4));
  }
};

TEST_P(Every, CountsAsDocumented) {
  std::int64_t count = 0;
  const auto filter = make();
  for (const at::Tensor& parameter : filter->parameters()) {
    count += parameter.numel();
  }
  EXPECT_EQ(count, GetParam().parameters + kM * kD);
  EXPECT_EQ(filter->skip().sizes(), (std::vector<std::int64_t>{kM, kD}));
}

TEST_P(Every, ShorterInputsGetAPrefix) {
  const auto filter = make();
  const torch::NoGradGuard no_grad;
  filter->eval();
  const at::Tensor whole = filter->filters(16);
  for (const std::int64_t length : {1, 2, 5, 15}) {
    const at::Tensor part = filter->filters(length);
    ASSERT_EQ(part.size(2), std::min(length, whole.size(2)));
    // Equal sums in another order: ten roundings of the largest tap.
    EXPECT_LE((part - whole.narrow(2, 0, part.size(2))).abs().max().item<float>(),
              10 * 0x1p-24F * whole.abs().max().item<float>());
  }
}

TEST_P(Every, GradientsAgreeWithDifferences) {
  torch::manual_seed(11);
  const auto filter = make();
  testing_support::expect_module_gradients(*filter, [&] {
    return at::cat({filter->filters(13), filter->skip().unsqueeze(-1)}, -1);
  });
}

TEST_P(Every, ServesTheOperator) {
  torch::manual_seed(3);
  HyenaOperator op(HyenaOperatorOptions{.d_model = kD,
                                        .order = 3,
                                        .l_max = 16,
                                        .filter_name = GetParam().name,
                                        .other_filter = {.size = 4, .width = 5}});
  op->to(at::kDouble);
  at::Tensor u = at::randn({2, 12, kD}, at::kDouble).set_requires_grad(true);
  const at::Tensor y = op->forward(u);
  ASSERT_EQ(y.sizes(), u.sizes());
  const at::Tensor past = torch::autograd::grad({y.select(1, 7).sum()}, {u})[0];
  EXPECT_GT(past.narrow(1, 0, 8).abs().max().item<double>(), 1e-6);
  EXPECT_LE(past.narrow(1, 8, 4).abs().max().item<double>(), 1e-12) << "the future";
}

TEST_P(Every, AutocastLeavesTheFiltersAlone) {
  torch::manual_seed(3);
  const torch::NoGradGuard no_grad;
  HyenaOperator op(HyenaOperatorOptions{.d_model = kD,
                                        .l_max = 16,
                                        .filter_name = GetParam().name,
                                        .other_filter = {.size = 4, .width = 5}});
  const at::Tensor exact = op->filters(12);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const at::Tensor mixed = op->filters(12);
  const at::Tensor y = op->forward(at::randn({1, 12, kD}));
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  EXPECT_TRUE(at::equal(mixed, exact));
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
}

TEST_P(Every, RefusesWhatIsTooLong) {
  EXPECT_THROW((void)make()->filters(17), UserError);
}

INSTANTIATE_TEST_SUITE_P(Parametrisations, Every,
                         ::testing::Values(Case{"hyena", 16 * 3 + (15 + 5) + 2 * 30 + 5 + 30},
                                           Case{"conv1d", 24}, Case{"fno", 48},
                                           Case{"s4d", 3 * 24 + 6}, Case{"shift", 48},
                                           Case{"transfer_function", 48},
                                           Case{"ckconv", 15 + 25 + 10 + 30 + 12},
                                           Case{"long_conv", 96}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Parametrisations, InitialScales) {
  torch::manual_seed(1);
  const FilterOptions options{.channels = 64, .num_filters = 1, .l_max = 256, .size = 64};
  const auto rms = [&](LongFilter& filter, const char* name) {
    return filter.named_parameters()[name].detach().square().mean().sqrt().item<double>();
  };
  Conv1dFilter conv(options);
  FnoFilter fno(options);
  ShiftFilter shift(options);
  CkConvFilter ckconv(options);
  // 4096 normal samples: the rms is within 5 / sqrt(2 * 4096) = 5.5 % (five deviations).
  EXPECT_NEAR(rms(conv, "weight"), 1.0 / 8, 0.055 / 8);
  EXPECT_NEAR(rms(fno, "modes"), 1.0 / 8, 0.055 / 8);
  EXPECT_NEAR(rms(shift, "kernel.C"), 1.0 / 8 / std::sqrt(3.0), 0.055 / 8);
  EXPECT_NEAR(rms(ckconv, "layers.1.v"), std::sqrt(6.0 / 32) / 10 / std::sqrt(3.0), 0.003);
}

void expect_error(const std::function<void()>& act, const std::string& message) {
  try {
    act();
    FAIL() << "expected: " << message;
  } catch (const UserError& error) {
    EXPECT_EQ(error.what(), message);
  }
}

TEST(Parametrisations, ErrorsTeach) {
  expect_error([] { (void)make_filter("s4", {}, {}); },
               "filter: expected one of hyena, conv1d, fno, s4d, shift, transfer_function, ckconv, "
               "long_conv, got 's4', did you mean 's4d'?");
  expect_error([] { (void)make_filter("fno", {}, {.l_max = 16, .size = 10}); },
               "filter_size: expected at most l_max/2 + 1 = 9 modes, got 10");
  expect_error([] { (void)make_filter("s4d", {}, {.size = 3}); },
               "state size: expected an even number of at least 2, got 3");
  expect_error([] { (void)make_filter("conv1d", {}, {.size = 0}); },
               "filter_size: expected at least 1, got 0");
}

}  // namespace
}  // namespace hyena::nn
