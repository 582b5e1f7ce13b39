// Speed of the order-2 mixer on the CPU: nanoseconds per element (b, d, t), forward and forward +
// backward, on one thread and on all, per length. No LibTorch: `hyena bench mixer` compares with
// it.
//
//   cmake --build build/cpu --target hyena_kernels_cpu
//   g++ -O2 -std=c++20 -I. workbench/cpu/mixer_speed.cpp -o mixer_speed \
//       build/cpu/hyena/kernels/cpu/libhyena_kernels_cpu.a -lhwy -pthread
//   ./mixer_speed [channels [tokens [lengths...]]]
//
// LANE_AXIS=time or channel overrides the choice between the two. PROCESSOR_TIME=1 counts the
// processor time of all threads instead of wall time: for machines that are busy with something
// else.
//
// Forward and backward include the filter's spectrum, as in a training step. Minimum and median
// over repetitions: the minimum repeats, the median tells how busy the machine was.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "hyena/kernels/gated_conv.h"
#include "hyena/kernels/workspace.h"

using namespace hyena::kernels;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
/// Processor seconds of all threads: what a busy machine does not inflate.
double processor_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Scratch {
  explicit Scratch(std::size_t bytes) : data(std::aligned_alloc(64, (bytes + 127) / 64 * 64)) {}
  ~Scratch() { std::free(data); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* data;
};

/// On a 64-byte boundary, as LibTorch allocates.
struct AlignedFloats : Scratch {
  explicit AlignedFloats(std::size_t n) : Scratch(n * sizeof(float)) {
    std::fill_n(static_cast<float*>(data), n, 0.0F);
  }
  float* get() { return static_cast<float*>(data); }
};

/// Spreads items over threads, a range each, as at::parallel_for does.
void parallel(int threads, std::int64_t items, std::size_t scratch_bytes,
              const std::function<void(std::int64_t, std::int64_t, void*)>& work) {
  static std::vector<Workspace> workspaces(static_cast<std::size_t>(threads) + 64);
  const auto part = [&](int i) {
    work(items * i / threads, items * (i + 1) / threads,
         workspaces[static_cast<std::size_t>(i)].at_least(scratch_bytes));
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < threads; ++i) {
    pool.emplace_back(part, i);
  }
  part(0);
  for (std::thread& thread : pool) {
    thread.join();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::int64_t D = argc > 1 ? std::atoll(argv[1]) : 768;
  const std::int64_t tokens = argc > 2 ? std::atoll(argv[2]) : 16384;
  std::vector<std::int64_t> lengths{256, 1024, 4096, 16384, 65536};
  if (argc > 3) {
    lengths.clear();
    for (int i = 3; i < argc; ++i) {
      lengths.push_back(std::atoll(argv[i]));
    }
  }
  const bool processor = std::getenv("PROCESSOR_TIME") != nullptr;
  const int all = static_cast<int>(std::thread::hardware_concurrency());
  std::printf("%8s %6s %8s | %-19s | %-19s\n", "L", "B", "threads", "forward min (median)",
              "forward + backward");
  for (const std::int64_t L : lengths) {
    const std::int64_t B = std::max<std::int64_t>(1, tokens / L);
    const auto n = static_cast<std::size_t>(B * L * D);
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    const auto fill = [&](std::size_t count) {
      std::vector<float> x(count);
      for (float& value : x) {
        value = uniform(random);
      }
      return x;
    };
    const std::vector<float> p = fill(3 * n), dy = fill(n);
    const std::vector<float> h = fill(static_cast<std::size_t>(D * L));
    const std::vector<float> weight = fill(static_cast<std::size_t>(9 * D));
    const std::vector<float> bias = fill(static_cast<std::size_t>(3 * D));
    const std::vector<float> skip = fill(static_cast<std::size_t>(D));
    AlignedFloats y(n), dp(3 * n);
    std::vector<float> dh(h.size()), dw(weight.size()), db(bias.size()), dskip(skip.size());
    const Strides ps{L * 3 * D, 1, 3 * D}, ys{L * D, 1, D};
    const auto factor = [&](std::int64_t i) {
      return Factor{{p.data() + i * D, ps}, weight.data() + i * D * 3, bias.data() + i * D};
    };
    const auto gradient = [&](std::int64_t i) {
      return FactorGradient{{dp.get() + i * D, ps}, dw.data() + i * D * 3, db.data() + i * D};
    };
    for (const int threads : processor ? std::vector<int>{1} : std::vector<int>{1, all}) {
      const auto once = [&](int phases) {
        const char* axis = std::getenv("LANE_AXIS");
        const GatedConvPlan plan({B, D, L, L, 3, DataType::kFloat32,
                                  axis == nullptr  ? LaneAxis::kAuto
                                  : axis[0] == 't' ? LaneAxis::kTime
                                                   : LaneAxis::kChannel,
                                  threads});
        const FilterArguments filter{h.data(), skip.data(), nullptr};
        const GatedConvForward forward{factor(0), factor(1), factor(2), filter, {y.get(), ys}};
        const GatedConvBackward back{factor(0),       factor(1),    factor(2),   filter,
                                     {dy.data(), ys}, gradient(0),  gradient(1), gradient(2),
                                     dh.data(),       dskip.data(), nullptr};
        if (phases >= 1) {
          parallel(threads, plan.num_forward_items(), plan.forward_workspace_bytes(),
                   [&](auto b, auto e, void* w) { gated_conv_forward(plan, forward, b, e, w); });
        }
        if (phases >= 2) {
          parallel(threads, plan.num_backward_items(), plan.backward_workspace_bytes(),
                   [&](auto b, auto e, void* w) { gated_conv_backward(plan, back, b, e, w); });
        }
      };
      double best[3], median[3];
      for (const int phases : {1, 2}) {
        std::vector<double> seconds;
        once(phases);
        const double stop = now() + 1.0;
        while (seconds.size() < 5 || now() < stop) {
          const double start = now();
          const double start_processor = processor_seconds();
          once(phases);
          const double wall = now() - start;
          seconds.push_back(processor ? processor_seconds() - start_processor : wall);
        }
        std::sort(seconds.begin(), seconds.end());
        best[phases] = seconds[0] * 1e9 / static_cast<double>(n);
        median[phases] = seconds[seconds.size() / 2] * 1e9 / static_cast<double>(n);
      }
      std::printf("%8lld %6lld %8d | %8.3f (%8.3f) | %8.3f (%8.3f)\n", static_cast<long long>(L),
                  static_cast<long long>(B), threads, best[1], median[1], best[2], median[2]);
      std::fflush(stdout);
    }
  }
}
