// Generic Hyena mixer, backward, rows of at most 4096 points: one pass over device memory.
//
//   g = dy q_x0;  c = Re inverse(Z H);  du = Re inverse(G conj H);  correlation = sum conj(Z) G
//   dq_x0 = dy c;  dq_x1 = du q_v;  dq_v = du q_x1;  then as in generic_gradients.cuh
//
// Shapes    p, dp (B, 3D, L), dy (B, D, L); spectrum (D, N); correlation (D, shares, N); sums (D,
//           shares, 27)
// Method    as generic_forward.cu, z and g side by side in two arrays of shared memory; in the end
//           dq takes the place of c and du, so that neighbours can be read
// Mapping   one block per channel and share of the batch, which takes its rows in order; its part
//           of the correlation stays in the L2
// Budget    7 elements per time, p and dy again from the L1 and L2; 16 N bytes of shared memory
// Registers 80, for 24 warps per multiprocessor
// Numerics  float32, sums in an order that depends on the shape alone
// Bounds    any L <= N, any row stride
// Tested by tests/kernels/cuda/mixer_generic_test.cpp against float64
#include "hyena/kernels/cuda/generic_gradients.cuh"

namespace hyena::kernels::cuda::generic {
namespace {

template <class T, int kLog>
__global__ void __launch_bounds__(kRowThreads<kLog>, kRowBlocks<kLog>)
    short_backward_kernel(const Mixer<T> m, const float2* spectrum, T* dp, float2* correlation,
                          float* lines, int shares) {
  constexpr int kThreads = kRowThreads<kLog>;
  constexpr int kWarps = kThreads / 32;
  constexpr int kPoints = 1 << kLog;
  constexpr int kLast = Passes{kLog}.count() - 1;
  using First = Pass<kLog, kLog, 0>;
  using Last = Pass<kLog, kLog, kLast>;
  constexpr int kStep = 1 << First::kLogStep;
  extern __shared__ float2 x[];
  __shared__ float sums[kWarps * kParameters];
  float2* const xz = x;
  float2* const xg = x + kPoints;
  const int tid = static_cast<int>(threadIdx.x);
  const int d = static_cast<int>(blockIdx.x) / shares;
  const int share = static_cast<int>(blockIdx.x) % shares;
  const auto begin = static_cast<int>(static_cast<int64_t>(m.batch) * share / shares);
  const auto end = static_cast<int>(static_cast<int64_t>(m.batch) * (share + 1) / shares);
  const float2* const h = spectrum + (static_cast<int64_t>(d) << kLog);
  float2* const total = correlation + (static_cast<int64_t>(blockIdx.x) << kLog);
  for (int i = tid; i < kWarps * kParameters; i += kThreads)
    sums[i] = 0.F;
  __syncthreads();

#pragma unroll 1
  for (int b = begin; b < end; ++b) {
    for_units<First, kThreads>(tid, [&](int u) {
      float v[First::kPoints];
      float2 f[First::kPoints];
      m.gate(v, b, d, u, kStep);
      split_real<First::kLogRadix>(f, v);
      store_unit<First>(xz, f, u);
      m.output_gradient(v, b, d, u, kStep);
      split_real<First::kLogRadix>(f, v);
      store_unit<First>(xg, f, u);
    });
    __syncthreads();
    split_passes<kLog, kLog, 1, kLast, kThreads, 2>(tid, 0.25F, x);
    for_units<Last, kThreads>(tid, [&](int u) {
      const auto w = roots_of<Last::kLogRadix>(Last::turn(0.25F, u));
      split_unit<Last>(xz, u, w);
      float2 f[Last::kPoints];
      load_unit<Last>(f, xg, again(u));
      split(f, w);
      const int first = place(Last::first(again(u)));
#pragma unroll
      for (int l = 0; l < Last::kPoints; ++l) {
        float2& z = xz[moved(first, l)];
        float2& sum = total[spectrum_index<kLog>(u, l)];
        float2 s = conjugate_product(z, f[l]);
        if (b != begin) s = make_float2(sum.x + s.x, sum.y + s.y);
        sum = s;
        const float2 hl = h[spectrum_index<kLog>(u, l)];
        z = product(z, hl);
        f[l] = conjugate_product(hl, f[l]);
      }
      const auto back = roots_of<Last::kLogRadix>(Last::turn(0.25F, again(u)));
      merge(f, back);
      store_unit<Last>(xg, f, again(u));
      merge_unit<Last>(xz, again(u), back);
    });
    __syncthreads();
    merge_passes<kLog, kLog, kLast - 1, 1, kThreads, 2>(tid, 0.25F, x);
    for_units<First, kThreads>(tid, [&](int u) {
      const int first = place(First::first(u));
      const T* const dy = m.dy + m.output(b, d);
      float2 f[First::kPoints];
      load_unit<First>(f, xz, u);
      merge(f, first_roots<First::kLogRadix>());
#pragma unroll
      for (int l = 0; l < First::kPoints; ++l) {
        const int n = u + l * kStep;
        xz[moved(first, l * kStep)].x = n < m.length ? widen(dy[n]) * f[l].x : 0.F;
      }
      load_unit<First>(f, xg, u);
      merge(f, first_roots<First::kLogRadix>());
      // One after the other: both convolutions at once need more registers than there are.
      float q[First::kPoints];
      m.row(b, d, 2).convolve(q, u, kStep);
#pragma unroll
      for (int l = 0; l < First::kPoints; ++l)
        xg[moved(first, l * kStep)].x = u + l * kStep < m.length ? f[l].x * q[l] : 0.F;
      m.row(b, d, 1).convolve(q, u, kStep);
#pragma unroll
      for (int l = 0; l < First::kPoints; ++l)
        xg[moved(first, l * kStep)].y = u + l * kStep < m.length ? f[l].x * q[l] : 0.F;
    });
    __syncthreads();
    const auto dq = [&](int n) {
      if (n >= kPoints) return make_float3(0.F, 0.F, 0.F);
      const float2 e = xg[place(n)];
      return make_float3(xz[place(n)].x, e.x, e.y);
    };
    constexpr int kGroup = 8;  // times per thread whose gradients are in registers at once
#pragma unroll 1
    for (int n = 0; n < kPoints; n += kGroup * kThreads)
      store_input_gradients<kGroup, kThreads>(m, b, d, n + again(tid), dp, dq);
    add_parameter_gradients<kPoints / kThreads, kThreads>(m, b, d, again(tid),
                                                          sums + (tid >> 5) * kParameters, dq);
    __syncthreads();
  }
  store_sums<kWarps>(lines + static_cast<int64_t>(blockIdx.x) * kParameters, sums, tid);
}

}  // namespace

void short_backward(const Problem& m, const Operands& in, const float2* spectrum, void* dp,
                    float2* correlation, float* sums, cudaStream_t stream) {
  with_element(m.shape.type, [&]<class T>() {
    with_constant<kMinLog, kMaxBackwardLog>(m.log_n, [&]<int kLog>() {
      constexpr int kBytes = 16 << kLog;
      allow_shared_memory<short_backward_kernel<T, kLog>>(kBytes);
      const auto blocks = static_cast<unsigned>(m.shape.channels * m.shares());
      short_backward_kernel<T, kLog><<<blocks, kRowThreads<kLog>, kBytes, stream>>>(
          Mixer<T>(m, in), spectrum, static_cast<T*>(dp), correlation, sums, m.shares());
      check(cudaGetLastError(), "launch of the generic mixer's backward");
    });
  });
}

}  // namespace hyena::kernels::cuda::generic
