// Rows of N + r times, N = 2^k >= 1024 and r <= 8, at the cost of N (docs/math/cuda_tail.md).
//
// The kernels transform the first N times. What wraps round in the right-angle transform is not
// lost but stands in the imaginary part, and an imaginary input stands for times from N on: so the
// kernels hand out the imaginary part of c at times 0 .. 7, and take g[N + i] as imaginary part of
// g[i]. What is left to do for the last r times costs O(r^2) per row: three small kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "hyena/kernels/hyena_mixer_cuda.h"

namespace hyena::kernels::cuda {

constexpr int kTailMax = 8;

/// r of a row of `length` times; 0: the row has no tail.
constexpr int tail_of(std::int64_t length) {
  for (std::int64_t n = 1024; n < length; n *= 2)
    if (length - n <= kTailMax) return static_cast<int>(length - n);
  return 0;
}

/// What kernels and tail exchange, per row (batch, channel); null without a tail.
struct TailView {
  float* c = nullptr;   // [8] written: what times below N give c[N + i]
  float* g = nullptr;   // [8] read: g[N + i], zeros from r on
  float* du = nullptr;  // [8] read: what lags above N give du[i]
  float* dq = nullptr;  // [x1, v][2] read: dq[N], dq[N + 1]
  float* seam =
      nullptr;  // [2] written: dp_x0[N - 2], dp_x0[N - 1] as far as times below N make them
  static constexpr std::size_t kFloats = 3 * kTailMax + 4 + 2;

  /// In `workspace`, kFloats for each of `rows`.
  static TailView of(void* workspace, std::size_t rows) {
    auto* at = static_cast<float*>(workspace);
    TailView v;
    v.c = at;
    v.g = v.c + kTailMax * rows;
    v.du = v.g + kTailMax * rows;
    v.dq = v.du + kTailMax * rows;
    v.seam = v.dq + 4 * rows;
    return v;
  }
};

/// Per channel: h[0 .. 7], h[N .. N + 7], skip.
constexpr int kTailFilter = 2 * kTailMax + 1;

/// Writes `filter` [D][kTailFilter].
void tail_filter(const CudaMixerShape& shape, const float* h, const float* skip, float* filter,
                 cudaStream_t stream);

struct TailCall {
  CudaMixerShape shape;  // the whole row
  const void* p;
  const float* weight;
  const float* bias;
  const float* filter;
  TailView view;
  cudaStream_t stream;
};

/// y[N ..] behind the forward.
void tail_output(const TailCall& call, void* y);
/// g, du and dq before the backward.
void tail_before(const TailCall& call, const void* dy);
/// dp[N - 2 ..], and what the tail adds to the gradients of the parameters, behind the backward.
void tail_after(const TailCall& call, const void* dy, const CudaMixerGradients& to);

}  // namespace hyena::kernels::cuda
