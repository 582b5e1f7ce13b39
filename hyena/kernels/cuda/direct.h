// Mixers with short filters, as products with a Toeplitz matrix instead of transforms: host side.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hyena/kernels/cuda/direct_layout.h"
#include "hyena/kernels/cuda/launch.h"

namespace hyena::kernels::cuda {

/// Whether the shape goes this way.
constexpr bool is_direct(const CudaMixerShape& s) {
  return s.filter_length <= direct_taps(s.length);
}

/// The parts of a spectrum buffer of such a shape.
struct DirectFilter {
  const float* unit;      // [channels]: the filter is unit * what is stored
  const uint32_t* words;  // [channels][direct_words], direct_layout.h

  static constexpr std::size_t unit_bytes(std::size_t channels) {
    return (4 * channels + 255) / 256 * 256;
  }
  static constexpr std::size_t bytes(std::size_t channels, int halo) {
    return unit_bytes(channels) + 4 * channels * static_cast<std::size_t>(direct_words(halo));
  }
  static DirectFilter of(const void* buffer, std::size_t channels) {
    const char* p = static_cast<const char*>(buffer);
    return {reinterpret_cast<const float*>(p),
            reinterpret_cast<const uint32_t*>(p + unit_bytes(channels))};
  }
};

/// A shape, and how these kernels cut it.
struct DirectProblem {
  CudaMixerShape shape;
  int halo = 1;             // pieces
  int blocks = 1;           // of lags
  int multiprocessors = 0;  // of the current device

  /// Throws UserError for what the kernels cannot do.
  explicit DirectProblem(const CudaMixerShape& s);

  [[nodiscard]] std::size_t channels() const { return static_cast<std::size_t>(shape.channels); }
  [[nodiscard]] DirectFilter filter(const void* spectrum) const {
    return DirectFilter::of(spectrum, channels());
  }
  /// Whether lanes may move four elements at once, and whether the copy engine reads rows.
  [[nodiscard]] bool wide(const void* a, const void* b, const void* c = nullptr) const;
  [[nodiscard]] bool bulk(const void* a, const void* b) const;
};

std::size_t direct_spectrum_bytes(const DirectProblem& m);
void direct_spectrum(const DirectProblem& m, const float* h, const float* skip, void* spectrum,
                     cudaStream_t stream);
void direct_forward(const DirectProblem& m, const ForwardCall& call);
std::size_t direct_backward_workspace(const DirectProblem& m);
void direct_backward(const DirectProblem& m, const BackwardCall& call);

}  // namespace hyena::kernels::cuda
