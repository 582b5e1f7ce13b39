// What the implicit filter computes between its matrix products, on CUDA devices of capability 9.0.
// Rows are channels and columns time steps, so that the last product writes filters as the mixer
// reads them, (C, K), and no pass transposes.
//
//     sine        a[w,n] = sin(freq[w] x[w,n])
//     backward    dx[w,n] = da[w,n] cos(freq[w] x[w,n]) freq[w]
//                 dfreq[w] = sum_n da cos(freq x) x ;  dbias[w] = sum_n dx
//     window      h[c,n] = m[c,n] (exp(-t[n] |delta[c]|) + shift)
//     backward    dm[c,n] = dh[c,n] (exp(-t[n] |delta[c]|) + shift)
//                 ddelta[c] = -sign(delta[c]) sum_n dh m exp(-t |delta|) t
//
// Tensors   dense float32 in device memory. Sums are written per row and block of kFilterBlock
//           steps, (channels, blocks), to be added up by the caller.
// Cost      one read of every operand and one write of every result; no detour.
// Numerics  sinf, cosf, expf of CUDA (at most 2 units in the last place, full range). Equal inputs
//           give equal bits.
// Calls     asynchronous on `stream`, safe inside CUDA graphs.
// Errors    hyena::RunError when CUDA refuses a launch.
#pragma once

#include <cstdint>

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace hyena::kernels {

/// Steps whose sum is one partial sum.
inline constexpr std::int64_t kFilterBlock = 2048;

struct FilterRows {
  std::int64_t channels = 0;
  std::int64_t steps = 0;
  [[nodiscard]] std::int64_t blocks() const { return (steps + kFilterBlock - 1) / kFilterBlock; }
};

struct FilterWindowRows {
  const float* t;      ///< (steps)
  const float* delta;  ///< (channels)
  float shift;
};

/// Capability 9.0, and HYENA_CUDA_PATH is neither "generic" nor "composed". False also without a
/// device.
[[nodiscard]] bool implicit_filter_cuda_supports(int device);

void filter_sine_cuda(const FilterRows& rows, const float* freq, const float* x, float* a,
                      CUstream_st* stream);
/// `dx` may be `da`.
void filter_sine_backward_cuda(const FilterRows& rows, const float* freq, const float* x,
                               const float* da, float* dx, float* dfreq_parts, float* dbias_parts,
                               CUstream_st* stream);
/// `h` may be `m`.
void filter_window_cuda(const FilterRows& rows, const FilterWindowRows& window, const float* m,
                        float* h, CUstream_st* stream);
/// `dm` may be `m`.
void filter_window_backward_cuda(const FilterRows& rows, const FilterWindowRows& window,
                                 const float* m, const float* dh, float* dm, float* ddelta_parts,
                                 CUstream_st* stream);

}  // namespace hyena::kernels
