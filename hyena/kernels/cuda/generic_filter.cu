// Filters of rows of at most 8192 points: their spectra, and their gradients from correlations.
//
//   H = transform(h + skip at lag 0 - i reverse from the end) / N
//   dh = Re inverse(S), dreverse = -Im inverse(S) from the end
//   S = sum over shares of sum_b conj(Z) G
//
// Shapes    h, reverse and gradients (D, K) float32, zeros beyond K; spectrum and correlation in
//           the order of generic_fft.cuh
// Method    half of generic_forward.cu each
// Mapping   one block per channel
// Budget    spectrum: 4 bytes read per tap, 8 written per point; gradient: 8 read for each share, 4
//           written per tap
// Numerics  float32; the shares are added in order; hyena/kernels/mixer_cuda_generic.h
// Bounds    any K <= N
// Tested by tests/kernels/cuda/mixer_generic_test.cpp against float64
#include "hyena/kernels/cuda/generic_filter.cuh"
#include "hyena/kernels/cuda/generic_gate.cuh"

namespace hyena::kernels::cuda::generic {
namespace {

template <int kLog, bool kReverse>
__global__ void __launch_bounds__(kRowThreads<kLog>)
    short_spectrum_kernel(const Filters filters, int taps, float2* spectrum) {
  constexpr int kThreads = kRowThreads<kLog>;
  constexpr int kLast = Passes{kLog}.count() - 1;
  using First = Pass<kLog, kLog, 0>;
  using Last = Pass<kLog, kLog, kLast>;
  extern __shared__ float2 x[];
  const int tid = static_cast<int>(threadIdx.x);
  const auto d = static_cast<int64_t>(blockIdx.x);
  const FilterPoints<kLog, kReverse> points(filters, taps, d);
  for_units<First, kThreads>(tid, [&](int u) {
    typename FilterPoints<kLog, kReverse>::Point v[First::kPoints];
#pragma unroll
    for (int l = 0; l < First::kPoints; ++l)
      v[l] = points.at(u + (l << First::kLogStep));
    float2 f[First::kPoints];
    first_split<First::kLogRadix>(f, v);
    store_unit<First>(x, f, u);
  });
  __syncthreads();
  split_passes<kLog, kLog, 1, kLast, kThreads>(tid, 0.25F, x);
  float2* to = spectrum + (d << kLog);
  for_units<Last, kThreads>(tid, [&](int u) {
    float2 f[Last::kPoints];
    load_unit<Last>(f, x, u);
    split(f, roots_of<Last::kLogRadix>(Last::turn(0.25F, u)));
#pragma unroll
    for (int l = 0; l < Last::kPoints; ++l)
      to[spectrum_index<kLog>(u, l)] = f[l];
  });
}

template <int kLog>
__global__ void __launch_bounds__(kRowThreads<kLog>)
    short_filter_gradient_kernel(const float2* correlation, int shares, int taps,
                                 const FilterGradients to) {
  constexpr int kThreads = kRowThreads<kLog>;
  constexpr int kLast = Passes{kLog}.count() - 1;
  using First = Pass<kLog, kLog, 0>;
  using Last = Pass<kLog, kLog, kLast>;
  extern __shared__ float2 x[];
  const int tid = static_cast<int>(threadIdx.x);
  const auto d = static_cast<int64_t>(blockIdx.x);
  const float2* from = correlation + ((d * shares) << kLog);
  for_units<Last, kThreads>(tid, [&](int u) {
    float2 f[Last::kPoints] = {};
    for (int share = 0; share < shares; ++share)
#pragma unroll
      for (int l = 0; l < Last::kPoints; ++l) {
        const float2 s = from[(static_cast<int64_t>(share) << kLog) + spectrum_index<kLog>(u, l)];
        f[l] = make_float2(f[l].x + s.x, f[l].y + s.y);
      }
    merge(f, roots_of<Last::kLogRadix>(Last::turn(0.25F, u)));
    store_unit<Last>(x, f, u);
  });
  __syncthreads();
  merge_passes<kLog, kLog, kLast - 1, 1, kThreads>(tid, 0.25F, x);
  for_units<First, kThreads>(tid, [&](int u) {
    float2 f[First::kPoints];
    load_unit<First>(f, x, u);
    merge(f, first_roots<First::kLogRadix>());
#pragma unroll
    for (int l = 0; l < First::kPoints; ++l)
      store_filter_gradients<kLog>(to, taps, d, u + (l << First::kLogStep), f[l]);
  });
}

template <int kLog, bool kReverse>
void launch_spectrum(const Problem& m, const Filters& filters, float2* spectrum,
                     cudaStream_t stream) {
  constexpr int kBytes = 8 << kLog;
  allow_shared_memory<short_spectrum_kernel<kLog, kReverse>>(kBytes);
  short_spectrum_kernel<kLog, kReverse>
      <<<static_cast<unsigned>(m.shape.channels), kRowThreads<kLog>, kBytes, stream>>>(
          filters, static_cast<int>(m.shape.filter_length), spectrum);
  check(cudaGetLastError(), "launch of the generic filter spectrum");
}

}  // namespace

void short_spectrum(const Problem& m, const Filters& filters, float2* spectrum,
                    cudaStream_t stream) {
  with_constant<kMinLog, kMaxForwardLog>(m.log_n, [&]<int kLog>() {
    if (filters.reverse != nullptr) {
      launch_spectrum<kLog, true>(m, filters, spectrum, stream);
    } else {
      launch_spectrum<kLog, false>(m, filters, spectrum, stream);
    }
  });
}

void short_filter_gradient(const Problem& m, const float2* correlation, const FilterGradients& to,
                           cudaStream_t stream) {
  with_constant<kMinLog, kMaxBackwardLog>(m.log_n, [&]<int kLog>() {
    constexpr int kBytes = 8 << kLog;
    allow_shared_memory<short_filter_gradient_kernel<kLog>>(kBytes);
    short_filter_gradient_kernel<kLog>
        <<<static_cast<unsigned>(m.shape.channels), kRowThreads<kLog>, kBytes, stream>>>(
            correlation, m.shares(), static_cast<int>(m.shape.filter_length), to);
    check(cudaGetLastError(), "launch of the generic filter gradient");
  });
}

}  // namespace hyena::kernels::cuda::generic
