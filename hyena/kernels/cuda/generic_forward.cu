// Generic Hyena mixer, forward, rows of at most 8192 points: one pass over device memory.
//
//   q = bias + short conv(p);  z = q_x1 q_v;  y = q_x0 * (causal conv(z, h) + skip z)
//
// Shapes    p (B, 3D, L) channels [x0 | x1 | v], y (B, D, L); spectrum (D, N)
// Method    right-angle transform of N >= L points by splitting, radix 2 to 16 in registers
//           (generic_fft.cuh): gate + first pass -> shared memory -> ... -> last pass, product,
//           first pass back -> ... -> last pass back + gate
// Mapping   one block per row (b, d), batch inside, so that spectra are read from the L2; 16 points
//           per thread, 32 at N = 8192
// Budget    4 elements per time, 16 bytes in float32; 8 N bytes of shared memory, of which every
//           pass moves 16 per point
// Numerics  float32; hyena/kernels/mixer_cuda_generic.h
// Bounds    any L <= N, any row stride; times behind the row are read as zero, never written
// Tested by tests/kernels/cuda/mixer_generic_test.cpp against float64
#include "hyena/kernels/cuda/generic_gate.cuh"

namespace hyena::kernels::cuda::generic {
namespace {

template <class T, int kLog>
__global__ void __launch_bounds__(kRowThreads<kLog>, kRowBlocks<kLog>)
    short_forward_kernel(const Mixer<T> m, const float2* spectrum, T* y) {
  constexpr int kThreads = kRowThreads<kLog>;
  constexpr int kLast = Passes{kLog}.count() - 1;
  using First = Pass<kLog, kLog, 0>;
  using Last = Pass<kLog, kLog, kLast>;
  extern __shared__ float2 x[];
  const int tid = static_cast<int>(threadIdx.x);
  const int d = static_cast<int>(blockIdx.x) / m.batch;
  const int b = static_cast<int>(blockIdx.x) % m.batch;
  constexpr int kStep = 1 << First::kLogStep;

  for_units<First, kThreads>(tid, [&](int u) {
    float z[First::kPoints];
    m.gate(z, b, d, u, kStep);
    float2 f[First::kPoints];
    split_real<First::kLogRadix>(f, z);
    store_unit<First>(x, f, u);
  });
  __syncthreads();
  split_passes<kLog, kLog, 1, kLast, kThreads>(tid, 0.25F, x);
  const float2* h = spectrum + (static_cast<int64_t>(d) << kLog);
  for_units<Last, kThreads>(tid, [&](int u) {
    float2 f[Last::kPoints];
    load_unit<Last>(f, x, u);
    const auto w = roots_of<Last::kLogRadix>(Last::turn(0.25F, u));
    split(f, w);
#pragma unroll
    for (int l = 0; l < Last::kPoints; ++l)
      f[l] = product(f[l], h[spectrum_index<kLog>(u, l)]);
    merge(f, w);
    store_unit<Last>(x, f, u);
  });
  __syncthreads();
  merge_passes<kLog, kLog, kLast - 1, 1, kThreads>(tid, 0.25F, x);
  for_units<First, kThreads>(tid, [&](int u) {
    float2 f[First::kPoints];
    load_unit<First>(f, x, u);
    merge(f, first_roots<First::kLogRadix>());
    m.store_output(y, f, b, d, u, kStep);
  });
}

}  // namespace

void short_forward(const Problem& m, const Operands& in, const float2* spectrum, void* y,
                   cudaStream_t stream) {
  with_element(m.shape.type, [&]<class T>() {
    with_constant<kMinLog, kMaxForwardLog>(m.log_n, [&]<int kLog>() {
      constexpr int kBytes = 8 << kLog;
      allow_shared_memory<short_forward_kernel<T, kLog>>(kBytes);
      const auto blocks = static_cast<unsigned>(m.shape.batch * m.shape.channels);
      short_forward_kernel<T, kLog><<<blocks, kRowThreads<kLog>, kBytes, stream>>>(
          Mixer<T>(m, in), spectrum, static_cast<T*>(y));
      check(cudaGetLastError(), "launch of the generic mixer's forward");
    });
  });
}

}  // namespace hyena::kernels::cuda::generic
