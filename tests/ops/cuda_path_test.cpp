// The registered ops on a GPU whose kernels run them, against the composition in float64 there.
// Skipped without such a GPU.
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/kernels/hyena_mixer_cuda.h"
#include "hyena/ops/cuda_implicit_filter.h"
#include "hyena/ops/cuda_mixer.h"
#include "hyena/ops/hyena_mixer.h"
#include "hyena/ops/implicit_filter.h"
#include "hyena/ops/long_conv.h"
#include "hyena/ops/prepared_filters.h"
#include "tests/ops/mixer_case.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

double relative_rms(const at::Tensor& actual, const at::Tensor& expected) {
  const auto norm = expected.norm().item<double>();
  const auto error = (actual.to(at::kDouble) - expected).norm().item<double>();
  return norm > 0.0 ? error / norm : error;
}

/// Relative rms of one stage, as hyena/kernels/hyena_mixer_cuda.h states it (float32: the plan's
/// for the generic kernels), and of one rounding to the type (2^-9 / sqrt(1.33) in bfloat16).
struct Bounds {
  double y, gradient, rounding;
};
Bounds bounds_of(at::ScalarType type) {
  return type == at::kBFloat16 ? Bounds{2.2e-3, 3e-3, 1.7e-3}
         : type == at::kHalf   ? Bounds{1.4e-3, 3e-3, 2.1e-4}
                               : Bounds{1e-5, 1e-5, 0.0};
}

/// Random arguments on the GPU, filters of norm one.
MixerInputs on_gpu(const MixerCase& c, std::uint64_t seed) {
  MixerInputs in = mixer_inputs(c, seed);
  const auto move = [](at::Tensor& x) { x = x.to(at::kCUDA); };
  move(in.p_BCL);
  move(in.short_weight_CT);
  if (in.short_bias_C) move(*in.short_bias_C);
  in.h_MDK = in.h_MDK / in.h_MDK.norm(2, {2}, /*keepdim=*/true);
  move(in.h_MDK);
  if (in.skip_MD) move(*in.skip_MD);
  move(in.dy_BDL);
  return in;
}

at::Tensor wide(const at::Tensor& x) {
  return x.detach().to(at::kDouble).requires_grad_();
}

class CudaPath : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no GPU";
    const at::Tensor p = at::zeros({1, 3, 8}, at::TensorOptions(at::kCUDA).dtype(at::kBFloat16));
    const at::Tensor h = at::zeros({1, 1, 8}, at::TensorOptions(at::kCUDA));
    if (!cuda::supports(p, h)) GTEST_SKIP() << "no kernel for this GPU";
  }
};

void expect_mixer(const MixerCase& c, std::uint64_t seed) {
  SCOPED_TRACE(c.text());
  const MixerInputs in = on_gpu(c, seed);
  ASSERT_TRUE(cuda::supports(in.p_BCL, in.h_MDK));
  MixerInputs exact{wide(in.p_BCL), wide(in.short_weight_CT), {}, wide(in.h_MDK), {}, {}};
  if (in.short_bias_C) exact.short_bias_C = wide(*in.short_bias_C);
  if (in.skip_MD) exact.skip_MD = wide(*in.skip_MD);
  const at::Tensor e = composed::hyena_mixer(exact.p_BCL, exact.short_weight_CT, exact.short_bias_C,
                                             exact.h_MDK, exact.skip_MD, c.mode);
  const auto expected = torch::autograd::grad({e}, exact.arguments(), {in.dy_BDL.to(at::kDouble)});
  for (const at::Tensor& x : in.arguments())
    x.requires_grad_(true);
  const at::Tensor y =
      hyena_mixer(in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD, c.mode);
  const auto gradients = torch::autograd::grad({y}, in.arguments(), {in.dy_BDL});

  // Every stage adds its own error to the relative error that came in; a short convolution outside
  // the kernel rounds its weights and its result, of every factor. A gradient goes back through M
  // stages whose operands are off by as much as y.
  const Bounds b = bounds_of(c.type);
  const auto M = static_cast<double>(c.filters());
  const bool fused = c.filters() == 1 && c.safari();
  const double outside = c.T > 3 ? 2.0 * static_cast<double>(c.order + 1) * b.rounding : 0.0;
  EXPECT_LE(relative_rms(y.detach(), e.detach()), M * b.y + outside) << "y";
  const double limit = fused ? b.gradient + outside : M * (b.gradient + b.y) + 2.0 * outside;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_LE(relative_rms(gradients[i], expected[i]), limit) << "gradient of argument " << i;
  }
}

// The kernels and their order are the same, only the spectrum's age differs.
TEST_F(CudaPath, KeptSpectraChangeNoBit) {
  std::uint64_t seed = 70;
  for (const std::int64_t order : {2, 3}) {
    for (const std::int64_t L : {64, 1000, 4098, 16384, 131072}) {
      const MixerCase c{.D = 5, .L = L, .K = L, .order = order, .type = at::kBFloat16};
      SCOPED_TRACE(c.text());
      const MixerInputs in = on_gpu(c, seed++);
      const PreparedFilters filters(in.h_MDK, in.skip_MD);
      const at::Tensor y =
          hyena_mixer(in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD);
      for (const char* which : {"made", "kept"}) {
        EXPECT_TRUE(at::equal(
            hyena_mixer_prepared(in.p_BCL, in.short_weight_CT, in.short_bias_C, filters), y))
            << which;
      }
    }
  }
}

TEST_F(CudaPath, OrdersAndModes) {
  std::uint64_t seed = 10;
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    for (const MixerMode mode : {MixerMode::kSafari, MixerMode::kPaper}) {
      for (std::int64_t order = mode == MixerMode::kSafari ? 2 : 1; order <= 3; ++order) {
        for (const std::int64_t L : {64, 1000, 1024, 4098, 16384}) {
          expect_mixer({.D = 5,
                        .L = L,
                        .K = seed % 3 == 0 ? L / 2 : L,
                        .order = order,
                        .mode = mode,
                        .has_bias = seed % 2 == 0,
                        .has_skip = seed % 5 != 0,
                        .type = type},
                       seed);
          ++seed;
        }
      }
    }
  }
}

TEST_F(CudaPath, PaddedRowsStayPadded) {
  MixerInputs in = on_gpu({.L = 1027, .K = 1027, .type = at::kBFloat16}, 77);
  const at::Tensor expected =
      hyena_mixer(in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD);
  const at::Tensor y =
      hyena_mixer(padded_rows(in.p_BCL), in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD);
  EXPECT_EQ(y.stride(1), 1040);
  EXPECT_TRUE(at::equal(y, expected));
}

TEST_F(CudaPath, ShortTaps) {
  for (std::int64_t T = 1; T <= 8; ++T) {
    for (const std::int64_t order : {2, 3}) {
      expect_mixer({.D = 4, .L = 2048, .K = 2048, .T = T, .order = order, .type = at::kBFloat16},
                   40 + static_cast<std::uint64_t>(T));
    }
  }
}

TEST_F(CudaPath, LongConvolutionAlone) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const Bounds b = bounds_of(type);
    for (const std::int64_t L : {40, 1024, 4098, 20000}) {
      for (const bool channels_last : {false, true}) {
        SCOPED_TRACE(
            fmt::format("{} L {} channels last {}", c10::toString(type), L, channels_last));
        at::Tensor u = normal({2, 5, L}, 1, type).to(at::kCUDA);
        if (channels_last) u = u.transpose(1, 2).contiguous().transpose(1, 2);
        u.requires_grad_();
        at::Tensor h = normal({5, L}, 2, at::kFloat).to(at::kCUDA);
        h = (h / h.norm(2, {1}, true)).requires_grad_();
        const at::Tensor skip = normal({5}, 3, at::kFloat).to(at::kCUDA).requires_grad_();
        const at::Tensor dy = normal({2, 5, L}, 4, type).to(at::kCUDA);
        const at::Tensor eu = wide(u);
        const at::Tensor eh = wide(h);
        const at::Tensor eskip = wide(skip);
        const at::Tensor e = composed::long_conv(eu, eh, eskip);
        const auto expected = torch::autograd::grad({e}, {eu, eh, eskip}, {dy.to(at::kDouble)});
        const at::Tensor y = long_conv(u, h, skip);
        EXPECT_EQ(y.stride(1) == 1, channels_last);
        EXPECT_LE(relative_rms(y.detach(), e.detach()), b.y) << "y";
        const auto gradients = torch::autograd::grad({y}, {u, h, skip}, {dy});
        for (std::size_t i = 0; i < 3; ++i) {
          EXPECT_LE(relative_rms(gradients[i], expected[i]), b.gradient) << "gradient " << i;
        }
      }
    }
  }
}

void expect_both_ways(at::ScalarType type, std::int64_t L, std::int64_t K, bool has_skip,
                      bool channels_last) {
  SCOPED_TRACE(fmt::format("{} L {} K {} skip {} channels last {}", c10::toString(type), L, K,
                           has_skip, channels_last));
  at::Tensor u = normal({2, 5, L}, 1, type).to(at::kCUDA);
  if (channels_last) u = u.transpose(1, 2).contiguous().transpose(1, 2);
  u.requires_grad_();
  const auto filter = [&](std::uint64_t seed) {
    const at::Tensor h = normal({5, K}, seed, at::kFloat).to(at::kCUDA);
    return (h / h.norm(2, {1}, true)).requires_grad_();
  };
  const at::Tensor h = filter(2);
  const at::Tensor reverse = filter(3);
  std::vector<at::Tensor> leaves{u, h, reverse};
  std::vector<at::Tensor> exact{wide(u), wide(h), wide(reverse)};
  std::optional<at::Tensor> skip;
  std::optional<at::Tensor> exact_skip;
  if (has_skip) {
    skip = leaves.emplace_back(normal({5}, 4, at::kFloat).to(at::kCUDA).requires_grad_());
    exact_skip = exact.emplace_back(wide(*skip));
  }
  ASSERT_TRUE(cuda::supports(u, h.unsqueeze(0), /*both_ways=*/true));
  const at::Tensor dy = normal({2, 5, L}, 5, type).to(at::kCUDA);
  const at::Tensor e = composed::long_conv(exact[0], exact[1], exact_skip, exact[2]);
  const auto expected = torch::autograd::grad({e}, exact, {dy.to(at::kDouble)});
  const at::Tensor y = long_conv(u, h, skip, reverse);
  // The arithmetic is float32 in every type; only y and du are rounded, by half a unit at most.
  const double exactly = bounds_of(at::kFloat).y;
  const double half_unit = type == at::kBFloat16 ? 0x1p-8 : (type == at::kHalf ? 0x1p-11 : 0.0);
  const double rounded = exactly + half_unit;
  EXPECT_EQ(y.scalar_type(), type);
  if (L > 1) {
    EXPECT_EQ(y.stride(1) == 1, channels_last);
  }
  EXPECT_LE(relative_rms(y.detach(), e.detach()), rounded) << "y";
  const auto gradients = torch::autograd::grad({y}, leaves, {dy});
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    EXPECT_LE(relative_rms(gradients[i], expected[i]), i == 0 ? rounded : exactly)
        << "gradient " << i;
  }
}

TEST_F(CudaPath, LongConvolutionBothWays) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const std::int64_t L : {1, 2, 40, 1024, 4098, 20000}) {
      for (const bool channels_last : {false, true}) {
        expect_both_ways(type, L, L, /*has_skip=*/true, channels_last);
      }
      expect_both_ways(type, L, (L + 1) / 2, /*has_skip=*/false, /*channels_last=*/false);
    }
  }
}

struct FilterInputs {
  at::Tensor z_KE;
  std::vector<at::Tensor> weights, biases;
  at::Tensor freq_W;
  FilterWindow window;
  at::Tensor dh_MDK;

  [[nodiscard]] std::vector<at::Tensor> leaves() const {
    std::vector<at::Tensor> all{z_KE, freq_W};
    all.insert(all.end(), weights.begin(), weights.end());
    all.insert(all.end(), biases.begin(), biases.end());
    if (window.deltas_C.defined()) all.push_back(window.deltas_C);
    return all;
  }
  [[nodiscard]] FilterInputs as(at::ScalarType type) const {
    const auto cast = [&](const at::Tensor& x) {
      return x.defined() ? x.detach().to(at::kCUDA, type).requires_grad_() : x;
    };
    FilterInputs to{cast(z_KE), {}, {}, cast(freq_W), window, dh_MDK.to(at::kCUDA, type)};
    for (const at::Tensor& x : weights)
      to.weights.push_back(cast(x));
    for (const at::Tensor& x : biases)
      to.biases.push_back(cast(x));
    to.window.deltas_C = cast(window.deltas_C);
    if (window.t_K.defined()) to.window.t_K = window.t_K.to(at::kCUDA, type);
    return to;
  }
};

/// `in` with every parameter of the MLP off by gamma = (W + 4) 2^-24, at random signs. A product of
/// W terms, its bias and the frequency in float32 is an exact one of parameters that far off
/// (Higham 2002, section 3.1), so that no correct float32 filter is much further from the exact
/// one.
FilterInputs perturbed(const FilterInputs& in, std::uint64_t seed) {
  const double gamma = static_cast<double>(in.freq_W.numel() + 4) * 0x1p-24;
  const auto move = [&](const at::Tensor& x) {
    const at::Tensor signs = at::sign(normal(x.sizes(), ++seed)).to(at::kCUDA);
    return (x.detach() * (1.0 + gamma * signs)).requires_grad_();
  };
  FilterInputs to = in;
  for (at::Tensor& x : to.weights)
    x = move(x);
  for (at::Tensor& x : to.biases)
    x = move(x);
  to.freq_W = move(to.freq_W);
  return to;
}

/// h, then every gradient.
template <class Filter>
std::vector<at::Tensor> results_of(const Filter& filter, const FilterInputs& in, std::int64_t M,
                                   ChannelLayout layout) {
  const at::Tensor h = filter(in.z_KE, in.weights, in.biases, in.freq_W, in.window, M, layout);
  std::vector<at::Tensor> all = torch::autograd::grad({h}, in.leaves(), {in.dh_MDK});
  all.insert(all.begin(), h.detach());
  return all;
}

TEST_F(CudaPath, ImplicitFilterIsWithinItsRounding) {
  const std::int64_t D = 6;
  const std::int64_t W = 16;
  const std::int64_t E = 5;
  std::uint64_t seed = 1;
  for (const std::int64_t K : {1, 37, 2048, 2049, 9000}) {
    for (const std::int64_t M : {1, 2}) {
      for (const ChannelLayout layout : {ChannelLayout::kSafari, ChannelLayout::kStandalone}) {
        for (const bool has_window : {false, true}) {
          SCOPED_TRACE(fmt::format("K {} M {} {} window {}", K, M, to_string(layout), has_window));
          FilterInputs in;
          in.z_KE = normal({K, E}, ++seed);
          for (const std::int64_t inputs : {E, W, W}) {
            in.weights.push_back(normal({W, inputs}, ++seed) / 4.0);
            in.biases.push_back(normal({W}, ++seed));
          }
          in.weights.push_back(normal({M * D, W}, ++seed));
          in.freq_W = 10.0 * at::ones({W}, at::kDouble) + normal({W}, ++seed);
          if (has_window) {
            in.window = {at::linspace(0.0, 1.0, K, at::kDouble), 3.0 * normal({M * D}, ++seed),
                         0.05};
          }
          in.dh_MDK = normal({M, D, K}, ++seed);
          const FilterInputs single = in.as(at::kFloat);
          ASSERT_TRUE(cuda::supports_filter(single.z_KE, single.weights, single.window));
          const auto exact =
              results_of(composed::implicit_filter, single.as(at::kDouble), M, layout);
          const auto moved = results_of(composed::implicit_filter,
                                        perturbed(single.as(at::kDouble), ++seed), M, layout);
          const auto ours = results_of(implicit_filter, single, M, layout);
          for (std::size_t i = 0; i < exact.size(); ++i) {
            ASSERT_EQ(ours[i].sizes(), exact[i].sizes()) << i;
            EXPECT_LE(relative_rms(ours[i], exact[i]),
                      2.0 * relative_rms(moved[i], exact[i]) + 0x1p-20)
                << "result " << i;
          }
        }
      }
    }
  }
}

/// HYENA_CUDA_PATH for as long as it lives.
class Path {
 public:
  explicit Path(const char* name) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs
    EXPECT_EQ(setenv("HYENA_CUDA_PATH", name, 1), 0);
  }
  Path(const Path&) = delete;
  Path& operator=(const Path&) = delete;
  ~Path() {
    // NOLINTNEXTLINE(concurrency-mt-unsafe)
    (void)unsetenv("HYENA_CUDA_PATH");
  }
};

TEST_F(CudaPath, SinglePrecision) {
  std::uint64_t seed = 100;
  for (const std::int64_t order : {2, 3}) {
    for (const std::int64_t L : {64, 1001, 4098, 20000}) {
      for (const std::int64_t T : {3, 7}) {
        expect_mixer({.D = 5, .L = L, .K = seed % 3 == 0 ? L / 2 : L, .T = T, .order = order},
                     seed);
        ++seed;
      }
    }
  }
}

TEST_F(CudaPath, GenericKernelsRunEveryType) {
  const Path path("generic");
  std::uint64_t seed = 120;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const std::int64_t L : {100, 9000}) {
      expect_mixer({.D = 5, .L = L, .K = L, .order = 3, .type = type}, seed++);
    }
  }
}

TEST_F(CudaPath, NamesItsKernels) {
  const auto path = [](std::int64_t L, std::int64_t K, at::ScalarType type) {
    const MixerInputs in = on_gpu({.B = 1, .D = 1, .L = L, .K = K, .type = type}, 6);
    return cuda::path_of(in.p_BCL, in.h_MDK);
  };
  EXPECT_EQ(path(1024, 1024, at::kFloat), "generic");
  const bool hopper = kernels::hyena_mixer_cuda_supports(
      {.batch = 1, .channels = 1, .length = 1024, .filter_length = 1024, .row_stride = 1024}, 0);
  EXPECT_EQ(path(1024, 1024, at::kBFloat16), hopper ? "right_angle" : "generic");
  EXPECT_EQ(path(1024, 64, at::kBFloat16), hopper ? "toeplitz" : "generic");
}

TEST_F(CudaPath, TheComposedPathIsTheComposition) {
  const MixerInputs in = on_gpu({.L = 100, .K = 100, .type = at::kBFloat16}, 5);
  const Path path("composed");
  EXPECT_FALSE(cuda::supports(in.p_BCL, in.h_MDK));
  const at::Tensor y =
      hyena_mixer(in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD);
  EXPECT_TRUE(at::equal(y, composed::hyena_mixer(in.p_BCL, in.short_weight_CT, in.short_bias_C,
                                                 in.h_MDK, in.skip_MD)));
}

}  // namespace
}  // namespace hyena::ops
