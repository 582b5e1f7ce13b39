// One problem for the generic CUDA mixer: random operands, fenced device buffers, runs, comparison.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "hyena/kernels/mixer_cuda_generic.h"
#include "tests/kernels/cuda/mixer_case.h"

namespace hyena::testing_support {

using kernels::CudaElement;
using kernels::CudaMixerShape;

inline std::size_t element_bytes(CudaElement type) {
  return type == CudaElement::kFloat32 ? 4 : 2;
}

/// Elements of one of the three types.
class Elements {
 public:
  Elements() = default;
  Elements(std::size_t count, CudaElement type) : type_(type), bytes(count * element_bytes(type)) {}
  [[nodiscard]] std::size_t size() const { return bytes.size() / element_bytes(type_); }
  [[nodiscard]] double at(std::size_t i) const {
    if (type_ == CudaElement::kFloat32) {
      float v = 0.F;
      std::memcpy(&v, bytes.data() + 4 * i, 4);
      return static_cast<double>(v);
    }
    std::uint16_t v = 0;
    std::memcpy(&v, bytes.data() + 2 * i, 2);
    return from_bits(v, type_);
  }
  void set(std::size_t i, double x) {
    if (type_ == CudaElement::kFloat32) {
      const auto v = static_cast<float>(x);
      std::memcpy(bytes.data() + 4 * i, &v, 4);
    } else {
      const std::uint16_t v = to_bits(x, type_);
      std::memcpy(bytes.data() + 2 * i, &v, 2);
    }
  }
  /// Whether element i still holds what FencedBuffer fills its memory with.
  [[nodiscard]] bool untouched(std::size_t i) const;

 private:
  CudaElement type_ = CudaElement::kFloat32;

 public:
  std::vector<unsigned char> bytes;
};

/// Device memory between two fences, all of it filled with a not-a-number of every type.
class FencedBuffer {
 public:
  static constexpr std::size_t kFence = 4096;
  static constexpr unsigned char kFill[2] = {0xb3, 0x7f};

  explicit FencedBuffer(std::size_t bytes) : bytes_(bytes) {
    cuda(cudaMalloc(&data_, bytes + 2 * kFence));
    poison();
  }
  template <class V>
  explicit FencedBuffer(const std::vector<V>& host, std::size_t shift = 0)
      : FencedBuffer(host.size() * sizeof(V) + shift) {
    cuda(cudaMemcpy(get(shift), host.data(), host.size() * sizeof(V), cudaMemcpyHostToDevice));
  }
  ~FencedBuffer() { static_cast<void>(cudaFree(data_)); }
  FencedBuffer(const FencedBuffer&) = delete;
  FencedBuffer& operator=(const FencedBuffer&) = delete;

  void poison() {
    const std::vector<std::uint16_t> fill((bytes_ + 1) / 2 + kFence, 0x7fb3);
    cuda(cudaMemcpy(data_, fill.data(), bytes_ + 2 * kFence, cudaMemcpyHostToDevice));
  }
  [[nodiscard]] bool fences_intact() const {
    std::vector<unsigned char> all(2 * kFence);
    cuda(cudaMemcpy(all.data(), data_, kFence, cudaMemcpyDeviceToHost));
    cuda(cudaMemcpy(all.data() + kFence, static_cast<char*>(data_) + kFence + bytes_, kFence,
                    cudaMemcpyDeviceToHost));
    for (std::size_t i = 0; i < all.size(); ++i)
      if (all[i] != kFill[(i < kFence ? i : i + bytes_) % 2]) return false;
    return true;
  }
  [[nodiscard]] void* get(std::size_t shift = 0) const {
    return static_cast<char*>(data_) + kFence + shift;
  }
  [[nodiscard]] float* floats() const { return static_cast<float*>(get()); }
  template <class V>
  void download(std::vector<V>& host, std::size_t shift = 0) const {
    host.resize((bytes_ - shift) / sizeof(V));
    cuda(cudaMemcpy(host.data(), get(shift), host.size() * sizeof(V), cudaMemcpyDeviceToHost));
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
};

inline bool Elements::untouched(std::size_t i) const {
  const std::size_t width = element_bytes(type_);
  for (std::size_t j = 0; j < width; ++j)
    if (bytes[width * i + j] != FencedBuffer::kFill[j % 2]) return false;
  return true;
}

/// The relative rms error of y, dp and dh that mixer_cuda_generic.h promises, before 16-bit
/// outputs.
inline double promised_float32(std::int64_t length) {
  int log = 8;
  while ((std::int64_t{1} << log) < length)
    ++log;
  return 2.0 * log * 0x1p-24;
}
/// The half unit in the last place of an output.
inline double output_rounding(CudaElement type) {
  switch (type) {
    case CudaElement::kBFloat16:
      return 0x1p-9;
    case CudaElement::kFloat16:
      return 0x1p-12;  // rms; 2^-11 at most
    default:
      return 0.0;
  }
}

struct GenericErrors {
  double y = 0.0, dp = 0.0, dh = 0.0, dweight = 0.0, dbias = 0.0, dskip = 0.0, dreverse = 0.0;
  double y_row = 0.0, dp_row = 0.0;  // worst batch row
};

class GenericCase {
 public:
  explicit GenericCase(const CudaMixerShape& shape, std::uint32_t seed, bool biased = true,
                       bool skipped = true, bool both_ways = false)
      : s(shape), has_bias(biased), has_skip(skipped), has_reverse(both_ways), random_(seed) {
    const auto rows = static_cast<std::size_t>(s.batch * s.channels * s.row_stride);
    p = noise(3 * rows);
    dy = noise(rows);
    weight = floats(3 * s.channels * s.taps, 1.0 / std::sqrt(static_cast<double>(s.taps)));
    bias = floats(3 * s.channels, has_bias ? 0.3 : 0.0);
    skip = floats(s.channels, has_skip ? 1.0 : 0.0);
    h = floats(s.channels * s.filter_length, 1.0 / root_of_taps());
    for (std::int64_t d = 0; d < s.channels; ++d)
      for (std::int64_t k = 0; k < s.filter_length && d % 3 != 0; ++k)  // a third does not decay
        h[index(d * s.filter_length + k)] *= static_cast<float>(
            std::exp(-4.0 * static_cast<double>(k) / static_cast<double>(s.filter_length)));
    if (has_reverse) reverse = floats(s.channels * s.filter_length, 0.5 / root_of_taps());
  }

  CudaMixerShape s;
  bool has_bias, has_skip, has_reverse;
  Elements p, dy;
  std::vector<float> weight, bias, skip, h, reverse;
  // results
  Elements y, dp;
  std::vector<float> dweight, dbias, dskip, dh, dreverse;
  bool guards = true;

  /// `replays` > 0: captures all calls in a CUDA graph and replays it so often. `shift`: bytes by
  /// which p, dy, y and dp miss the alignment of an allocation.
  void run(int replays = 0, std::size_t shift = 0) {
    const auto bytes = [](const std::vector<float>& v) { return v.size() * sizeof(float); };
    const FencedBuffer p_(p.bytes, shift), dy_(dy.bytes, shift), weight_(weight), bias_(bias),
        skip_(skip), h_(h), reverse_(reverse);
    FencedBuffer y_(dy.bytes.size() + shift), dp_(p.bytes.size() + shift), dweight_(bytes(weight)),
        dbias_(bytes(bias)), dskip_(bytes(skip)), dh_(bytes(h)), dreverse_(bytes(reverse)),
        spectrum(kernels::hyena_mixer_cuda_generic_spectrum_bytes(s)),
        forward(kernels::hyena_mixer_cuda_generic_forward_workspace(s)),
        backward(kernels::hyena_mixer_cuda_generic_backward_workspace(s));
    const float* const bias_or_null = has_bias ? bias_.floats() : nullptr;
    const auto calls = [&](cudaStream_t stream) {
      kernels::hyena_mixer_cuda_generic_spectrum(
          s, h_.floats(), has_skip ? skip_.floats() : nullptr,
          has_reverse ? reverse_.floats() : nullptr, spectrum.get(), stream);
      kernels::hyena_mixer_cuda_generic_forward(s, p_.get(shift), weight_.floats(), bias_or_null,
                                                spectrum.get(), y_.get(shift), forward.get(),
                                                stream);
      kernels::hyena_mixer_cuda_generic_backward(
          s, dy_.get(shift), p_.get(shift), weight_.floats(), bias_or_null, spectrum.get(),
          {dp_.get(shift), dweight_.floats(), dbias_.floats(), dh_.floats(), dskip_.floats()},
          has_reverse ? dreverse_.floats() : nullptr, backward.get(), stream);
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
        for (FencedBuffer* b : {&y_, &dp_, &dweight_, &dbias_, &dskip_, &dh_, &dreverse_})
          b->poison();
        cuda(cudaGraphLaunch(executable, stream));
        cuda(cudaStreamSynchronize(stream));
      }
      cuda(cudaGraphExecDestroy(executable));
      cuda(cudaGraphDestroy(graph));
      cuda(cudaStreamDestroy(stream));
    }
    cuda(cudaDeviceSynchronize());
    y = Elements(dy.size(), s.type);
    dp = Elements(p.size(), s.type);
    y_.download(y.bytes, shift);
    dp_.download(dp.bytes, shift);
    dweight_.download(dweight);
    dbias_.download(dbias);
    dskip_.download(dskip);
    dh_.download(dh);
    dreverse_.download(dreverse);
    guards = true;
    for (const FencedBuffer* b :
         {&p_, &dy_, &weight_, &bias_, &skip_, &h_, &reverse_, &std::as_const(y_),
          &std::as_const(dp_), &std::as_const(dweight_), &std::as_const(dbias_),
          &std::as_const(dskip_), &std::as_const(dh_), &std::as_const(dreverse_),
          &std::as_const(spectrum), &std::as_const(forward), &std::as_const(backward)})
      guards = guards && b->fences_intact();
    for (std::int64_t row = 0; row < 4 * s.batch * s.channels; ++row) {
      const bool input = row < 3 * s.batch * s.channels;
      const std::int64_t at = input ? row : row - 3 * s.batch * s.channels;
      for (std::int64_t n = s.length; n < s.row_stride; ++n)
        guards = guards && (input ? dp : y).untouched(index(at * s.row_stride + n));
    }
  }

  [[nodiscard]] bool equal_bits(const GenericCase& other) const {
    return y.bytes == other.y.bytes && dp.bytes == other.dp.bytes && dweight == other.dweight &&
           dbias == other.dbias && dskip == other.dskip && dh == other.dh &&
           dreverse == other.dreverse;
  }

  /// Over these channels.
  [[nodiscard]] GenericErrors compare(const std::vector<std::int64_t>& channels) const {
    GenericErrors worst;
    RelativeError y_error, h_error, weight_error, bias_error, skip_error, reverse_error;
    RelativeError part_error[3];
    for (const auto d : channels) {
      oracle::MixerOracle reference(channel(d), index(s.length));
      for (std::int64_t b = 0; b < s.batch; ++b) {
        std::vector<oracle::Signal> rows;
        for (std::int64_t i = 0; i < 3; ++i)
          rows.push_back(row(p, (b * 3 + i) * s.channels + d));
        const auto check = [&](const Elements& got, std::int64_t at, const oracle::Signal& expected,
                               RelativeError& sum, double& worst_row) {
          const auto values = row(got, at);
          RelativeError one;
          for (std::size_t n = 0; n < values.size(); ++n) {
            one.add(values[n], expected[n]);
            sum.add(values[n], expected[n]);
          }
          worst_row = max(worst_row, one.value());
        };
        check(y, b * s.channels + d, reference.forward(rows), y_error, worst.y_row);
        const auto expected = reference.backward(rows, row(dy, b * s.channels + d));
        for (std::int64_t i = 0; i < 3; ++i)
          check(dp, (b * 3 + i) * s.channels + d, expected[index(i)], part_error[i], worst.dp_row);
      }
      const auto expected = reference.gradients();
      // One number per channel, and a sum that may cancel: held against the size of dh.
      skip_error.difference += std::pow(value(dskip, d) - expected.skip, 2);
      for (std::int64_t k = 0; k < s.filter_length; ++k) {
        const double v = expected.h[index(k)];
        h_error.add(value(dh, d * s.filter_length + k), v);
        skip_error.norm += v * v / static_cast<double>(s.filter_length);
      }
      for (std::size_t k = 0; k < expected.reverse.size(); ++k)
        reverse_error.add(value(dreverse, d * s.filter_length + static_cast<std::int64_t>(k)),
                          expected.reverse[k]);
      for (std::int64_t i = 0; i < 3; ++i) {
        bias_error.add(value(dbias, i * s.channels + d), expected.bias[index(i)]);
        for (std::int64_t k = 0; k < s.taps; ++k)
          weight_error.add(value(dweight, (i * s.channels + d) * s.taps + k),
                           expected.weight[index(i)][index(k)]);
      }
    }
    worst.y = y_error.value();
    for (const auto& e : part_error)
      worst.dp = max(worst.dp, e.value());
    worst.dh = h_error.value();
    worst.dweight = weight_error.value();
    worst.dbias = bias_error.value();
    worst.dskip = skip_error.value();
    if (has_reverse) worst.dreverse = reverse_error.value();
    return worst;
  }

  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

 private:
  static double max(double a, double b) { return b <= a ? a : b; }  // keeps a not-a-number b
  static double value(const std::vector<float>& x, std::int64_t i) {
    return static_cast<double>(x[index(i)]);
  }
  [[nodiscard]] oracle::Signal row(const Elements& x, std::int64_t at) const {
    oracle::Signal r(index(s.length));
    for (std::size_t n = 0; n < r.size(); ++n)
      r[n] = x.at(index(at * s.row_stride) + n);
    return r;
  }
  [[nodiscard]] oracle::MixerChannel channel(std::int64_t d) const {
    oracle::MixerChannel c;
    for (std::int64_t i = 0; i < 3; ++i) {
      oracle::Signal w;
      for (std::int64_t k = 0; k < s.taps; ++k)
        w.push_back(value(weight, (i * s.channels + d) * s.taps + k));
      c.weight.push_back(w);
      c.bias.push_back(value(bias, i * s.channels + d));
    }
    for (std::int64_t k = 0; k < s.filter_length; ++k) {
      c.h.push_back(value(h, d * s.filter_length + k));
      if (has_reverse) c.reverse.push_back(value(reverse, d * s.filter_length + k));
    }
    c.skip = value(skip, d);
    return c;
  }
  [[nodiscard]] double root_of_taps() const {
    return std::sqrt(static_cast<double>(s.filter_length));
  }
  /// Random up to a period that is no multiple of any row, so that large cases start quickly.
  Elements noise(std::size_t count) {
    constexpr std::size_t kPeriod = 4194301;
    Elements x(count, s.type);
    for (std::size_t i = 0; i < std::min(count, kPeriod); ++i)
      x.set(i, normal_(random_));
    const std::size_t period = kPeriod * element_bytes(s.type);
    for (std::size_t i = period; i < x.bytes.size(); ++i)
      x.bytes[i] = x.bytes[i - period];
    return x;
  }
  std::vector<float> floats(std::int64_t n, double size) {
    std::vector<float> x(index(n));
    for (auto& v : x)
      v = static_cast<float>(size * normal_(random_));
    return x;
  }
  std::mt19937 random_;
  std::normal_distribution<double> normal_;
};

}  // namespace hyena::testing_support
