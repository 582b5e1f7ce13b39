#include <cuda_runtime.h>

#include "hyena/kernels/cuda/device.h"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/implicit_filter_cuda.h"

namespace hyena::kernels {
namespace cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kSteps = static_cast<int>(kFilterBlock) / kThreads;  // of a thread, kThreads apart

/// A block's part of one row: calls f(index into the matrix, step) for every step of the thread.
/// Channels are the grid's x: y ends at 65535.
template <class F>
__device__ __forceinline__ void for_steps(std::int64_t steps, F f) {
  const std::int64_t row = blockIdx.x * steps;
  const std::int64_t begin = blockIdx.y * kFilterBlock + threadIdx.x;
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const std::int64_t n = begin + i * kThreads;
    if (n < steps) f(row + n, n);
  }
}

/// Sum over the block, in thread 0. One order for every launch: results repeat to the bit.
__device__ __forceinline__ float block_sum(float x) {
  __shared__ float parts[kThreads / 32];
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2)
    x += __shfl_xor_sync(0xffffffffU, x, lanes);
  __syncthreads();  // parts may still be read from the sum before
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  if (threadIdx.x == 0) {
    x = 0.F;
    for (const float part : parts)
      x += part;
  }
  return x;
}

__device__ __forceinline__ void write_sum(float* parts, float x) {
  const float sum = block_sum(x);
  if (threadIdx.x == 0) parts[blockIdx.x * gridDim.y + blockIdx.y] = sum;
}

__global__ void __launch_bounds__(kThreads)
    sine(std::int64_t steps, const float* __restrict__ freq, const float* __restrict__ x,
         float* __restrict__ a) {
  const float w = freq[blockIdx.x];
  for_steps(steps, [&](std::int64_t i, std::int64_t) { a[i] = sinf(w * x[i]); });
}

__global__ void __launch_bounds__(kThreads)
    sine_backward(std::int64_t steps, const float* __restrict__ freq, const float* __restrict__ x,
                  const float* da, float* dx, float* dfreq_parts, float* dbias_parts) {
  const float w = freq[blockIdx.x];
  float dfreq = 0.F;
  float dbias = 0.F;
  for_steps(steps, [&](std::int64_t i, std::int64_t) {
    const float dphase = da[i] * cosf(w * x[i]);
    dfreq += dphase * x[i];
    dbias += dphase * w;
    dx[i] = dphase * w;
  });
  write_sum(dfreq_parts, dfreq);
  write_sum(dbias_parts, dbias);
}

__global__ void __launch_bounds__(kThreads)
    window(std::int64_t steps, FilterWindowRows at, const float* m, float* h) {
  const float rate = -fabsf(at.delta[blockIdx.x]);
  for_steps(steps, [&](std::int64_t i, std::int64_t n) {
    h[i] = m[i] * (expf(rate * at.t[n]) + at.shift);
  });
}

__global__ void __launch_bounds__(kThreads)
    window_backward(std::int64_t steps, FilterWindowRows at, const float* m,
                    const float* __restrict__ dh, float* dm, float* ddelta_parts) {
  const float delta = at.delta[blockIdx.x];
  const float sign = delta > 0.F ? 1.F : delta < 0.F ? -1.F : 0.F;
  float ddelta = 0.F;
  for_steps(steps, [&](std::int64_t i, std::int64_t n) {
    const float decay = expf(-fabsf(delta) * at.t[n]);
    ddelta -= dh[i] * m[i] * decay * at.t[n];
    dm[i] = dh[i] * (decay + at.shift);
  });
  write_sum(ddelta_parts, sign * ddelta);
}

dim3 grid(const FilterRows& rows) {
  return {static_cast<unsigned>(rows.channels), static_cast<unsigned>(rows.blocks())};
}

}  // namespace
}  // namespace cuda

bool implicit_filter_cuda_supports(int device) {
  return cuda::has_kernels_for(device);
}

void filter_sine_cuda(const FilterRows& rows, const float* freq, const float* x, float* a,
                      CUstream_st* stream) {
  cuda::sine<<<cuda::grid(rows), cuda::kThreads, 0, stream>>>(rows.steps, freq, x, a);
  cuda::check(cudaGetLastError(), "sine of the implicit filter");
}

void filter_sine_backward_cuda(const FilterRows& rows, const float* freq, const float* x,
                               const float* da, float* dx, float* dfreq_parts, float* dbias_parts,
                               CUstream_st* stream) {
  cuda::sine_backward<<<cuda::grid(rows), cuda::kThreads, 0, stream>>>(rows.steps, freq, x, da, dx,
                                                                       dfreq_parts, dbias_parts);
  cuda::check(cudaGetLastError(), "backward of the implicit filter's sine");
}

void filter_window_cuda(const FilterRows& rows, const FilterWindowRows& window, const float* m,
                        float* h, CUstream_st* stream) {
  cuda::window<<<cuda::grid(rows), cuda::kThreads, 0, stream>>>(rows.steps, window, m, h);
  cuda::check(cudaGetLastError(), "window of the implicit filter");
}

void filter_window_backward_cuda(const FilterRows& rows, const FilterWindowRows& window,
                                 const float* m, const float* dh, float* dm, float* ddelta_parts,
                                 CUstream_st* stream) {
  cuda::window_backward<<<cuda::grid(rows), cuda::kThreads, 0, stream>>>(rows.steps, window, m, dh,
                                                                         dm, ddelta_parts);
  cuda::check(cudaGetLastError(), "backward of the implicit filter's window");
}

}  // namespace hyena::kernels
