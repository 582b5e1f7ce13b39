// The order-2 mixer's kernels on the CPU, without LibTorch: Google Benchmark cases by length, lanes
// and threads. `hyena bench mixer --device cpu` compares with LibTorch; this is for working on
// kernels.
//
//   build/cpu/bin/hyena_bench_cpu [--benchmark_filter=forward/length:1024] [--channels=N]
//                                 [--tokens=N] [--taps=N]
//
// "per_element" is wall time per (b, d, t); a busy machine inflates processor time less. The filter
// is transformed inside, as in a training step, except where its spectrum is kept.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include <benchmark/benchmark.h>

#include "hyena/kernels/gated_conv.h"
#include "hyena/kernels/workspace.h"

namespace {

using hyena::kernels::DataType;
using hyena::kernels::Factor;
using hyena::kernels::FactorGradient;
using hyena::kernels::FilterArguments;
using hyena::kernels::gated_conv_backward;
using hyena::kernels::gated_conv_forward;
using hyena::kernels::GatedConvBackward;
using hyena::kernels::GatedConvForward;
using hyena::kernels::GatedConvPlan;
using hyena::kernels::GatedConvShape;
using hyena::kernels::LaneAxis;
using hyena::kernels::Strides;
using hyena::kernels::Workspace;

// 16K tokens of 768 channels: beyond every cache.
std::int64_t channels = 768;
std::int64_t tokens = 16384;
std::int64_t taps = 1 << 30;  // of the long filter, at most its length

/// On 64-byte boundaries, as LibTorch allocates.
template <class T>
struct AlignedAllocator {
  using value_type = T;
  static T* allocate(std::size_t n) {
    return static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64));
  }
  static void deallocate(T* p, std::size_t /*n*/) { std::free(p); }
  bool operator==(const AlignedAllocator&) const = default;
};
using Floats = std::vector<float, AlignedAllocator<float>>;

Floats random_floats(std::int64_t count) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Floats x(static_cast<std::size_t>(count));
  std::ranges::generate(x, [&] { return uniform(random); });
  return x;
}

/// Spreads items over threads, a range each, as at::parallel_for does.
void parallel(std::int64_t threads, std::int64_t items, std::size_t scratch_bytes,
              const std::function<void(std::int64_t, std::int64_t, void*)>& work) {
  static std::vector<Workspace> workspaces(std::max(64U, std::thread::hardware_concurrency()));
  const auto part = [&](std::int64_t i) {
    work(items * i / threads, items * (i + 1) / threads,
         workspaces[static_cast<std::size_t>(i)].at_least(scratch_bytes));
  };
  std::vector<std::thread> pool;
  for (std::int64_t i = 1; i < threads; ++i) {
    pool.emplace_back(part, i);
  }
  part(0);
  for (std::thread& thread : pool) {
    thread.join();
  }
}

/// One mixer of (B, 3D, L), time steps of all channels adjacent, as linear layers leave them.
class Mixer {
 public:
  explicit Mixer(const GatedConvShape& s)
      : plan_(s),
        D_(s.channels),
        n_(s.batch * s.channels * s.length),
        p_(random_floats(3 * n_)),
        dy_(random_floats(n_)),
        h_(random_floats(D_ * s.filter_length)),
        weight_(random_floats(9 * D_)),
        bias_(random_floats(3 * D_)),
        skip_(random_floats(D_)),
        y_(static_cast<std::size_t>(n_)),
        dp_(p_.size()),
        dh_(h_.size()),
        dweight_(weight_.size()),
        dbias_(bias_.size()),
        dskip_(skip_.size()) {}

  [[nodiscard]] std::int64_t elements() const { return n_; }

  void keep_spectrum() {
    spectrum_.resize(plan_.spectrum_bytes() / sizeof(float));
    parallel(plan_.shape().threads, plan_.num_backward_items(), plan_.forward_workspace_bytes(),
             [&](auto b, auto e, void* w) {
               gated_conv_spectrum(plan_, filter(), b, e, spectrum_.data(), w);
             });
  }
  void forward() {
    const FilterArguments kept{.spectrum = spectrum_.data()};
    const GatedConvForward call{factor(0),
                                factor(1),
                                factor(2),
                                spectrum_.empty() ? filter() : kept,
                                {y_.data(), strides(1)}};
    parallel(plan_.shape().threads, plan_.num_forward_items(), plan_.forward_workspace_bytes(),
             [&](auto b, auto e, void* w) { gated_conv_forward(plan_, call, b, e, w); });
  }
  void backward() {
    const GatedConvBackward call{
        factor(0),   factor(1),   factor(2),   filter(),   {dy_.data(), strides(1)},
        gradient(0), gradient(1), gradient(2), dh_.data(), dskip_.data(),
        nullptr};
    parallel(plan_.shape().threads, plan_.num_backward_items(), plan_.backward_workspace_bytes(),
             [&](auto b, auto e, void* w) { gated_conv_backward(plan_, call, b, e, w); });
  }

 private:
  [[nodiscard]] Strides strides(std::int64_t parts) const {
    return {plan_.shape().length * parts * D_, 1, parts * D_};
  }
  [[nodiscard]] Factor factor(std::int64_t i) const {
    return {{p_.data() + i * D_, strides(3)}, weight_.data() + i * D_ * 3, bias_.data() + i * D_};
  }
  FactorGradient gradient(std::int64_t i) {
    return {
        {dp_.data() + i * D_, strides(3)}, dweight_.data() + i * D_ * 3, dbias_.data() + i * D_};
  }
  [[nodiscard]] FilterArguments filter() const { return {h_.data(), skip_.data(), nullptr}; }

  GatedConvPlan plan_;
  std::int64_t D_, n_;
  Floats p_, dy_, h_, weight_, bias_, skip_;
  Floats y_, dp_, dh_, dweight_, dbias_, dskip_;
  Floats spectrum_;  // empty: not kept
};

GatedConvShape shape_of(const benchmark::State& state) {
  return {.batch = std::max<std::int64_t>(1, tokens / state.range(0)),
          .channels = channels,
          .length = state.range(0),
          .filter_length = std::min(taps, state.range(0)),
          .taps = 3,
          .type = DataType::kFloat32,
          .lane_axis = state.range(1) != 0 ? LaneAxis::kTime : LaneAxis::kChannel,
          .threads = state.range(2)};
}

void report(benchmark::State& state, const Mixer& mixer) {
  state.counters["per_element"] = benchmark::Counter(
      static_cast<double>(mixer.elements()),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void forward(benchmark::State& state) {
  Mixer mixer(shape_of(state));
  for ([[maybe_unused]] auto _ : state) {
    mixer.forward();
  }
  report(state, mixer);
}
void forward_kept_spectrum(benchmark::State& state) {
  Mixer mixer(shape_of(state));
  mixer.keep_spectrum();
  for ([[maybe_unused]] auto _ : state) {
    mixer.forward();
  }
  report(state, mixer);
}
void forward_backward(benchmark::State& state) {
  Mixer mixer(shape_of(state));
  for ([[maybe_unused]] auto _ : state) {
    mixer.forward();
    mixer.backward();
  }
  report(state, mixer);
}

void cases(benchmark::internal::Benchmark* benchmark) {
  const std::int64_t all = std::max(1U, std::thread::hardware_concurrency());
  std::vector<std::int64_t> threads{1};
  if (all > 1) {
    threads.push_back(all);
  }
  benchmark->ArgsProduct({{256, 1024, 4096, 16384, 65536}, {0, 1}, threads})
      ->ArgNames({"length", "time_lanes", "threads"})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}
BENCHMARK(forward)->Apply(cases);
BENCHMARK(forward_kept_spectrum)->Apply(cases);
BENCHMARK(forward_backward)->Apply(cases);

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--channels=")) {
      channels = std::max(1LL, std::atoll(argv[i] + 11));
    } else if (argument.starts_with("--tokens=")) {
      tokens = std::max(1LL, std::atoll(argv[i] + 9));
    } else if (argument.starts_with("--taps=")) {
      taps = std::max(1LL, std::atoll(argv[i] + 7));
    } else {
      benchmark::ReportUnrecognizedArguments(argc, argv);
      return 2;
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
