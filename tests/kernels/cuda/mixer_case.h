// One problem for the CUDA mixer: random operands on the host, device buffers, runs, comparison.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "hyena/kernels/cuda/tail.h"
#include "hyena/kernels/hyena_mixer_cuda.h"
#include "tests/kernels/cuda/mixer_oracle.h"

namespace hyena::testing_support {

inline void cuda(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

/// Device memory with a poisoned guard behind it, itself poisoned too: 0x7fb3 is a not-a-number of
/// both 16-bit types, 0x7fb37fb3 one of float32, and no kernel computes them.
class DeviceBuffer {
 public:
  static constexpr std::size_t kGuard = 4096;
  explicit DeviceBuffer(std::size_t bytes) : bytes_(bytes) {
    cuda(cudaMalloc(&data_, bytes + kGuard));
    poison();
  }
  ~DeviceBuffer() { static_cast<void>(cudaFree(data_)); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void poison() {
    const std::vector<std::uint16_t> bits((bytes_ + kGuard) / 2, 0x7fb3);
    cuda(cudaMemcpy(data_, bits.data(), bits.size() * 2, cudaMemcpyHostToDevice));
  }
  [[nodiscard]] bool guard_intact() const {
    std::vector<std::uint16_t> bits(kGuard / 2 - 1);
    cuda(cudaMemcpy(bits.data(), static_cast<char*>(data_) + (bytes_ + 1) / 2 * 2, bits.size() * 2,
                    cudaMemcpyDeviceToHost));
    for (const auto b : bits)
      if (b != 0x7fb3) return false;
    return true;
  }
  template <class V>
  void upload(const std::vector<V>& host, std::size_t shift = 0) {
    cuda(cudaMemcpy(static_cast<char*>(data_) + shift, host.data(), host.size() * sizeof(V),
                    cudaMemcpyHostToDevice));
  }
  template <class V>
  [[nodiscard]] std::vector<V> download(std::size_t shift = 0) const {
    std::vector<V> host((bytes_ - shift) / sizeof(V));
    cuda(cudaMemcpy(host.data(), static_cast<char*>(data_) + shift, host.size() * sizeof(V),
                    cudaMemcpyDeviceToHost));
    return host;
  }
  [[nodiscard]] void* get() const { return data_; }
  [[nodiscard]] float* floats() const { return static_cast<float*>(data_); }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

inline std::uint16_t to_bits(double x, kernels::CudaElement type) {
  std::uint16_t bits = 0;
  if (type == kernels::CudaElement::kBFloat16) {
    const __nv_bfloat16 v = __float2bfloat16(static_cast<float>(x));
    std::memcpy(&bits, &v, 2);
  } else {
    const __half v = __float2half(static_cast<float>(x));
    std::memcpy(&bits, &v, 2);
  }
  return bits;
}
inline double from_bits(std::uint16_t bits, kernels::CudaElement type) {
  if (type == kernels::CudaElement::kBFloat16) {
    __nv_bfloat16 v;
    std::memcpy(static_cast<void*>(&v), &bits, 2);
    return static_cast<double>(__bfloat162float(v));
  }
  __half v;
  std::memcpy(static_cast<void*>(&v), &bits, 2);
  return static_cast<double>(__half2float(v));
}

/// ||got - expected|| / ||expected||; not-a-number stays one.
struct RelativeError {
  double difference = 0.0;
  double norm = 0.0;
  void add(double got, double expected) {
    difference += (got - expected) * (got - expected);
    norm += expected * expected;
  }
  [[nodiscard]] double value() const {
    return norm > 0.0 ? std::sqrt(difference / norm) : (difference == 0.0 ? 0.0 : 1e30);
  }
};

/// The relative error of y that hyena_mixer_cuda.h promises.
inline double promised_y(const kernels::CudaMixerShape& s) {
  const bool bf16 = s.type == kernels::CudaElement::kBFloat16;
  const bool longest = s.length - kernels::cuda::tail_of(s.length) > 32768;
  return bf16 ? (longest ? 2.2e-3 : 2.1e-3) : (longest ? 1.4e-3 : 1.3e-3);
}

struct MixerErrors {
  double y = 0.0, dp = 0.0, dp_row = 0.0, dh = 0.0, dweight = 0.0, dbias = 0.0, dskip = 0.0;
  double y_row = 0.0;    // worst batch row
  double edge = 0.0;     // of single times at both ends of y and dp
  double dh_tail = 0.0;  // of the lags that only the tail of a row makes
};

class MixerCase {
 public:
  MixerCase(const kernels::CudaMixerShape& shape, std::uint32_t seed, double p_size = 1.0,
            double dy_size = 1.0)
      : s(shape), random_(seed) {
    const auto rows = static_cast<std::size_t>(s.batch * 3 * s.channels * s.row_stride);
    p.resize(rows);
    dy.resize(rows / 3);
    fill(p, p_size);
    fill(dy, dy_size);
    weight = floats(3 * s.channels * s.taps, 0.6);
    bias = floats(3 * s.channels, 0.1);
    skip = floats(s.channels, 1.0);
    h = floats(s.channels * s.filter_length, 1.0 / std::sqrt(static_cast<double>(s.filter_length)));
    for (std::int64_t d = 0; d < s.channels; ++d)
      for (std::int64_t k = 0; k < s.filter_length && d % 3 != 0; ++k)  // a third does not decay
        h[static_cast<std::size_t>(d * s.filter_length + k)] *= static_cast<float>(
            std::exp(-4.0 * static_cast<double>(k) / static_cast<double>(s.filter_length)));
  }

  kernels::CudaMixerShape s;
  std::vector<std::uint16_t> p, dy;
  std::vector<float> weight, bias, skip, h;
  // results
  std::vector<std::uint16_t> y, dp;
  std::vector<float> dweight, dbias, dskip, dh;
  bool guards = true;

  /// `replays` > 0: captures all calls in a CUDA graph and replays it so many times, outputs
  /// poisoned in between. `shift`: bytes by which p, dy, y and dp miss their natural alignment.
  void run(int replays = 0, std::size_t shift = 0) {
    const auto size = [](const auto& v) { return v.size() * sizeof(v[0]); };
    DeviceBuffer p_(size(p) + shift), dy_(size(dy) + shift), weight_(size(weight)),
        bias_(size(bias)), skip_(size(skip)), h_(size(h)), y_(size(dy) + shift),
        dp_(size(p) + shift), dweight_(size(weight)), dbias_(size(bias)), dskip_(size(skip)),
        dh_(size(h)), spectrum(kernels::hyena_mixer_cuda_spectrum_bytes(s)),
        forward(kernels::hyena_mixer_cuda_forward_workspace(s)),
        backward(kernels::hyena_mixer_cuda_backward_workspace(s));
    p_.upload(p, shift);
    dy_.upload(dy, shift);
    weight_.upload(weight);
    bias_.upload(bias);
    skip_.upload(skip);
    h_.upload(h);
    const auto moved = [&](const DeviceBuffer& b) {
      return static_cast<void*>(static_cast<char*>(b.get()) + shift);
    };
    auto calls = [&](cudaStream_t stream) {
      kernels::hyena_mixer_cuda_spectrum(s, h_.floats(), skip_.floats(), spectrum.get(), stream);
      kernels::hyena_mixer_cuda_forward(s, moved(p_), weight_.floats(), bias_.floats(),
                                        spectrum.get(), moved(y_), forward.get(), stream);
      kernels::hyena_mixer_cuda_backward(
          s, moved(dy_), moved(p_), weight_.floats(), bias_.floats(), spectrum.get(),
          {moved(dp_), dweight_.floats(), dbias_.floats(), dh_.floats(), dskip_.floats()},
          backward.get(), stream);
    };
    if (replays == 0) {
      calls(nullptr);
    } else {
      cudaStream_t stream = nullptr;
      cudaGraph_t graph = nullptr;
      cudaGraphExec_t executable = nullptr;
      cuda(cudaStreamCreate(&stream));
      cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
      calls(stream);
      cuda(cudaStreamEndCapture(stream, &graph));
      cuda(cudaGraphInstantiate(&executable, graph, 0));
      for (int i = 0; i < replays; ++i) {
        for (DeviceBuffer* b : {&y_, &dp_, &dweight_, &dbias_, &dskip_, &dh_})
          b->poison();
        cuda(cudaGraphLaunch(executable, stream));
        cuda(cudaStreamSynchronize(stream));
      }
      cuda(cudaGraphExecDestroy(executable));
      cuda(cudaGraphDestroy(graph));
      cuda(cudaStreamDestroy(stream));
    }
    cuda(cudaDeviceSynchronize());
    y = y_.download<std::uint16_t>(shift);
    dp = dp_.download<std::uint16_t>(shift);
    dweight = dweight_.download<float>();
    dbias = dbias_.download<float>();
    dskip = dskip_.download<float>();
    dh = dh_.download<float>();
    guards = true;
    for (const DeviceBuffer* b :
         {&p_, &dy_, &y_, &dp_, &dweight_, &dbias_, &dskip_, &dh_, &spectrum, &forward, &backward})
      guards = guards && b->guard_intact();
  }

  /// Worst errors over these channels; padding behind a row must be untouched (guards).
  MixerErrors compare(const std::vector<std::int64_t>& channels) {
    MixerErrors worst;
    RelativeError weight_error, bias_error, skip_error;
    for (const auto d : channels) {
      const auto length = static_cast<std::size_t>(s.length);
      oracle::MixerChannel c;
      for (std::int64_t i = 0; i < 3; ++i) {
        oracle::Signal w;
        for (std::int64_t k = 0; k < s.taps; ++k)
          w.push_back(at(weight, (i * s.channels + d) * s.taps + k));
        c.weight.push_back(w);
        c.bias.push_back(at(bias, i * s.channels + d));
      }
      for (std::int64_t k = 0; k < s.filter_length; ++k)
        c.h.push_back(at(h, d * s.filter_length + k));
      c.skip = at(skip, d);
      oracle::MixerOracle reference(c, length);
      RelativeError y_error;
      RelativeError part_error[3];
      for (std::int64_t b = 0; b < s.batch; ++b) {
        std::vector<oracle::Signal> rows;
        for (std::int64_t i = 0; i < 3; ++i)
          rows.push_back(row(p, b, 3, i * s.channels + d));
        const auto expected_y = reference.forward(rows);
        const auto got_y = row(y, b, 1, d);
        worst.y_row = max(worst.y_row, error(got_y, expected_y));
        for (std::size_t n = 0; n < length; ++n)
          y_error.add(got_y[n], expected_y[n]);
        worst.edge = max(worst.edge, edge_error(got_y, expected_y));
        const auto expected_dp = reference.backward(rows, row(dy, b, 1, d));
        for (std::size_t i = 0; i < 3; ++i) {
          const auto got = row(dp, b, 3, static_cast<std::int64_t>(i) * s.channels + d);
          worst.dp_row = max(worst.dp_row, error(got, expected_dp[i]));
          worst.edge = max(worst.edge, edge_error(got, expected_dp[i]));
          for (std::size_t n = 0; n < length; ++n)
            part_error[i].add(got[n], expected_dp[i][n]);
        }
        for (std::int64_t i = 0; i < 4; ++i)
          check_padding(i < 3 ? dp : y, b, i < 3 ? 3 : 1, i < 3 ? i * s.channels + d : d);
      }
      worst.y = max(worst.y, y_error.value());
      for (const auto& e : part_error)
        worst.dp = max(worst.dp, e.value());
      const auto expected = reference.gradients();
      RelativeError filter_error;
      for (std::int64_t k = 0; k < s.filter_length; ++k)
        filter_error.add(at(dh, d * s.filter_length + k), expected.h[static_cast<std::size_t>(k)]);
      worst.dh = max(worst.dh, filter_error.value());
      const int tail = kernels::cuda::tail_of(s.length);
      RelativeError tail_error;
      for (std::int64_t k = s.length - tail; k < s.filter_length; ++k)
        tail_error.add(at(dh, d * s.filter_length + k), expected.h[static_cast<std::size_t>(k)]);
      if (tail > 0 && s.filter_length > s.length - tail)
        worst.dh_tail = max(worst.dh_tail, tail_error.value());
      // One number, and a sum that may cancel: held against the size of dh, whose first entry it
      // is.
      skip_error.difference += std::pow(at(dskip, d) - expected.skip, 2);
      for (const double v : expected.h)
        skip_error.norm += v * v / static_cast<double>(expected.h.size());
      for (std::int64_t i = 0; i < 3; ++i) {
        bias_error.add(at(dbias, i * s.channels + d), expected.bias[static_cast<std::size_t>(i)]);
        for (std::int64_t k = 0; k < s.taps; ++k)
          weight_error.add(
              at(dweight, (i * s.channels + d) * s.taps + k),
              expected.weight[static_cast<std::size_t>(i)][static_cast<std::size_t>(k)]);
      }
    }
    worst.dweight = weight_error.value();
    worst.dbias = bias_error.value();
    worst.dskip = skip_error.value();
    return worst;
  }

  [[nodiscard]] oracle::Signal row(const std::vector<std::uint16_t>& x, std::int64_t b,
                                   std::int64_t parts, std::int64_t channel) const {
    oracle::Signal r;
    const std::int64_t from = (b * parts * s.channels + channel) * s.row_stride;
    for (std::int64_t n = 0; n < s.length; ++n)
      r.push_back(from_bits(x[static_cast<std::size_t>(from + n)], s.type));
    return r;
  }

 private:
  static double max(double a, double b) { return b <= a ? a : b; }  // keeps a not-a-number b
  static double error(const oracle::Signal& got, const oracle::Signal& expected) {
    RelativeError e;
    for (std::size_t n = 0; n < got.size(); ++n)
      e.add(got[n], expected[n]);
    return e.value();
  }
  /// Worst single time among the first and the last ten, against its size and the row's.
  static double edge_error(const oracle::Signal& got, const oracle::Signal& expected) {
    double squares = 0.0;
    for (const double v : expected)
      squares += v * v;
    const double rms = std::sqrt(squares / static_cast<double>(expected.size()));
    double worst = 0.0;
    for (std::size_t n = 0; n < got.size(); ++n)
      if (n < 10 || n + 10 >= got.size())
        worst = max(worst, std::abs(got[n] - expected[n]) / (std::abs(expected[n]) + rms));
    return worst;
  }
  static double at(const std::vector<float>& x, std::int64_t i) {
    return static_cast<double>(x[static_cast<std::size_t>(i)]);
  }
  void check_padding(const std::vector<std::uint16_t>& x, std::int64_t b, std::int64_t parts,
                     std::int64_t channel) {
    const std::int64_t from = (b * parts * s.channels + channel) * s.row_stride;
    for (std::int64_t n = s.length; n < s.row_stride; ++n)
      guards = guards && x[static_cast<std::size_t>(from + n)] == 0x7fb3;
  }
  /// Random up to a period that is no multiple of any row, so that large cases start quickly.
  void fill(std::vector<std::uint16_t>& x, double size) {
    constexpr std::size_t kPeriod = 4194301;
    for (std::size_t i = 0; i < x.size(); ++i)
      x[i] = i < kPeriod ? to_bits(size * normal(), s.type) : x[i - kPeriod];
  }
  double normal() { return normal_(random_); }
  std::vector<float> floats(std::int64_t n, double size) {
    std::vector<float> x(static_cast<std::size_t>(n));
    for (auto& v : x)
      v = static_cast<float>(size * normal());
    return x;
  }
  std::mt19937 random_;
  std::normal_distribution<double> normal_;
};

}  // namespace hyena::testing_support
