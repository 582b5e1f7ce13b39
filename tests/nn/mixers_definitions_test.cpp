// Every mixer against its O(L^2) definition in float64, causality, gradients, and the identities of
// the paper (Remark 3.2).
#include <algorithm>
#include <cmath>
#include <memory>

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/nn/operators/aft.h"
#include "hyena/nn/operators/attention.h"
#include "hyena/nn/operators/gss.h"
#include "hyena/nn/operators/h3.h"
#include "hyena/nn/operators/linear_attention.h"
#include "hyena/nn/operators/rwkv.h"
#include "hyena/nn/operators/scan.h"
#include "hyena/ops/hyena_mixer.h"
#include "tests/nn/directional_gradcheck.h"

namespace hyena::nn {
namespace {

constexpr std::int64_t kD = 4;

/// The largest difference is below 1e-11 of the largest value: float64 sums of at most a few
/// hundred terms of order one.
void expect_close(const at::Tensor& actual, const at::Tensor& expected) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_LE((actual - expected).abs().max().item<double>(),
            1e-11 * expected.abs().max().item<double>());
}

at::Tensor parameter(const torch::nn::Module& module, const std::string& name) {
  return module.named_parameters()[name];
}

at::Tensor project(const torch::nn::Module& module, const std::string& name, const at::Tensor& u) {
  return at::linear(u, parameter(module, name + ".weight"), parameter(module, name + ".bias"));
}

/// S[t,s] = h[t-s], and skip on the diagonal: (L, L).
at::Tensor toeplitz(const at::Tensor& h, const at::Tensor& skip, std::int64_t L) {
  at::Tensor S = at::zeros({L, L}, h.options());
  for (std::int64_t t = 0; t < L; ++t) {
    for (std::int64_t s = std::max<std::int64_t>(0, t - h.size(0) + 1); s <= t; ++s) {
      S[t][s] = h[t - s] + (t == s ? skip : at::zeros_like(skip));
    }
  }
  return S;
}

/// sum_s softmax over s <= t of score[t,s,d], times v[s,d]: (B, L, D).
at::Tensor softmax_average(const at::Tensor& score_BTSD, const at::Tensor& v_BLD) {
  const std::int64_t L = v_BLD.size(1);
  at::Tensor y = at::zeros_like(v_BLD);
  for (std::int64_t t = 0; t < L; ++t) {
    const at::Tensor weights = at::softmax(score_BTSD.select(1, t).narrow(1, 0, t + 1), 1);
    y.select(1, t).copy_((weights * v_BLD.narrow(1, 0, t + 1)).sum(1));
  }
  return y;
}

template <typename M>
M in_float64(M module) {
  module->to(at::kDouble);
  return module;
}

class Mixers : public ::testing::Test {
 protected:
  void SetUp() override { torch::manual_seed(5); }
  torch::NoGradGuard no_grad_;
};

TEST_F(Mixers, RunningMeanIsItsDefinition) {
  for (const std::int64_t L : {1, 2, 7, 64, 65}) {
    const at::Tensor k = 30.0 * at::randn({2, 3, L}, at::kDouble);  // no common scale
    const at::Tensor v = at::randn_like(k);
    const at::Tensor decay = at::tensor({0.0, 0.4, 20.0}, at::kDouble);
    const auto [s, m] = running_mean(k, v, decay);
    for (std::int64_t t = 0; t < L; ++t) {
      const at::Tensor age = t - at::arange(t + 1, at::kDouble);
      const at::Tensor logs = k.narrow(2, 0, t + 1) - decay.unsqueeze(1) * age;
      expect_close(s.select(2, t), at::logsumexp(logs, {2}));
      expect_close(m.select(2, t), (at::softmax(logs, 2) * v.narrow(2, 0, t + 1)).sum(2));
    }
  }
}

TEST_F(Mixers, RunningMeanGradients) {
  const at::AutoGradMode enable(true);
  at::Tensor k = at::randn({2, 3, 11}, at::kDouble).set_requires_grad(true);
  at::Tensor v = at::randn({2, 3, 11}, at::kDouble).set_requires_grad(true);
  at::Tensor decay = at::rand({3}, at::kDouble).set_requires_grad(true);
  testing_support::expect_gradients(
      [&] {
        const auto [s, m] = running_mean(k, v, decay);
        return at::cat({s, m}, -1);
      },
      {{"k", k}, {"v", v}, {"decay", decay}});
}

TEST_F(Mixers, RunningMeanNeverSeesTheFuture) {
  const at::Tensor k = at::randn({1, 2, 100});
  const at::Tensor v = at::randn({1, 2, 100});
  const at::Tensor decay = at::tensor({0.0F, 0.1F});
  const at::Tensor before = running_mean(k, v, decay).second.narrow(2, 0, 60).clone();
  k.narrow(2, 60, 40).fill_(1e30F);
  v.narrow(2, 60, 40).fill_(-1e30F);
  EXPECT_TRUE(at::equal(running_mean(k, v, decay).second.narrow(2, 0, 60), before)) << "to the bit";
}

TEST_F(Mixers, H3IsItsDefinition) {
  const std::int64_t L = 9;
  for (const std::int64_t head_dim : {1, 2}) {
    auto h3 = in_float64(H3(H3Options{.d_model = kD, .d_state = 4, .head_dim = head_dim}));
    const at::Tensor u = at::randn({2, L, kD}, at::kDouble);
    const at::Tensor q = project(*h3, "q_proj", u);
    const at::Tensor k = project(*h3, "k_proj", u);
    const at::Tensor v = project(*h3, "v_proj", u);
    // The kernels are tested with the filters; here they are read from two modules that share the
    // parameters' values.
    auto shift = in_float64(ShiftSsm(1, kD, 4));
    auto diagonal = in_float64(DiagonalSsm(1, kD / head_dim, 4));
    for (const auto& [module, prefix] :
         {std::pair<torch::nn::Module*, std::string>(shift.get(), "ssm_k_kernel.kernel."),
          std::pair<torch::nn::Module*, std::string>(diagonal.get(), "kernel.kernel.")}) {
      for (auto& entry : module->named_parameters()) {
        entry.value().copy_(parameter(*h3, prefix + entry.key()));
      }
    }
    const at::Tensor h_shift = shift->kernel(L)[0];
    const at::Tensor h_diagonal = diagonal->kernel(L)[0];
    at::Tensor y = at::zeros_like(u);
    for (std::int64_t c = 0; c < kD; ++c) {  // output channel, index of v in its head
      const std::int64_t head = c / head_dim;
      const at::Tensor S = toeplitz(h_diagonal[head], parameter(*h3, "D")[head], L);
      for (std::int64_t i = head * head_dim; i < (head + 1) * head_dim; ++i) {
        const at::Tensor S_shift = toeplitz(h_shift[i], parameter(*h3, "ssm_k_D")[i], L);
        const at::Tensor kt = at::matmul(k.select(2, i), S_shift.t());
        y.select(2, c) += q.select(2, i) * at::matmul(kt * v.select(2, c), S.t());
      }
    }
    expect_close(h3->forward(u), project(*h3, "out_proj", y));
  }
}

TEST_F(Mixers, H3IsHyenaOfOrderTwo) {
  const std::int64_t L = 33;
  auto h3 = in_float64(H3(H3Options{.d_model = kD, .d_state = 8}));
  auto shift = in_float64(ShiftSsm(1, kD, 8));
  auto diagonal = in_float64(DiagonalSsm(1, kD, 8));
  for (auto& entry : shift->named_parameters()) {
    entry.value().copy_(parameter(*h3, "ssm_k_kernel.kernel." + entry.key()));
  }
  for (auto& entry : diagonal->named_parameters()) {
    entry.value().copy_(parameter(*h3, "kernel.kernel." + entry.key()));
  }
  const at::Tensor q = at::randn({2, kD, L}, at::kDouble);
  const at::Tensor k = at::randn({2, kD, L}, at::kDouble);
  const at::Tensor v = at::randn({2, kD, L}, at::kDouble);
  // x^1 = v, x^2 = q, and k is what passes; h^1 = shift + ssm_k_D delta, h^2 = diagonal + D delta.
  at::Tensor h = at::zeros({2, kD, L}, at::kDouble);
  h[0].narrow(1, 0, 8).copy_(shift->kernel(L)[0]);
  h[1].copy_(diagonal->kernel(L)[0]);
  h[0].select(1, 0) += parameter(*h3, "ssm_k_D");
  h[1].select(1, 0) += parameter(*h3, "D");
  const at::Tensor identity = at::ones({3 * kD, 1}, at::kDouble);
  expect_close(h3->mix(q, k, v), ops::hyena_mixer(at::cat({v, q, k}, 1), identity, std::nullopt, h,
                                                  std::nullopt, ops::MixerMode::kPaper));
}

TEST_F(Mixers, GssCoreIsHyenaOfOrderOne) {
  const std::int64_t L = 21;
  auto gss =
      in_float64(Gss(GssOptions{.d_model = kD, .d_state = 5, .expansion = 1, .activation = "id"}));
  parameter(*gss, "state_proj.weight").copy_(at::eye(kD));
  parameter(*gss, "state_proj.bias").zero_();
  const at::Tensor u = at::randn({2, L, kD}, at::kDouble);
  const at::Tensor a = project(*gss, "gate_proj", u).transpose(1, 2);
  const at::Tensor v = project(*gss, "in_proj", u).transpose(1, 2);
  at::Tensor h = gss->kernel(L).unsqueeze(0).clone();
  h[0].select(1, 0) += parameter(*gss, "D");
  const at::Tensor y = ops::hyena_mixer(at::cat({a, v}, 1), at::ones({2 * kD, 1}, at::kDouble),
                                        std::nullopt, h, std::nullopt, ops::MixerMode::kPaper);
  expect_close(gss->forward(u), project(*gss, "out_proj", y.transpose(1, 2)));
}

TEST_F(Mixers, GssIsItsDefinition) {
  const std::int64_t L = 12;
  auto gss = in_float64(Gss(GssOptions{.d_model = kD, .d_state = 6}));
  const at::Tensor re = -at::exp(parameter(*gss, "Lambda_real"));
  const at::Tensor im = at::exp(parameter(*gss, "Lambda_imag"));
  const at::Tensor Lambda = at::complex(re, im);
  const at::Tensor C = at::view_as_complex(parameter(*gss, "C"));
  const at::Tensor gate = at::gelu(project(*gss, "gate_proj", at::ones({1, 1, kD}, at::kDouble)));
  ASSERT_EQ(gate.size(2), 4 * kD) << "the gate is four times as wide";
  const at::Tensor u = at::randn({2, L, kD}, at::kDouble);
  const at::Tensor v = at::gelu(project(*gss, "in_proj", u));
  at::Tensor s = at::zeros_like(v);
  for (std::int64_t d = 0; d < kD; ++d) {
    std::vector<at::Tensor> taps;
    for (std::int64_t t = 0; t < L; ++t) {
      const auto time = static_cast<double>(t);
      taps.push_back(
          at::real((C[d] * (at::exp(Lambda) - 1.0) / Lambda * at::exp(Lambda * time)).sum()));
    }
    const at::Tensor S = toeplitz(at::stack(taps), parameter(*gss, "D")[d], L);
    s.select(2, d).copy_(at::matmul(v.select(2, d), S.t()));
  }
  const at::Tensor y = project(*gss, "state_proj", s) * at::gelu(project(*gss, "gate_proj", u));
  expect_close(gss->forward(u), project(*gss, "out_proj", y));
}

TEST_F(Mixers, AftIsItsDefinition) {
  for (const std::int64_t L : {1, 3, 4, 5, 8, 18}) {
    const AftOptions options{.d_model = kD, .num_heads = 2, .window = 4, .l_max = 20};
    auto conv = in_float64(AftConv(options));
    auto full = in_float64(AftFull(options));
    parameter(*conv, "w").normal_();
    parameter(*full, "w").normal_();
    const at::Tensor u = 3.0 * at::randn({2, L, kD}, at::kDouble);
    for (Mixer* mixer : {static_cast<Mixer*>(conv.get()), static_cast<Mixer*>(full.get())}) {
      at::Tensor score = project(*mixer, "k_proj", u).unsqueeze(1).expand({2, L, L, kD}).clone();
      const at::Tensor w = parameter(*mixer, "w");
      for (std::int64_t t = 0; t < L; ++t) {
        for (std::int64_t s = 0; s <= t; ++s) {
          if (mixer == full.get()) {
            score.select(1, t).select(1, s) += w[t][s];
          } else if (t - s < 4) {
            score.select(1, t).select(1, s).narrow(1, 0, 2) += w[0][t - s];
            score.select(1, t).select(1, s).narrow(1, 2, 2) += w[1][t - s];
          }
        }
      }
      const at::Tensor y = at::sigmoid(project(*mixer, "q_proj", u)) *
                           softmax_average(score, project(*mixer, "v_proj", u));
      expect_close(mixer->forward(u), project(*mixer, "out_proj", y));
    }
  }
}

TEST_F(Mixers, RwkvIsItsDefinition) {
  const std::int64_t L = 14;
  auto rwkv = in_float64(Rwkv(RwkvOptions{.d_model = kD, .layer = 1, .n_layer = 2}));
  for (const char* name : {"key.weight", "receptance.weight", "out_proj.weight"}) {
    parameter(*rwkv, name).normal_();  // zero at first
  }
  const at::Tensor u = at::randn({2, L, kD}, at::kDouble);
  at::Tensor earlier = at::zeros_like(u);
  earlier.narrow(1, 1, L - 1).copy_(u.narrow(1, 0, L - 1));
  const auto mixed = [&](const std::string& mu, const std::string& weight) {
    const at::Tensor x = parameter(*rwkv, mu);
    return at::matmul(x * u + (1.0 - x) * earlier, parameter(*rwkv, weight).t());
  };
  const at::Tensor k = mixed("time_mix_k", "key.weight");
  const at::Tensor v = mixed("time_mix_v", "value.weight");
  const at::Tensor r = mixed("time_mix_r", "receptance.weight");
  const at::Tensor decay = at::exp(parameter(*rwkv, "time_decay"));
  at::Tensor score = k.unsqueeze(1).expand({2, L, L, kD}).clone();
  for (std::int64_t t = 0; t < L; ++t) {
    score.select(1, t).select(1, t) += parameter(*rwkv, "time_first");
    for (std::int64_t s = 0; s < t; ++s) {
      score.select(1, t).select(1, s) -= static_cast<double>(t - 1 - s) * decay;
    }
  }
  const at::Tensor y = at::sigmoid(r) * softmax_average(score, v);
  expect_close(rwkv->forward(u), at::matmul(y, parameter(*rwkv, "out_proj.weight").t()));
}

TEST_F(Mixers, RwkvStartsAsPublished) {
  const Rwkv rwkv(RwkvOptions{.d_model = 8, .layer = 1, .n_layer = 3});
  const auto at_channel = [&](const char* name, std::int64_t h) {
    return parameter(*rwkv, name)[h].item<double>();
  };
  const double kEps = 8 * 0x1p-23;  // float32 powers and sums of numbers up to 8
  EXPECT_NEAR(at_channel("time_decay", 3), -5 + 8 * std::pow(3.0 / 7, 0.7 + 1.3 / 2), kEps);
  EXPECT_NEAR(at_channel("time_first", 0), std::log(0.3) + 0.5 * (1 - 1), kEps);
  EXPECT_NEAR(at_channel("time_first", 2), std::log(0.3) - 0.5, kEps);
  EXPECT_NEAR(at_channel("time_mix_k", 5), std::pow(5.0 / 8, 2.0 / 3), kEps);
  EXPECT_NEAR(at_channel("time_mix_v", 5), std::pow(5.0 / 8, 2.0 / 3) + 0.15, kEps);
  EXPECT_NEAR(at_channel("time_mix_r", 5), std::pow(5.0 / 8, 1.0 / 3), kEps);
  const at::Tensor W = parameter(*rwkv, "value.weight");
  EXPECT_LE((at::matmul(W, W.t()) - at::eye(8)).abs().max().item<float>(), 1e-5);
  EXPECT_EQ(parameter(*rwkv, "out_proj.weight").abs().max().item<float>(), 0.0F);
}

TEST_F(Mixers, LinearAttentionAndPerformerAreTheirDefinition) {
  for (const std::int64_t L : {1, 5, 64, 65, 130}) {
    for (const FeatureMap map : {FeatureMap::kElu, FeatureMap::kPerformer}) {
      auto mixer = in_float64(LinearAttention(kD, 2, map));
      const at::Tensor u = at::randn({2, L, kD}, at::kDouble);
      const at::Tensor qkv = project(*mixer, "Wqkv", u);
      at::Tensor y = at::zeros_like(u);
      for (std::int64_t head = 0; head < 2; ++head) {
        const auto chunk = [&](std::int64_t i) { return qkv.narrow(2, i * kD + 2 * head, 2); };
        const auto features = [&](const at::Tensor& x, bool query) {
          if (map == FeatureMap::kElu) {
            return at::where(x > 0, x + 1.0, at::exp(x));
          }
          const at::Tensor omega = mixer->named_buffers()["omega"];
          const at::Tensor scaled = x / std::pow(2.0, 0.25);
          const at::Tensor exponent =
              at::matmul(scaled, omega.t()) - scaled.square().sum(2, true) / 2;
          const at::Tensor largest =
              query ? std::get<0>(exponent.max(2, true)) : at::zeros({1}, at::kDouble);
          return (at::exp(exponent - largest) + 1e-4) /
                 std::sqrt(static_cast<double>(omega.size(0)));
        };
        const at::Tensor scores =
            at::matmul(features(chunk(0), true), features(chunk(1), false).transpose(1, 2)).tril();
        y.narrow(2, 2 * head, 2).copy_(at::matmul(scores, chunk(2)) / (scores.sum(2, true) + 1e-6));
      }
      expect_close(mixer->forward(u), project(*mixer, "out_proj", y));
    }
  }
}

TEST_F(Mixers, PerformerRowsAreOrthogonalInGroups) {
  const LinearAttention mixer(16, 2, FeatureMap::kPerformer);
  const at::Tensor omega = mixer->named_buffers()["omega"];
  ASSERT_EQ(omega.size(0), 16) << "floor(8 ln 8)";
  const at::Tensor gram = at::matmul(omega.narrow(0, 8, 8), omega.narrow(0, 8, 8).t());
  EXPECT_LE((gram - at::diag(at::diag(gram))).abs().max().item<float>(), 1e-4);
}

struct Named {
  const char* name;
  std::shared_ptr<Mixer> (*make)();
};

class EveryMixer : public ::testing::TestWithParam<Named> {
 protected:
  /// Zeros at the start (RWKV, AFT) would hide whatever stands behind them.
  static std::shared_ptr<Mixer> make() {
    torch::manual_seed(9);
    auto mixer = GetParam().make();
    const torch::NoGradGuard no_grad;
    for (at::Tensor& x : mixer->parameters()) {
      if (x.abs().max().item<double>() == 0.0) {
        x.normal_();
      }
    }
    mixer->to(at::kDouble);
    return mixer;
  }
};

TEST_P(EveryMixer, IsCausal) {
  auto mixer = make();
  at::Tensor u = at::randn({2, 70, kD}, at::kDouble).set_requires_grad(true);
  for (const std::int64_t t : {0, 33, 63, 68}) {
    const at::Tensor y = mixer->forward(u).select(1, t);
    const at::Tensor du = torch::autograd::grad({(y * at::randn_like(y)).sum()}, {u})[0];
    EXPECT_GT(du.select(1, t).abs().max().item<double>(), 1e-8);
    if (t >= 63) {
      EXPECT_GT(du.narrow(1, 0, 8).abs().max().item<double>(), 1e-12) << "the whole past counts";
    }
    // FFT rounding, PAPER 16.1 trap 14: far below any weight of the past.
    EXPECT_LE(du.narrow(1, t + 1, 69 - t).abs().max().item<double>(), 1e-13);
  }
}

TEST_P(EveryMixer, GradientsAgreeWithDifferences) {
  auto mixer = make();
  at::Tensor u = at::randn({2, 9, kD}, at::kDouble).set_requires_grad(true);
  testing_support::expect_module_gradients(*mixer, [&] { return mixer->forward(u); }, {{"u", u}});
}

TEST_P(EveryMixer, EndsInOutProj) {
  const auto mixer = GetParam().make();
  EXPECT_TRUE(mixer->named_parameters().contains("out_proj.weight"));
}

TEST_P(EveryMixer, RunsUnderAutocastNearItsFloat32Result) {
  torch::manual_seed(9);
  const torch::NoGradGuard no_grad;
  auto mixer = GetParam().make();
  const at::Tensor u = at::randn({2, 70, kD});
  const at::Tensor exact = mixer->forward(u);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const at::Tensor mixed = mixer->forward(u);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::clear_cache();
  ASSERT_EQ(mixed.scalar_type(), at::kBFloat16);
  // A handful of roundings of 2^-8 that sums over D may enlarge: this tells rounding from nonsense.
  EXPECT_LE((mixed.to(at::kFloat) - exact).norm().item<double>(),
            16 * 0x1p-8 * exact.norm().item<double>());
}

template <typename M>
std::shared_ptr<Mixer> of(auto... options) {
  return std::make_shared<M>(options...);
}

INSTANTIATE_TEST_SUITE_P(
    Mixers, EveryMixer,
    ::testing::Values(
        Named{"attention", [] { return of<CausalAttentionImpl>(kD, 2); }},
        Named{"h3", [] { return of<H3Impl>(H3Options{.d_model = kD, .d_state = 4}); }},
        Named{"h3_heads",
              [] { return of<H3Impl>(H3Options{.d_model = kD, .d_state = 4, .head_dim = 2}); }},
        Named{"gss", [] { return of<GssImpl>(GssOptions{.d_model = kD, .d_state = 3}); }},
        Named{"aft_conv", [] { return of<AftConvImpl>(AftOptions{.d_model = kD, .window = 4}); }},
        Named{"aft_full", [] { return of<AftFullImpl>(AftOptions{.d_model = kD, .l_max = 70}); }},
        Named{"rwkv", [] { return of<RwkvImpl>(RwkvOptions{.d_model = kD}); }},
        Named{"linear_attention", [] { return of<LinearAttentionImpl>(kD, 2, FeatureMap::kElu); }},
        Named{"performer", [] { return of<LinearAttentionImpl>(kD, 2, FeatureMap::kPerformer); }}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(Mixers, ErrorsTeach) {
  const auto message = [](const std::function<void()>& act) -> std::string {
    try {
      act();
    } catch (const UserError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message([] { H3(H3Options{.d_model = 6, .head_dim = 4}); }),
            "head_dim: expected a divisor of d_model = 6, got 4");
  EXPECT_EQ(message([] { AftConv(AftOptions{.d_model = 6, .num_heads = 4}); }),
            "num_heads: expected a divisor of d_model = 6, got 4");
  EXPECT_EQ(message([] {
              (void)AftFull(AftOptions{.d_model = 6, .l_max = 4})->forward(at::zeros({1, 5, 6}));
            }),
            "sequence of 5 positions is longer than the model's l_max = 4");
}

}  // namespace
}  // namespace hyena::nn
