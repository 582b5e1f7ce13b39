// The Hyena mixer of order 2 on CUDA devices of compute capability 9.0, forward and backward.
//
//   q = bias + short conv(p)                      (3D channels [x0 | x1 | v], T <= 3 taps)
//   z = x1 v;  c = causal conv(z, h) + skip z;  y = x0 c
//
// Tensors   p, dp (B, 3D, L), y, dy (B, D, L): bfloat16 or float16, time contiguous, rows
//           `row_stride` elements apart, batch and channels dense, 4-byte aligned (fastest: 16).
//           Parameters and their gradients are dense float32: weight (3D, T) in conv1d order (the
//           last tap weighs "now"), bias (3D), h (D, K), K <= L, skip (D).
// Order     hyena_mixer_cuda_spectrum turns h and skip into a spectrum buffer; the forward and the
//           backward of the same shape then read it. Kept as long as h does not change.
// Calls     asynchronous on `stream`; no allocation, no synchronisation, safe inside CUDA graphs.
//           All pointers are device memory of the current device. Workspaces may hold anything.
// Filters   of at most 128 taps, and up to 256 above 8192 times or where transforms would pad much,
//           are products with a Toeplitz matrix; longer ones transforms of the whole row.
// Numerics  fp16 operands scaled per row (short filters: per tile of a row), float32 accumulation
//           but for 16-point sums inside rows up to 32,776 times (docs/math/cuda_numerics.md): y
//           within 2.1e-3 relative rms of float64 in bfloat16 (1.3e-3 in float16), from 32,777
//           times on 2.2e-3 (1.4e-3), dp 3e-3, float32 gradients 1.5e-3, for inputs without
//           cancellation (docs/math/cuda_numerics.md).
//           Equal inputs give equal bits.
// Errors    hyena::RunError when CUDA refuses a launch; hyena::UserError for a shape that
//           hyena_mixer_cuda_supports rejects, or a misaligned tensor.
#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace hyena::kernels {

enum class CudaElement : std::uint8_t { kBFloat16, kFloat16, kFloat32 };

struct CudaMixerShape {
  std::int64_t batch = 0;
  std::int64_t channels = 0;       ///< D
  std::int64_t length = 0;         ///< L
  std::int64_t filter_length = 0;  ///< K
  std::int64_t row_stride = 0;     ///< at least L; the same for p, y, dy, dp
  int taps = 3;
  CudaElement type = CudaElement::kBFloat16;
};

/// Whether the kernels run this shape on `device`: capability 9.0, T <= 3, 1 <= K <= L <= 2^20, an
/// even row_stride (rows are 4-byte aligned), 16-bit elements, and HYENA_CUDA_PATH is neither
/// "generic" nor "composed". False also without a device. What is not supported is left to
/// mixer_cuda_generic.h, or the composition. Fastest: a row_stride that is a multiple of 8, better
/// of 16, and L = 2^k, k >= 10, or up to 8 more (on an H200 at most 1.13 times the time of 2^k
/// forward, 1.19 with the backward); other lengths cost what the next power of two does. With K <=
/// 128 the time goes with the length, in steps of a tile: 256 to 1024 times.
[[nodiscard]] bool hyena_mixer_cuda_supports(const CudaMixerShape& shape, int device);

/// Whether filters of this shape are multiplied as Toeplitz matrices, not transformed.
[[nodiscard]] bool hyena_mixer_cuda_is_toeplitz(const CudaMixerShape& shape);

/// Bytes of the spectrum buffer and of the two workspaces; the buffers are 256-byte aligned.
[[nodiscard]] std::size_t hyena_mixer_cuda_spectrum_bytes(const CudaMixerShape& shape);
[[nodiscard]] std::size_t hyena_mixer_cuda_forward_workspace(const CudaMixerShape& shape);
[[nodiscard]] std::size_t hyena_mixer_cuda_backward_workspace(const CudaMixerShape& shape);

/// Writes `spectrum` from h and skip (null: zero).
void hyena_mixer_cuda_spectrum(const CudaMixerShape& shape, const float* h_DK, const float* skip_D,
                               void* spectrum, CUstream_st* stream);

/// Writes all of y. `bias_C` may be null.
void hyena_mixer_cuda_forward(const CudaMixerShape& shape, const void* p_BCL,
                              const float* weight_CT, const float* bias_C, const void* spectrum,
                              void* y_BDL, void* workspace, CUstream_st* stream);

struct CudaMixerGradients {
  void* dp_BCL = nullptr;
  float* dweight_CT = nullptr;
  float* dbias_C = nullptr;
  float* dh_DK = nullptr;
  float* dskip_D = nullptr;
};

/// Writes every gradient (none may be null).
void hyena_mixer_cuda_backward(const CudaMixerShape& shape, const void* dy_BDL, const void* p_BCL,
                               const float* weight_CT, const float* bias_C, const void* spectrum,
                               const CudaMixerGradients& gradients, void* workspace,
                               CUstream_st* stream);

}  // namespace hyena::kernels
