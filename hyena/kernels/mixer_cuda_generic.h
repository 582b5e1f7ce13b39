// The Hyena mixer of order 2 on any CUDA device from compute capability 8.0 on, in float32
// arithmetic: float32 tensors, long rows, many taps, odd strides. hyena_mixer_cuda.h is faster
// where it runs.
//
//   q = bias + short conv(p)                      (3D channels [x0 | x1 | v], T <= 8 taps)
//   z = x1 v;  c = causal conv(z, h) + skip z + anticausal conv(z, reverse);  y = x0 c
//
// reverse[d, j] weighs j steps in the future; lag 0 counts in both filters.
//
// Tensors   p, dp (B, 3D, L), y, dy (B, D, L): float32, bfloat16 or float16, time contiguous, rows
//           `row_stride` elements apart, batch and channels dense; no alignment beyond the
//           element's. Parameters and their gradients are dense float32: weight (3D, T) in conv1d
//           order (the last tap weighs "now"), bias (3D), h and reverse (D, K), K <= L, skip (D).
// Order     hyena_mixer_cuda_generic_spectrum turns the filters into a spectrum buffer, which the
//           forward and the backward of the same shape then read. Kept as long as they do not
//           change. A reverse filter costs nothing from there on.
// Calls     asynchronous on `stream`; no allocation, no synchronisation, safe inside CUDA graphs.
//           All pointers are device memory of the current device. Workspaces may hold anything.
// Memory    N = the power of two >= L, at least 256. Spectrum: 8 D N bytes. Forward: nothing up to
//           N = 8192, then 8 N bytes for each row (b, d) of a slice, slices of at most 256 MiB, or
//           one row. Backward: up to N = 4096 8 N bytes for each channel, or where channels are
//           few for each of about 528 blocks; then 20 N for each row of a slice and 8 N for each
//           of its channels, slices of at most 512 MiB, or one row; and 108 bytes for 2048 times.
// Numerics  A butterfly adds three roundings, of two fused operations and of its root, each at most
//           2^-24 of the values it makes; z passes log2 N of them there and back, h there. In norm,
//           with the errors taken as independent, that is sqrt(9 log2 N) 2^-24; added up it is
//           9 log2 N 2^-24. The promise in between: y, dp, dh and dreverse within 2 log2 N 2^-24
//           relative rms of float64 for inputs without cancellation (1e-6 at 256, 2.7e-6 at 2^22),
//           plus the rounding of 16-bit outputs. Equal inputs give equal bits on equal devices; a
//           row's y and dp depend on the row and the parameters alone.
// Errors    hyena::RunError when CUDA refuses a launch; hyena::UserError for a shape that
//           hyena_mixer_cuda_generic_supports rejects.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hyena/kernels/hyena_mixer_cuda.h"

namespace hyena::kernels {

/// Whether the kernels run this shape on `device`: capability 8.0 or more, T <= 8, 1 <= K <= L <=
/// 2^22, row_stride >= L, and HYENA_CUDA_PATH is not "composed". False also without a device.
[[nodiscard]] bool hyena_mixer_cuda_generic_supports(const CudaMixerShape& shape, int device);

/// Bytes of the spectrum buffer and of the two workspaces; the buffers are 256-byte aligned.
[[nodiscard]] std::size_t hyena_mixer_cuda_generic_spectrum_bytes(const CudaMixerShape& shape);
[[nodiscard]] std::size_t hyena_mixer_cuda_generic_forward_workspace(const CudaMixerShape& shape);
[[nodiscard]] std::size_t hyena_mixer_cuda_generic_backward_workspace(const CudaMixerShape& shape);

/// Writes `spectrum` from h, skip and reverse (both may be null: zero).
void hyena_mixer_cuda_generic_spectrum(const CudaMixerShape& shape, const float* h_DK,
                                       const float* skip_D, const float* reverse_DK, void* spectrum,
                                       CUstream_st* stream);

/// Writes all of y. `bias_C` may be null.
void hyena_mixer_cuda_generic_forward(const CudaMixerShape& shape, const void* p_BCL,
                                      const float* weight_CT, const float* bias_C,
                                      const void* spectrum, void* y_BDL, void* workspace,
                                      CUstream_st* stream);

/// Writes every gradient (none may be null), and that of the reverse filter where `dreverse_DK` is
/// not null.
void hyena_mixer_cuda_generic_backward(const CudaMixerShape& shape, const void* dy_BDL,
                                       const void* p_BCL, const float* weight_CT,
                                       const float* bias_C, const void* spectrum,
                                       const CudaMixerGradients& gradients, float* dreverse_DK,
                                       void* workspace, CUstream_st* stream);

}  // namespace hyena::kernels
