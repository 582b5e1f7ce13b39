// Which path the CPU takes, and on how many threads. Values: hyena_mixer_test.cpp,
// long_conv_test.cpp, which ctest runs once more with HYENA_CPU_PATH=generic.
#include "hyena/ops/cpu_gated_conv.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/ops/long_conv.h"
#include "tests/ops/mixer_case.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

bool generic() {
  const char* path = std::getenv("HYENA_CPU_PATH");  // NOLINT(concurrency-mt-unsafe): no setenv
  return path != nullptr && std::string_view(path) == "generic";
}

/// Kernel and composition round in different places, so equal bits tell which of them ran.
TEST(CpuPath, TheEnvironmentAsksForTheComposition) {
  const MixerCase c{.D = 8, .L = 300, .K = 300};
  const MixerInputs in = mixer_inputs(c, 3);
  EXPECT_EQ(cpu::supports(in.p_BCL), !generic());

  const auto mixer = [&](auto op) {
    return op(in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD, c.mode);
  };
  EXPECT_EQ(at::equal(mixer(hyena_mixer), mixer(composed::hyena_mixer)), generic());

  for (const at::Tensor& x : in.arguments()) {
    x.requires_grad_(true);
  }
  const auto g = torch::autograd::grad({mixer(hyena_mixer)}, in.arguments(), {in.dy_BDL});
  const auto [dp, dweight, dbias, dh, dskip] = composed::hyena_mixer_backward(
      in.dy_BDL, in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD, c.mode);
  EXPECT_EQ(at::equal(g[0], dp), generic());
  EXPECT_EQ(at::equal(g[2], dh), generic());

  const at::Tensor u = in.p_BCL.detach().narrow(1, 0, c.D);
  const at::Tensor h = in.h_MDK.detach()[0];
  EXPECT_EQ(at::equal(long_conv(u, h), composed::long_conv(u, h, {}, {}, LongConvAlgorithm::kAuto)),
            generic());
}

/// Page faults of each thread of this process so far.
std::map<std::string, std::int64_t> page_faults() {
  std::map<std::string, std::int64_t> faults;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(thread.path() / "stat");
    std::string stat;
    std::getline(file, stat);
    // pid (name) state ppid pgrp session tty_nr tpgid flags minflt ...
    std::istringstream fields(stat.substr(stat.rfind(')') + 1));
    std::string skipped;
    for (int i = 0; i < 7; ++i) {
      fields >> skipped;
    }
    fields >> faults[thread.path().filename()];
  }
  return faults;
}

/// How many threads write the output of the mixer when LibTorch has `threads` of them. Whoever is
/// the first to touch a page of a fresh tensor faults; each channel has pages of its own, and
/// `held` keeps all earlier outputs, so that no memory comes back.
std::int64_t threads_at_work(int threads, std::vector<at::Tensor>& held) {
  const std::int64_t D = 192;  // as many vectors for each of 2, 3 and 4 threads
  const std::int64_t L = 1 << 16;
  const at::Tensor p_BCL = at::ones({1, 3 * D, L});
  const at::Tensor weight_CT = at::ones({3 * D, 3});
  const at::Tensor h_MDK = at::ones({1, D, 64});
  const auto run = [&] { return hyena_mixer(p_BCL, weight_CT, {}, h_MDK, {}, MixerMode::kSafari); };
  at::set_num_threads(threads);
  held.push_back(run());  // starts the threads, and touches their stacks and workspaces
  auto before = page_faults();
  held.push_back(run());
  const auto after = page_faults();
  at::set_num_threads(1);
  return std::count_if(after.begin(), after.end(),
                       [&](const auto& thread) { return thread.second > before[thread.first]; });
}

TEST(CpuThreads, TheMixerUsesAllThatItWasGiven) {
  if (generic()) {
    GTEST_SKIP() << "LibTorch's composition splits its work as it likes";
  }
  std::vector<at::Tensor> held;
  for (const int threads : {1, 2, 3, 4}) {
    EXPECT_EQ(threads_at_work(threads, held), threads);
  }
}

}  // namespace
}  // namespace hyena::ops
