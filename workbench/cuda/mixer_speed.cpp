// How fast the CUDA mixer is, against the bytes that must move: verifies each shape against
// float64, then times it (rows padded as the operator lays them), and measures the
// copy rate of the same device in the same run.
//
//   mixer_speed [--fp16] [--generic] [--fp32] [--channels D] [--tokens N]
//               [--taps K] [length...]
//
// --generic times the kernels of mixer_cuda_generic.h instead, and --fp32 these with float32
// tensors; their rows are not padded.
//
// Six channels are verified: sums of few parameters' gradients would tell more about their own
// cancellation than about the kernels. One line per length: medians of 21 of the filter's spectrum,
// the forward with a cached spectrum, the backward; shares of the bounds, 4 and 11 elements, with
// the spectrum made inside, and the rates that these are. Two input sets take turns, each larger
// than the L2.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "tests/kernels/cuda/mixer_case.h"
#include "tests/kernels/cuda/mixer_generic_case.h"

namespace {

using hyena::kernels::CudaElement;
using hyena::kernels::CudaMixerShape;
using hyena::testing_support::cuda;
using hyena::testing_support::DeviceBuffer;
using hyena::testing_support::GenericCase;
using hyena::testing_support::MixerCase;

struct Timing {
  double median, spread;
};

template <class F>
Timing time_ms(F&& run) {
  constexpr int kRuns = 21;
  cudaEvent_t start{};
  cudaEvent_t stop{};
  cuda(cudaEventCreate(&start));
  cuda(cudaEventCreate(&stop));
  for (int i = 0; i < 3; ++i)
    run(i);
  std::vector<float> ms(kRuns);
  for (int i = 0; i < kRuns; ++i) {
    cuda(cudaEventRecord(start));
    run(i);
    cuda(cudaEventRecord(stop));
    cuda(cudaEventSynchronize(stop));
    cuda(cudaEventElapsedTime(&ms[static_cast<std::size_t>(i)], start, stop));
  }
  std::sort(ms.begin(), ms.end());
  return {static_cast<double>(ms[kRuns / 2]),
          static_cast<double>(ms[3 * kRuns / 4] - ms[kRuns / 4])};
}

double copy_rate() {  // bytes read and written per millisecond
  const std::size_t bytes = std::size_t{1} << 30;
  void* a = nullptr;
  void* b = nullptr;
  cuda(cudaMalloc(&a, bytes));
  cuda(cudaMalloc(&b, bytes));
  cuda(cudaMemset(a, 0x5a, bytes));
  const Timing t =
      time_ms([&](int) { cuda(cudaMemcpyAsync(b, a, bytes, cudaMemcpyDeviceToDevice)); });
  cuda(cudaFree(a));
  cuda(cudaFree(b));
  return 2.0 * static_cast<double>(bytes) / t.median;
}

std::vector<std::int64_t> verified_channels(std::int64_t D) {
  return {0, D / 5, 2 * D / 5 + 1, 3 * D / 5, 4 * D / 5, D - 1};
}

/// What a verified case needs on the device; rows p and dy as bytes.
class Operands {
 public:
  template <class Case, class Row>
  Operands(const Case& c, const Row& p_row, const Row& dy_row, std::size_t spectrum_bytes,
           std::size_t workspace)
      : weight(copy(c.weight)),
        bias(copy(c.bias)),
        skip(copy(c.skip)),
        h(copy(c.h)),
        dweight(copy(c.weight)),
        dbias(copy(c.bias)),
        dskip(copy(c.skip)),
        dh(copy(c.h)),
        spectrum(buffer(spectrum_bytes)),
        work(buffer(workspace)) {
    for (int i = 0; i < 2; ++i) {
      p[i] = copy(p_row);
      dp[i] = copy(p_row);
      dy[i] = copy(dy_row);
      y[i] = copy(dy_row);
    }
  }
  [[nodiscard]] hyena::kernels::CudaMixerGradients gradients(int i) const {
    return {dp[i]->get(), dweight->floats(), dbias->floats(), dh->floats(), dskip->floats()};
  }

 private:
  std::vector<std::unique_ptr<DeviceBuffer>> all_;
  DeviceBuffer* buffer(std::size_t n) {
    all_.push_back(std::make_unique<DeviceBuffer>(n));
    return all_.back().get();
  }
  template <class V>
  DeviceBuffer* copy(const std::vector<V>& v) {
    DeviceBuffer* b = buffer(v.size() * sizeof(V));
    b->upload(v);
    return b;
  }

 public:
  DeviceBuffer *weight, *bias, *skip, *h, *dweight, *dbias, *dskip, *dh, *spectrum, *work;
  DeviceBuffer *p[2], *dp[2], *dy[2], *y[2];
};

template <class Spectrum, class Forward, class Backward>
void time_mixer(std::int64_t B, std::int64_t D, std::int64_t L, double element_bytes, double rate,
                Spectrum&& make_spectrum, Forward&& forward, Backward&& backward) {
  const Timing ts = time_ms(make_spectrum);
  const Timing tf = time_ms(forward);
  const Timing tb = time_ms(backward);
  const Timing tsf = time_ms([&](int i) {
    make_spectrum(i);
    forward(i);
  });
  const Timing tall = time_ms([&](int i) {
    make_spectrum(i);
    forward(i);
    backward(i);
  });
  const double elements = static_cast<double>(B * D * L);
  const double bound_f = 4.0 * element_bytes * elements / rate;
  const double bound_all = 11.0 * element_bytes * elements / rate;
  std::printf(
      "           B %lld D %lld: spectrum %.4f, forward %.4f (cached spectrum, %.1f %%), with "
      "spectrum "
      "%.4f (spread %.4f) %.1f %%; backward %.4f; all %.4f (spread %.4f) %.1f %%; bounds %.4f "
      "%.4f; GB/s %.0f %.0f\n",
      static_cast<long long>(B), static_cast<long long>(D), ts.median, tf.median,
      100 * bound_f / tf.median, tsf.median, tsf.spread, 100 * bound_f / tsf.median, tb.median,
      tall.median, tall.spread, 100 * bound_all / tall.median, bound_f, bound_all,
      bound_f * rate / tsf.median * 1e-6, bound_all * rate / tall.median * 1e-6);
  std::fflush(stdout);
}

void print_errors(const CudaMixerShape& s, const auto& e, bool good) {
  std::printf(
      "L %7lld K %lld: y %.2e (row %.2e) dp %.2e (row %.2e) dh %.2e dw %.2e db %.2e dskip %.2e%s\n",
      static_cast<long long>(s.length), static_cast<long long>(s.filter_length), e.y, e.y_row, e.dp,
      e.dp_row, e.dh, e.dweight, e.dbias, e.dskip, good ? "" : "  FAILED");
}

bool measure(const CudaMixerShape& s, double rate) {
  namespace k = hyena::kernels;
  MixerCase c(s, static_cast<std::uint32_t>(s.length));
  c.run();
  const auto e = c.compare(verified_channels(s.channels));
  const double y_bound = hyena::testing_support::promised_y(s);
  const double few = s.length < 1000 ? 4.0 : 1.0;  // as in the test: rows of few values
  const bool good = c.guards && e.y <= few * y_bound && e.y_row <= few * 1.25 * y_bound &&
                    e.dp <= few * 3e-3 && e.dh <= few * 1.5e-3 && e.dweight <= few * 1.5e-3 &&
                    e.dskip <= few * 4.5e-3;
  print_errors(s, e, good);
  if (!good) return false;
  const Operands on(c, c.p, c.dy, k::hyena_mixer_cuda_spectrum_bytes(s),
                    std::max(k::hyena_mixer_cuda_forward_workspace(s),
                             k::hyena_mixer_cuda_backward_workspace(s)));
  time_mixer(
      s.batch, s.channels, s.length, 2.0, rate,
      [&](int) {
        k::hyena_mixer_cuda_spectrum(s, on.h->floats(), on.skip->floats(), on.spectrum->get(),
                                     nullptr);
      },
      [&](int i) {
        k::hyena_mixer_cuda_forward(s, on.p[i % 2]->get(), on.weight->floats(), on.bias->floats(),
                                    on.spectrum->get(), on.y[i % 2]->get(), on.work->get(),
                                    nullptr);
      },
      [&](int i) {
        k::hyena_mixer_cuda_backward(s, on.dy[i % 2]->get(), on.p[i % 2]->get(),
                                     on.weight->floats(), on.bias->floats(), on.spectrum->get(),
                                     on.gradients(i % 2), on.work->get(), nullptr);
      });
  return true;
}

bool measure_generic(const CudaMixerShape& s, double rate) {
  namespace k = hyena::kernels;
  GenericCase c(s, static_cast<std::uint32_t>(s.length));
  c.run();
  const auto e = c.compare(verified_channels(s.channels));
  const double exact = hyena::testing_support::promised_float32(s.length);
  const double rounded = exact + hyena::testing_support::output_rounding(s.type);
  const bool good = c.guards && e.y <= rounded && e.dp <= rounded && e.dh <= exact &&
                    e.dweight <= 1e-5 && e.dskip <= 4.0 * exact;
  print_errors(s, e, good);
  if (!good) return false;
  const Operands on(c, c.p.bytes, c.dy.bytes, k::hyena_mixer_cuda_generic_spectrum_bytes(s),
                    std::max(k::hyena_mixer_cuda_generic_forward_workspace(s),
                             k::hyena_mixer_cuda_generic_backward_workspace(s)));
  time_mixer(
      s.batch, s.channels, s.length,
      static_cast<double>(hyena::testing_support::element_bytes(s.type)), rate,
      [&](int) {
        k::hyena_mixer_cuda_generic_spectrum(s, on.h->floats(), on.skip->floats(), nullptr,
                                             on.spectrum->get(), nullptr);
      },
      [&](int i) {
        k::hyena_mixer_cuda_generic_forward(s, on.p[i % 2]->get(), on.weight->floats(),
                                            on.bias->floats(), on.spectrum->get(),
                                            on.y[i % 2]->get(), on.work->get(), nullptr);
      },
      [&](int i) {
        k::hyena_mixer_cuda_generic_backward(
            s, on.dy[i % 2]->get(), on.p[i % 2]->get(), on.weight->floats(), on.bias->floats(),
            on.spectrum->get(), on.gradients(i % 2), nullptr, on.work->get(), nullptr);
      });
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  CudaElement type = CudaElement::kBFloat16;
  bool generic = false;
  std::int64_t channels = 768;
  std::int64_t tokens = 131072;
  std::int64_t taps = 0;  // of the long filter; 0: as long as the row
  std::vector<std::int64_t> lengths;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--fp16") {
      type = CudaElement::kFloat16;
    } else if (arg == "--generic") {
      generic = true;
    } else if (arg == "--fp32") {
      generic = true;
      type = CudaElement::kFloat32;
    } else if (arg == "--channels" && i + 1 < argc) {
      channels = std::atoll(argv[++i]);
    } else if (arg == "--tokens" && i + 1 < argc) {
      tokens = std::atoll(argv[++i]);
    } else if (arg == "--taps" && i + 1 < argc) {
      taps = std::atoll(argv[++i]);
    } else {
      lengths.push_back(std::atoll(argv[i]));
    }
  }
  if (lengths.empty()) lengths = {1024, 2048, 4096, 8192};
  cudaDeviceProp device{};
  if (cudaGetDeviceProperties(&device, 0) != cudaSuccess) {
    std::printf("no CUDA device\n");
    return 0;
  }
  const double rate = copy_rate();
  std::printf("%s, %d SMs, copy %.3f TB/s (read + written)\n", device.name,
              device.multiProcessorCount, rate * 1e-9);
  bool good = true;
  for (const std::int64_t length : lengths) {
    const std::int64_t batch = std::max<std::int64_t>(1, (tokens + length / 2) / length);
    const std::int64_t K = taps != 0 ? std::min(taps, length) : length;
    if (generic) {
      const CudaMixerShape g{batch, channels, length, K, length, 3, type};
      if (hyena::kernels::hyena_mixer_cuda_generic_supports(g, 0)) {
        good = measure_generic(g, rate) && good;
      } else {
        std::printf("L %lld: not supported\n", static_cast<long long>(length));
      }
      continue;
    }
    const CudaMixerShape s{
        batch, channels, length, K, length % 8 == 0 ? length : (length + 15) / 16 * 16, 3, type};
    if (!hyena::kernels::hyena_mixer_cuda_supports(s, 0)) {
      std::printf("L %lld: not supported\n", static_cast<long long>(length));
      continue;
    }
    good = measure(s, rate) && good;
  }
  return good ? 0 : 1;
}
