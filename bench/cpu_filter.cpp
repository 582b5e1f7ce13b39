// The implicit filter on the CPU: the op against its LibTorch composition, in one process.
//
//   build/cpu/bin/hyena_bench_filter --benchmark_repetitions=9
//       --benchmark_enable_random_interleaving=true --benchmark_report_aggregates_only=true
//       [--benchmark_filter=length:16384] [--channels=N] [--width=N]
//
// Compare medians. A case whose op and composition disagree reports an error, not a time.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include "hyena/ops/implicit_filter.h"

namespace {

using hyena::ops::ChannelLayout;
using hyena::ops::FilterWindow;

std::int64_t channels = 768;
std::int64_t width = 64;

/// Sizes and scales of a language model's filter: 33 features, four linear layers, M = 1.
struct Inputs {
  explicit Inputs(std::int64_t K)
      : z_KE(at::rand({K, 33}) * 2 - 1),
        freq_W(at::full({width}, 14.0)),
        window{.t_K = at::linspace(0, 1, K), .deltas_C = at::linspace(3, 15, channels)},
        dh_MDK(at::randn({1, channels, K})) {
    for (const std::int64_t fan_in : {std::int64_t{33}, width, width}) {
      weights.push_back(at::randn({width, fan_in}) * 0.02);
      biases.push_back(at::randn({width}) * 0.02);
    }
    weights.push_back(at::randn({channels, width}) * 0.02);
  }
  [[nodiscard]] std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> all{z_KE, freq_W, window.deltas_C};
    all.insert(all.end(), weights.begin(), weights.end());
    all.insert(all.end(), biases.begin(), biases.end());
    return all;
  }

  at::Tensor z_KE;
  std::vector<at::Tensor> weights;
  std::vector<at::Tensor> biases;
  at::Tensor freq_W;
  FilterWindow window;
  at::Tensor dh_MDK;
};

at::Tensor op(const Inputs& in) {
  return hyena::ops::implicit_filter(in.z_KE, in.weights, in.biases, in.freq_W, in.window, 1,
                                     ChannelLayout::kSafari);
}

/// What the op did before it had a CPU path.
at::Tensor composition(const Inputs& in) {
  return hyena::ops::composed::implicit_filter(in.z_KE, in.weights, in.biases, in.freq_W, in.window,
                                               1, ChannelLayout::kSafari)
      .contiguous();
}

void composed_backward(const Inputs& in) {
  benchmark::DoNotOptimize(hyena::ops::composed::implicit_filter_backward(
      in.dh_MDK, in.z_KE, in.weights, in.biases, in.freq_W, in.window, 1, ChannelLayout::kSafari));
}

bool verified(benchmark::State& state, const Inputs& in) {
  const at::Tensor expected = composition(in);
  const auto error = ((op(in) - expected).norm() / expected.norm()).item<double>();
  if (error < 1e-5) {
    return true;
  }
  state.SkipWithError("op and composition disagree");
  return false;
}

template <typename Step>
void run(benchmark::State& state, const Inputs& in, const Step& step) {
  if (verified(state, in)) {
    for ([[maybe_unused]] auto _ : state) {
      step();
    }
  }
}

void forward(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const Inputs in(state.range(0));
  run(state, in, [&] { benchmark::DoNotOptimize(op(in)); });
}
void forward_composed(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const Inputs in(state.range(0));
  run(state, in, [&] { benchmark::DoNotOptimize(composition(in)); });
}
void forward_backward(benchmark::State& state) {
  const Inputs in(state.range(0));
  for (const at::Tensor& x : in.parameters()) {
    x.requires_grad_(true);
  }
  run(state, in, [&] {
    benchmark::DoNotOptimize(torch::autograd::grad({op(in)}, in.parameters(), {in.dh_MDK}));
  });
}
void forward_backward_composed(benchmark::State& state) {
  const at::NoGradGuard no_grad;
  const Inputs in(state.range(0));
  run(state, in, [&] {
    benchmark::DoNotOptimize(composition(in));
    composed_backward(in);
  });
}

void cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgName("length")->Arg(1024)->Arg(16384)->Arg(65536)->UseRealTime()->Unit(
      benchmark::kMillisecond);
}
BENCHMARK(forward)->Apply(cases);
BENCHMARK(forward_composed)->Apply(cases);
BENCHMARK(forward_backward)->Apply(cases);
BENCHMARK(forward_backward_composed)->Apply(cases);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--channels=")) {
      channels = std::max(1LL, std::atoll(argv[i] + 11));
    } else if (argument.starts_with("--width=")) {
      width = std::max(1LL, std::atoll(argv[i] + 8));
    } else {
      benchmark::ReportUnrecognizedArguments(argc, argv);
      return 2;
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
