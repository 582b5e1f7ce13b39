// Operands of the backward kernel (backward_kernel.cuh).
#pragma once

#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

#include "hyena/kernels/cuda/spectrum_buffer.h"
#include "hyena/kernels/cuda/tail.h"
#include "hyena/kernels/cuda/tensor.h"

namespace hyena::kernels::cuda {

/// Rows of 256 points that a block leaves: those of its tile, of which a warp adds its two up to 8
/// k1.
__host__ __device__ constexpr int sum_rows(int log_n1) {
  return log_n1 == 5 ? 32 : log_n1 == 4 ? 16 : 8;
}

template <class T>
struct BackwardArgs {
  Tensor<const T> p;
  Tensor<const T> dy;
  Tensor<T> dp;
  ShortConv conv;
  SpectrumView filter;
  bool wide;              // rows are 16-byte aligned
  float2* sums;           // [channels + blocks][sum_rows][256] partial spectra of dh
  float* parameter_sums;  // [channels + blocks][12]: x0, x1, v x 3 taps and bias
  TailView tail;
};

template <class T>
void launch_backward(const BackwardArgs<T>& a, int log_n1, bool ragged, int blocks,
                     const CUtensorMap& p, const CUtensorMap& dy, cudaStream_t stream);

}  // namespace hyena::kernels::cuda
