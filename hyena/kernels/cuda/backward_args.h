// Operands of the backward kernel (backward_kernel.cuh).
#pragma once

#include <cstdint>

#include <cuda.h>
#include <cuda_runtime.h>

#include "hyena/kernels/cuda/spectrum_buffer.h"
#include "hyena/kernels/cuda/tensor.h"

namespace hyena::kernels::cuda {

template <class T>
struct BackwardArgs {
  Tensor<const T> p;
  Tensor<const T> dy;
  Tensor<T> dp;
  ShortConv conv;
  SpectrumView filter;
  int first_channel;  // of the channels that this launch works on
  int channel_count;
  int chunks;             // tiles of a batch row; 1: everything in one kernel
  bool wide;              // rows are 16-byte aligned
  float2* sums;           // chunks = 1: [channels + blocks][8192] partial spectra of dh
  float* parameter_sums;  // [channels + blocks][12]: x0, x1, v x 3 taps and bias
  // chunks > 1, in the order of the launch's tiles [channel][batch][chunk]:
  const uint4* spectra[2];  // of c and of du
  const float* scale[2];    // by which they were multiplied
  float2* seams;            // [tile][part][2]: unfinished last two times of dp, first two of dq
};

template <class T>
void launch_backward(const BackwardArgs<T>& a, int log_n1, bool ragged, int blocks,
                     const CUtensorMap& p, const CUtensorMap& dy, cudaStream_t stream);

}  // namespace hyena::kernels::cuda
