#include "hyena/cli/bench_mixer.h"

#include <array>

#include <gtest/gtest.h>
#include <torch/library.h>
#include <torch/torch.h>

#include "hyena/cli/app.h"
#include "hyena/ops/hyena_mixer.h"

namespace hyena::cli {
namespace {

const MixerCase kSmall{
    .device = at::kCPU, .dtype = at::kFloat, .batch = 2, .channels = 11, .length = 100, .order = 3};

at::Tensor right(const MixerTensors& x) {
  return ops::composed::hyena_mixer(x.p_BCL, x.short_weight_CT, x.short_bias_C, x.h_MDK, x.skip_MD);
}

TEST(BenchMixer, RightMixersStayBelowTheLargestErrorInEveryDtype) {
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    MixerCase mixer = kSmall;
    mixer.dtype = dtype;
    const MixerErrors errors = mixer_errors(right, mixer_tensors(mixer));
    EXPECT_LE(errors.y, largest_error(mixer)) << dtype;
    EXPECT_LE(errors.gradients, largest_error(mixer)) << dtype;
  }
}

TEST(BenchMixer, SmallFaultsAreSeen) {
  const MixerTensors tensors = mixer_tensors(kSmall);
  const double limit = largest_error(kSmall);
  // One time step of one channel: the last, which is among those compared.
  const Mixer wrong_sample = [](const MixerTensors& x) {
    at::Tensor mask = at::ones_like(x.dy_BDL);
    mask[0][10][99] = 0.99;
    return right(x) * mask;
  };
  EXPECT_GT(mixer_errors(wrong_sample, tensors).y, limit);
  // The oldest lag of the filters is dropped.
  const Mixer short_filter = [](const MixerTensors& x) {
    MixerTensors cut = x;
    at::Tensor mask = at::ones({x.h_MDK.size(2)});
    mask[99] = 0.0;
    cut.h_MDK = x.h_MDK * mask;
    return right(cut);
  };
  EXPECT_GT(mixer_errors(short_filter, tensors).gradients, limit);
  // Right forward, wrong gradient of the skip.
  const Mixer detached_skip = [](const MixerTensors& x) {
    MixerTensors y = x;
    y.skip_MD = x.skip_MD.detach() + 0.0 * x.skip_MD;
    return right(y);
  };
  EXPECT_LE(mixer_errors(detached_skip, tensors).y, limit);
  EXPECT_GT(mixer_errors(detached_skip, tensors).gradients, limit);
  const Mixer not_a_number = [](const MixerTensors& x) { return right(x) * NAN; };
  EXPECT_FALSE(mixer_errors(not_a_number, tensors).y <= limit);
}

/// Replaces the registered mixer's CPU kernel for the rest of the process: must run last.
at::Tensor broken_kernel(const at::Tensor& p_BCL, const at::Tensor& /*weight*/,
                         const std::optional<at::Tensor>& /*bias*/, const at::Tensor& h_MDK,
                         const std::optional<at::Tensor>& /*skip*/, c10::string_view /*mode*/) {
  return p_BCL.narrow(1, 0, h_MDK.size(1)).clone();
}

TEST(BenchMixerZ, WrongKernelPrintsFailedAndNoNumber) {
  torch::Library library(torch::Library::IMPL, "hyena", c10::DispatchKey::CPU, __FILE__, __LINE__);
  library.impl("hyena_mixer", &broken_kernel);
  const std::array<const char*, 10> arguments{
      "hyena", "bench", "mixer", "--lengths", "64", "--channels", "4", "--tokens", "64", "--json"};
  testing::internal::CaptureStdout();
  const int code = run(static_cast<int>(arguments.size()), arguments.data());
  const std::string out = testing::internal::GetCapturedStdout();
  EXPECT_EQ(code, kRunFailed);
  EXPECT_EQ(out, "{\"bench\":\"mixer\",\"length\":64,\"result\":\"FAILED\"}\n");
}

}  // namespace
}  // namespace hyena::cli
