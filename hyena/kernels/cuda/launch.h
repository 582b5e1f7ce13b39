// What the launchers of the mixer share: the problem, tensor maps, error checks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

#include "hyena/kernels/cuda/spectrum_buffer.h"
#include "hyena/kernels/cuda/tail.h"
#include "hyena/kernels/cuda/tensor.h"
#include "hyena/kernels/hyena_mixer_cuda.h"

namespace hyena::kernels::cuda {

/// Throws RunError "CUDA: <what>: <reason>".
void check(cudaError_t error, const char* what);

/// A tensor map of 16-bit elements, five dimensions, strides in bytes.
CUtensorMap encode_tensor_map(const void* data, const cuuint64_t (&dim)[5],
                              const cuuint64_t (&stride)[4], const cuuint32_t (&box)[5],
                              CUtensorMapSwizzle swizzle);

/// The rows of a (B, parts * D, L) tensor of this shape.
template <class T>
Tensor<T> tensor_of(const CudaMixerShape& s, T* data, int parts) {
  return {data, s.row_stride, static_cast<int>(s.batch), static_cast<int>(parts * s.channels),
          static_cast<int>(s.length)};
}

/// The device that is current now has so many multiprocessors.
int current_multiprocessors();

/// A shape without its tail, and how the kernels cut it.
struct MixerProblem {
  CudaMixerShape shape;            // of the first N times, and of the filter's taps below N
  std::int64_t filter_stride = 0;  // taps in memory
  int log_n1 = 0;                  // rows of 256 points in a batch row of up to 8192: 4 to 32
  int multiprocessors = 0;         // of the current device, which is also the grid

  /// Throws UserError for what the kernels cannot do.
  explicit MixerProblem(const CudaMixerShape& s);

  /// Longer rows than one tile: split.h.
  [[nodiscard]] bool is_long() const { return shape.length > kTilePoints; }
  [[nodiscard]] std::size_t channels() const { return static_cast<std::size_t>(shape.channels); }
  /// Rows of 256 points in a tile of rows of at most 8192, and the tiles of a channel.
  [[nodiscard]] int tile_rows() const { return log_n1 == 5 ? kTileRows : kTileRows / 2; }
  [[nodiscard]] int tile_groups() const {
    const int batch = tile_rows() >> log_n1;
    return (static_cast<int>(shape.batch) + batch - 1) / batch;
  }
  /// Whether all rows of these tensors are 16-byte aligned.
  [[nodiscard]] bool wide(const void* a, const void* b, const void* c = nullptr) const;
  /// Whether the copy engine can fetch whole tiles: aligned, and no tile is ragged.
  [[nodiscard]] bool bulk(const void* a, const void* b, const void* c = nullptr) const;
  /// Map of a (B, parts * D, L) tensor whose box is one channel of a tile.
  [[nodiscard]] CUtensorMap tensor_map(const void* data, int parts) const;

  [[nodiscard]] ShortConv conv(const float* weight, const float* bias) const {
    return {weight, bias, shape.taps};
  }
  template <class T>
  [[nodiscard]] Tensor<const T> input(const void* data, int parts) const {
    return tensor_of(shape, static_cast<const T*>(data), parts);
  }
  template <class T>
  [[nodiscard]] Tensor<T> output(void* data, int parts) const {
    return tensor_of(shape, static_cast<T*>(data), parts);
  }
};

struct ForwardCall {
  const void* p;
  const float* weight;
  const float* bias;
  const void* spectrum;
  void* y;
  void* workspace;
  TailView tail;
  cudaStream_t stream;
};
struct BackwardCall {
  const void* dy;
  const void* p;
  const float* weight;
  const float* bias;
  const void* spectrum;
  CudaMixerGradients gradients;
  void* workspace;
  TailView tail;
  cudaStream_t stream;
};

void filter_spectrum(const MixerProblem& m, const float* h, const float* skip, void* spectrum,
                     cudaStream_t stream);
void fused_forward(const MixerProblem& m, const ForwardCall& call);
void fused_backward(const MixerProblem& m, const BackwardCall& call);
std::size_t fused_backward_workspace(const MixerProblem& m);
std::size_t split_spectrum_bytes(const MixerProblem& m);
void split_spectrum(const MixerProblem& m, const float* h, const float* skip, void* spectrum,
                    cudaStream_t stream);
std::size_t split_forward_workspace(const MixerProblem& m);
void split_forward(const MixerProblem& m, const ForwardCall& call);
std::size_t split_backward_workspace(const MixerProblem& m);
void split_backward(const MixerProblem& m, const BackwardCall& call);

/// Allows kKernel to use `bytes` of shared memory; asks CUDA once per kernel and device.
template <auto kKernel>
void allow_shared_memory(int bytes) {
  static std::atomic<std::uint64_t> done{0};
  int device = 0;
  check(cudaGetDevice(&device), "current device");
  const std::uint64_t bit = std::uint64_t{1} << (device & 63);
  if ((done.load(std::memory_order_relaxed) & bit) != 0) return;
  check(cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
        "shared memory of a mixer kernel");
  done.fetch_or(bit, std::memory_order_relaxed);
}

}  // namespace hyena::kernels::cuda
