// How fast the CUDA mixer is, against the bytes that must move: verifies each shape against
// float64, then times it (rows padded to 16 bytes, as the operator lays them), and measures the
// copy rate of the same device in the same run.
//
//   mixer_speed [--fp16] [--channels D] [--tokens N] [--taps K] [length...]
//
// Six channels are verified: sums of few parameters' gradients would tell more about their own
// cancellation than about the kernels. One line per length: medians of 21 of the filter's spectrum,
// the forward with a cached spectrum, the backward; shares of the 8 and 22 byte bounds with the
// spectrum made inside. Two input sets take turns, each larger than the L2.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "tests/kernels/cuda/mixer_case.h"

namespace {

using hyena::kernels::CudaElement;
using hyena::kernels::CudaMixerShape;
using hyena::testing_support::cuda;
using hyena::testing_support::DeviceBuffer;
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

bool measure(const CudaMixerShape& s, double rate) {
  namespace k = hyena::kernels;
  MixerCase c(s, static_cast<std::uint32_t>(s.length));
  c.run();
  const std::int64_t D = s.channels;
  const std::vector<std::int64_t> channels{0, D / 5, 2 * D / 5 + 1, 3 * D / 5, 4 * D / 5, D - 1};
  const auto e = c.compare(channels);
  const double y_bound = hyena::testing_support::promised_y(s);
  const double few = s.length < 1000 ? 4.0 : 1.0;  // as in the test: rows of few values
  const bool good = c.guards && e.y <= few * y_bound && e.y_row <= few * 1.25 * y_bound &&
                    e.dp <= few * 3e-3 && e.dh <= few * 1.5e-3 && e.dweight <= few * 1.5e-3 &&
                    e.dskip <= few * 4.5e-3;
  std::printf(
      "L %7lld K %lld: y %.2e (row %.2e) dp %.2e (row %.2e) dh %.2e dw %.2e db %.2e dskip %.2e%s\n",
      static_cast<long long>(s.length), static_cast<long long>(s.filter_length), e.y, e.y_row, e.dp,
      e.dp_row, e.dh, e.dweight, e.dbias, e.dskip, good ? "" : "  FAILED");
  if (!good) return false;
  const auto bytes = [](const auto& v) { return v.size() * sizeof(v[0]); };
  std::vector<std::unique_ptr<DeviceBuffer>> all;
  auto buffer = [&](std::size_t n) {
    all.push_back(std::make_unique<DeviceBuffer>(n));
    return all.back().get();
  };
  DeviceBuffer* p[2];
  DeviceBuffer* dy[2];
  DeviceBuffer* y[2];
  DeviceBuffer* dp[2];
  for (int i = 0; i < 2; ++i) {
    p[i] = buffer(bytes(c.p));
    dy[i] = buffer(bytes(c.dy));
    y[i] = buffer(bytes(c.dy));
    dp[i] = buffer(bytes(c.p));
    p[i]->upload(c.p);
    dy[i]->upload(c.dy);
  }
  DeviceBuffer* weight = buffer(bytes(c.weight));
  DeviceBuffer* bias = buffer(bytes(c.bias));
  DeviceBuffer* skip = buffer(bytes(c.skip));
  DeviceBuffer* h = buffer(bytes(c.h));
  DeviceBuffer* dweight = buffer(bytes(c.weight));
  DeviceBuffer* dbias = buffer(bytes(c.bias));
  DeviceBuffer* dskip = buffer(bytes(c.skip));
  DeviceBuffer* dh = buffer(bytes(c.h));
  DeviceBuffer* spectrum = buffer(k::hyena_mixer_cuda_spectrum_bytes(s));
  DeviceBuffer* work = buffer(std::max(k::hyena_mixer_cuda_forward_workspace(s),
                                       k::hyena_mixer_cuda_backward_workspace(s)));
  weight->upload(c.weight);
  bias->upload(c.bias);
  skip->upload(c.skip);
  h->upload(c.h);
  auto make_spectrum = [&](int) {
    k::hyena_mixer_cuda_spectrum(s, h->floats(), skip->floats(), spectrum->get(), nullptr);
  };
  auto forward = [&](int i) {
    k::hyena_mixer_cuda_forward(s, p[i % 2]->get(), weight->floats(), bias->floats(),
                                spectrum->get(), y[i % 2]->get(), work->get(), nullptr);
  };
  auto backward = [&](int i) {
    k::hyena_mixer_cuda_backward(
        s, dy[i % 2]->get(), p[i % 2]->get(), weight->floats(), bias->floats(), spectrum->get(),
        {dp[i % 2]->get(), dweight->floats(), dbias->floats(), dh->floats(), dskip->floats()},
        work->get(), nullptr);
  };
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
  const double elements = static_cast<double>(s.batch * s.channels * s.length);
  const double bound_f = 8.0 * elements / rate;
  const double bound_all = 22.0 * elements / rate;
  std::printf(
      "           B %lld D %lld: spectrum %.4f, forward %.4f (cached spectrum, %.1f %%), with "
      "spectrum "
      "%.4f (spread %.4f) %.1f %%; backward %.4f; all %.4f (spread %.4f) %.1f %%; bounds %.4f "
      "%.4f\n",
      static_cast<long long>(s.batch), static_cast<long long>(s.channels), ts.median, tf.median,
      100 * bound_f / tf.median, tsf.median, tsf.spread, 100 * bound_f / tsf.median, tb.median,
      tall.median, tall.spread, 100 * bound_all / tall.median, bound_f, bound_all);
  std::fflush(stdout);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  CudaElement type = CudaElement::kBFloat16;
  std::int64_t channels = 768;
  std::int64_t tokens = 131072;
  std::int64_t taps = 0;  // of the long filter; 0: as long as the row
  std::vector<std::int64_t> lengths;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--fp16") {
      type = CudaElement::kFloat16;
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
    const CudaMixerShape s{std::max<std::int64_t>(1, (tokens + length / 2) / length),
                           channels,
                           length,
                           taps > 0 ? std::min(taps, length) : length,
                           (length + 7) / 8 * 8,
                           3,
                           type};
    if (!hyena::kernels::hyena_mixer_cuda_supports(s, 0)) {
      std::printf("L %lld: not supported\n", static_cast<long long>(length));
      continue;
    }
    good = measure(s, rate) && good;
  }
  return good ? 0 : 1;
}
