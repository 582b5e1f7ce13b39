// What the launchers of the generic kernels share: the problem, slices of it, the steps.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "hyena/kernels/mixer_cuda_generic.h"

namespace hyena::kernels::cuda::generic {

constexpr int kMinLog = 8;           // shorter rows are padded to 256 points
constexpr int kMaxLog = 22;          // t of a block needs log2 N + 2 bits (generic_fft.cuh)
constexpr int kMaxForwardLog = 13;   // rows of one block: 64 KiB of shared memory
constexpr int kMaxBackwardLog = 12;  // two of them
constexpr int kMaxTaps = 8;
constexpr int kParameters = 3 * (kMaxTaps + 1);  // [part][lag, then the bias]
constexpr int kGradientTile = 2048;              // times per block of the gradients of long rows

/// Rows of a slice share scratch; slices follow each other on the stream. Enough rows to fill a
/// device many times over, so that the ends of the launches do not count.
constexpr std::size_t kForwardSliceBytes = std::size_t{256} << 20;
constexpr std::size_t kBackwardSliceBytes = std::size_t{512} << 20;
/// Blocks that the backward of short rows aims at: four for each multiprocessor of the largest
/// device we know. A constant, so that sums are cut alike everywhere.
constexpr std::int64_t kBackwardBlocks = 528;

struct Problem {
  CudaMixerShape shape;
  int log_n = kMinLog;

  /// Throws UserError for what the kernels cannot do.
  explicit Problem(const CudaMixerShape& s);

  [[nodiscard]] std::size_t points() const { return std::size_t{1} << log_n; }
  [[nodiscard]] bool long_forward() const { return log_n > kMaxForwardLog; }
  [[nodiscard]] bool long_backward() const { return log_n > kMaxBackwardLog; }
  /// Shares of the batch that blocks of the short backward take, per channel.
  [[nodiscard]] int shares() const;
  [[nodiscard]] int gradient_tiles() const {
    return static_cast<int>((shape.length + kGradientTile - 1) / kGradientTile);
  }
};

struct Operands {
  const void* dy;  // null in the forward
  const void* p;
  const float* weight;
  const float* bias;  // or null
};

/// (D, K) h and reverse, (D) skip.
struct Filters {
  const float* h;
  const float* skip;     // or null
  const float* reverse;  // or null
};
struct FilterGradients {
  float* dh;
  float* dskip;
  float* dreverse;  // or null
};

/// Channels [channel, channel + channels) of batch rows [row, row + rows); item i of it is row
/// row + i % rows of channel channel + i / rows.
struct Slice {
  int channel, channels, row, rows;
  [[nodiscard]] __host__ __device__ int items() const { return channels * rows; }
};

// Rows of one block
void short_spectrum(const Problem& m, const Filters& filters, float2* spectrum,
                    cudaStream_t stream);
void short_forward(const Problem& m, const Operands& in, const float2* spectrum, void* y,
                   cudaStream_t stream);
/// `correlation` (D, shares, N) becomes sum conj(Z) G; `sums` as in parameter_gradients.
void short_backward(const Problem& m, const Operands& in, const float2* spectrum, void* dp,
                    float2* correlation, float* sums, cudaStream_t stream);
void short_filter_gradient(const Problem& m, const float2* correlation, const FilterGradients& to,
                           cudaStream_t stream);

// Long rows: columns, rows, columns. scratch (items, N).
enum class Source : std::uint8_t { kProduct, kOutputGradient };  // z = x1 v, g = dy x0
void split_columns(const Problem& m, const Operands& in, Source source, const Slice& slice,
                   float2* scratch, cudaStream_t stream);
void split_filter_columns(const Problem& m, const Filters& filters, float2* spectrum,
                          cudaStream_t stream);
void merge_columns_gated(const Problem& m, const Operands& in, const float2* scratch, void* y,
                         const Slice& slice, cudaStream_t stream);
/// The real parts of the first L points of row i of `scratch` to row i of `to`, N floats apart.
void merge_columns(const Problem& m, const float2* scratch, int items, float* to,
                   cudaStream_t stream);
/// `correlation` of the slice's channels, columns, to their rows of the gradients.
void merge_filter_columns(const Problem& m, const float2* correlation, const Slice& slice,
                          const FilterGradients& to, cudaStream_t stream);

/// Filters: from columns to a spectrum, in place.
void spectrum_rows(const Problem& m, float2* spectrum, cudaStream_t stream);
/// Times the spectrum and back, in place.
void product_rows(const Problem& m, float2* scratch, const float2* spectrum, const Slice& slice,
                  cudaStream_t stream);
/// z becomes z H, g becomes g conj(H), both back; correlation (channels of the slice, N) becomes
/// sum conj(Z) G, or grows by it when the slice is not the channels' first.
void gradient_rows(const Problem& m, float2* z, float2* g, const float2* spectrum,
                   float2* correlation, const Slice& slice, cudaStream_t stream);
/// The correlation back to columns, in place.
void correlation_rows(const Problem& m, float2* correlation, int channels, cudaStream_t stream);

/// dp of a slice from c and du (items, N); a line of `sums` for every row and tile of times.
void long_gradients(const Problem& m, const Operands& in, const float* c, const float* du, void* dp,
                    float* sums, const Slice& slice, cudaStream_t stream);

/// sums (D, lines, kParameters), added in order, to dweight and dbias.
void parameter_gradients(const Problem& m, const float* sums, int lines,
                         const CudaMixerGradients& to, cudaStream_t stream);

}  // namespace hyena::kernels::cuda::generic
