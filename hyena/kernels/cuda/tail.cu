// The last r <= 8 times of rows of N + r (tail.h), O(r^2) per row.
//
//   c[N+m]  = Im + sum_{i<=m} z[N+i] h[m-i] + skip z[N+m] + sum_{j<=m} z[j] h[N+m-j]
//   du[N+m] = sum_{n>=m} g[N+n] h[n-m] + skip g[N+m];      du[j] += sum_{m>=j} g[N+m] h[N+m-j]
//   dh[j]  += sum_i g[N+i+j] z[N+i];                       dh[N+j] = sum_{m>=j} g[N+m] z[m-j]
//
// Mapping   a thread per row; behind the backward a block per channel, its threads take batch rows
//           in turn and add in fixed order
#include "hyena/kernels/cuda/half_complex.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/tail.h"
#include "hyena/kernels/cuda/tensor.h"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kParameterSums = 12;                    // taps and bias of x0, x1, v
constexpr int kSums = kParameterSums + 2 * kTailMax;  // and the filter's near and far gradients

template <class T>
struct TailArgs {
  Tensor<const T> p, dy;
  Tensor<T> y, dp;
  ShortConv conv;
  const float* filter;
  TailView view;
  CudaMixerGradients to;
  int64_t filter_length;
  int n, r, channels;
};

/// Two neighbours, 4-byte aligned, of which `count` exist; zeros for the others. Threads work on
/// rows far apart, so what a load costs does not depend on its width.
template <class T>
__device__ __forceinline__ float2 load_pair(const T* x, int count) {
  uint32_t word = 0;
  if (count > 1) {
    word = *reinterpret_cast<const uint32_t*>(x);
  } else if (count > 0) {
    word = *reinterpret_cast<const uint16_t*>(x);
  }
  return make_float2(Element<T>::lo(word), Element<T>::hi(word));
}
template <class T>
__device__ __forceinline__ void store_pair(T* x, float a, float b, int count) {
  const uint32_t word = Element<T>::pack(a, b);
  if (count > 1) {
    *reinterpret_cast<uint32_t*>(x) = word;
  } else if (count > 0) {
    *reinterpret_cast<uint16_t*>(x) = static_cast<uint16_t>(word);
  }
}

/// Three taps (oldest first) and bias of one part.
struct Taps {
  float w[3], bias;
  __device__ __forceinline__ Taps(const ShortConv& conv, int channel)
      : w{conv.value(channel, 0), conv.value(channel, 1), conv.value(channel, 2)},
        bias(conv.value(channel, 3)) {}
};

/// Times from `first` on of one input, at most kMax: p[i] is time first - 2 + i, q[i] the short
/// convolution.
template <int kMax>
struct Times {
  float p[kMax + 2], q[kMax];
  template <class T>
  __device__ __forceinline__ Times(const T* row, int first, int count, const Taps& taps) {
#pragma unroll
    for (int i = 0; i < kMax + 2; i += 2) {
      const float2 v = load_pair(row + first - 2 + i, first - 2 + i >= 0 ? count + 2 - i : 0);
      p[i] = v.x;
      p[i + 1] = v.y;
    }
#pragma unroll
    for (int i = 0; i < kMax; ++i)
      q[i] = i < count ? fmaf(taps.w[2], p[i + 2],
                              fmaf(taps.w[1], p[i + 1], fmaf(taps.w[0], p[i], taps.bias)))
                       : 0.F;
  }
};

/// Row (b, d): what all of the kernels derive from it.
template <class T, int kMax>
struct TailRow {
  Taps f0, f1, fv;
  Times<kMax> x0, x1, v;
  float z[kMax], z_first[kMax];  // z[N + i], z[i]
  const float* h;
  int64_t row;

  __device__ __forceinline__ TailRow(const TailArgs<T>& a, int b, int d)
      : f0(a.conv, d),
        f1(a.conv, a.channels + d),
        fv(a.conv, 2 * a.channels + d),
        x0(a.p.row(b, d), a.n, a.r, f0),
        x1(a.p.row(b, a.channels + d), a.n, a.r, f1),
        v(a.p.row(b, 2 * a.channels + d), a.n, a.r, fv),
        h(a.filter + d * kTailFilter),
        row(static_cast<int64_t>(b) * a.channels + d) {
    const Times<kMax> first1(a.p.row(b, a.channels + d), 0, a.r, f1);
    const Times<kMax> first_v(a.p.row(b, 2 * a.channels + d), 0, a.r, fv);
#pragma unroll
    for (int i = 0; i < kMax; ++i) {
      z[i] = x1.q[i] * v.q[i];
      z_first[i] = first1.q[i] * first_v.q[i];
    }
  }
  __device__ __forceinline__ float near(int lag) const {
    return __ldg(h + lag);
  }
  __device__ __forceinline__ float far(int lag) const {
    return __ldg(h + kTailMax + lag);
  }
  __device__ __forceinline__ float skip() const {
    return __ldg(h + 2 * kTailMax);
  }

  /// c[N + m].
  __device__ __forceinline__ float conv(const TailArgs<T>& a, int m) const {
    float c = fmaf(skip(), z[m], a.view.c[row * kTailMax + m]);
#pragma unroll
    for (int i = 0; i < kMax; ++i)
      if (i <= m) c = fmaf(z[i], near(m - i), fmaf(z_first[i], far(m - i), c));
    return c;
  }
  /// du[N + m] of g[N ..].
  __device__ __forceinline__ float gradient(const float (&g)[kMax], int m) const {
    float du = skip() * g[m];
#pragma unroll
    for (int i = 0; i < kMax; ++i)
      if (i >= m) du = fmaf(g[i], near(i - m), du);
    return du;
  }
  /// dy[N + i] and g[N + i], zeros from r on.
  __device__ __forceinline__ void gate(float (&dy)[kMax], float (&g)[kMax], const TailArgs<T>& a,
                                       int b, int d) const {
#pragma unroll
    for (int i = 0; i < kMax; i += 2) {
      const float2 v = load_pair(a.dy.row(b, d) + a.n + i, a.r - i);
      dy[i] = v.x;
      dy[i + 1] = v.y;
      g[i] = v.x * x0.q[i];
      g[i + 1] = v.y * x0.q[i + 1];
    }
  }
};

__global__ void filter_kernel(float* filter, const float* h, const float* skip,
                              int64_t filter_length, int n, int channels) {
  const int i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= channels * kTailFilter) return;
  const int d = i / kTailFilter;
  const int k = i - d * kTailFilter;
  const int64_t lag = k < kTailMax ? k : n + k - kTailMax;
  if (k == 2 * kTailMax) {
    filter[i] = skip != nullptr ? skip[d] : 0.F;
  } else {
    filter[i] = lag < filter_length ? h[d * filter_length + lag] : 0.F;
  }
}

template <class T, int kMax>
__global__ void __launch_bounds__(kThreads) output_kernel(const TailArgs<T> a) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(a.p.batch) * a.channels) return;
  const int b = static_cast<int>(i / a.channels);
  const int d = static_cast<int>(i - static_cast<int64_t>(b) * a.channels);
  const TailRow<T, kMax> row(a, b, d);
#pragma unroll
  for (int m = 0; m < kMax; m += 2)
    if (m < a.r)
      store_pair(a.y.row(b, d) + a.n + m, row.x0.q[m] * row.conv(a, m),
                 row.x0.q[m + 1] * row.conv(a, m + 1), a.r - m);
}

template <class T, int kMax>
__global__ void __launch_bounds__(kThreads) before_kernel(const TailArgs<T> a) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(a.p.batch) * a.channels) return;
  const int b = static_cast<int>(i / a.channels);
  const int d = static_cast<int>(i - static_cast<int64_t>(b) * a.channels);
  const TailRow<T, kMax> row(a, b, d);
  float dy[kMax];
  float g[kMax];
  row.gate(dy, g, a, b, d);
  float du[kTailMax] = {};
  float padded[kTailMax] = {};
#pragma unroll
  for (int j = 0; j < kMax; ++j) {
    padded[j] = g[j];
#pragma unroll
    for (int m = 0; m < kMax; ++m)
      if (m >= j) du[j] = fmaf(g[m], row.far(m - j), du[j]);
  }
#pragma unroll
  for (int j = 0; j < kTailMax; j += 4) {
    auto four = [&](const float* x) { return make_float4(x[j], x[j + 1], x[j + 2], x[j + 3]); };
    *reinterpret_cast<float4*>(a.view.g + i * kTailMax + j) = four(padded);
    *reinterpret_cast<float4*>(a.view.du + i * kTailMax + j) = four(du);
  }
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    const float last = row.gradient(g, m);
    a.view.dq[i * 4 + m] = last * row.v.q[m];
    a.view.dq[i * 4 + 2 + m] = last * row.x1.q[m];
  }
}

// Two times: with six blocks per multiprocessor those of D = 768 channels all run at once.
template <class T, int kMax>
__global__ void __launch_bounds__(kThreads, kMax == 2 ? 6 : 1) after_kernel(const TailArgs<T> a) {
  const int tid = threadIdx.x;
  const int d = blockIdx.x;
  float taps[3][4] = {};  // of x0, x1, v: taps and bias
  float near[kMax] = {};
  float far[kMax] = {};
  for (int b = tid; b < a.p.batch; b += kThreads) {
    const TailRow<T, kMax> row(a, b, d);
    float dy[kMax];
    float g[kMax];
    row.gate(dy, g, a, b, d);
    float dq[3][kMax + 2] = {};  // zeros from r on
#pragma unroll
    for (int m = 0; m < kMax; ++m)
      if (m < a.r) {
        const float du = row.gradient(g, m);
        dq[0][m] = dy[m] * row.conv(a, m);
        dq[1][m] = du * row.v.q[m];
        dq[2][m] = du * row.x1.q[m];
      }
    auto part = [&](int k, const Taps& f, const Times<kMax>& x) {
      T* const to = a.dp.row(b, k * a.channels + d) + a.n;
      auto dp = [&](int m) {
        return fmaf(f.w[0], dq[k][m + 2], fmaf(f.w[1], dq[k][m + 1], f.w[2] * dq[k][m]));
      };
#pragma unroll
      for (int m = 0; m < kMax; ++m) {
        if (m % 2 == 0) store_pair(to + m, dp(m), dp(m + 1), a.r - m);
#pragma unroll
        for (int tap = 0; tap < 3; ++tap)
          taps[k][tap] = fmaf(dq[k][m], x.p[m + tap], taps[k][tap]);
        taps[k][3] += dq[k][m];
      }
      if (k == 0) {  // dq_x0 was not known to the kernel that made its neighbours
        const float* partial = a.view.seam + row.row * 2;
        store_pair(to - 2, fmaf(f.w[0], dq[0][0], partial[0]),
                   fmaf(f.w[0], dq[0][1], fmaf(f.w[1], dq[0][0], partial[1])), 2);
      }
    };
    part(0, row.f0, row.x0);
    part(1, row.f1, row.x1);
    part(2, row.fv, row.v);
#pragma unroll
    for (int j = 0; j < kMax; ++j)
#pragma unroll
      for (int m = 0; m < kMax; ++m)
        if (m >= j) {
          near[j] = fmaf(g[m], row.z[m - j], near[j]);
          far[j] = fmaf(g[m], row.z_first[m - j], far[j]);
        }
  }
  __shared__ float sums[kThreads / 32][kSums];
  auto leave = [&](int i, float v) {
#pragma unroll
    for (int o = 16; o != 0; o >>= 1)
      v += __shfl_xor_sync(~0U, v, o);
    if ((tid & 31) == 0) sums[tid >> 5][i] = v;
  };
#pragma unroll
  for (int i = 0; i < kParameterSums; ++i)
    leave(i, taps[i >> 2][i & 3]);
#pragma unroll
  for (int j = 0; j < kMax; ++j) {
    leave(kParameterSums + j, near[j]);
    leave(kParameterSums + kTailMax + j, far[j]);
  }
  __syncthreads();
  if (tid >= kSums) return;
  float v = 0.F;
  for (int warp = 0; warp < kThreads / 32; ++warp)
    v += sums[warp][tid];
  if (tid < kParameterSums) {
    const int channel = (tid >> 2) * a.channels + d;
    const int tap = (tid & 3) - (3 - a.conv.taps);
    if ((tid & 3) == 3) {
      a.to.dbias_C[channel] += v;
    } else if (tap >= 0) {
      a.to.dweight_CT[channel * a.conv.taps + tap] += v;
    }
    return;
  }
  const int j = (tid - kParameterSums) & (kTailMax - 1);
  const bool is_far = tid >= kParameterSums + kTailMax;
  const int lag = is_far ? a.n + j : j;
  if (j == 0 && !is_far) a.to.dskip_D[d] += v;
  if (j >= a.r || lag >= a.filter_length) return;
  float* const dh = a.to.dh_DK + d * a.filter_length + lag;
  *dh = is_far ? v : *dh + v;
}

template <class T>
TailArgs<T> arguments(const TailCall& call) {
  const CudaMixerShape& s = call.shape;
  TailArgs<T> a{};
  a.r = tail_of(s.length);
  a.n = static_cast<int>(s.length) - a.r;
  a.channels = static_cast<int>(s.channels);
  a.p = {static_cast<const T*>(call.p), s.row_stride, static_cast<int>(s.batch), 3 * a.channels,
         static_cast<int>(s.length)};
  a.conv = {call.weight, call.bias, s.taps};
  a.filter = call.filter;
  a.view = call.view;
  a.filter_length = s.filter_length;
  return a;
}
unsigned blocks(std::int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}
std::int64_t rows(const TailCall& call) {
  return call.shape.batch * call.shape.channels;
}
/// run<T, kMax>(): the tail of 2^k + 2 is two times.
template <class F>
void with_type(const TailCall& call, F&& run) {
  auto with_length = [&]<class T>() {
    tail_of(call.shape.length) <= 2 ? run.template operator()<T, 2>()
                                    : run.template operator()<T, kTailMax>();
  };
  call.shape.type == CudaElement::kBFloat16 ? with_length.template operator()<__nv_bfloat16>()
                                            : with_length.template operator()<__half>();
  check(cudaGetLastError(), "launch of a tail kernel of the mixer");
}

}  // namespace

void tail_filter(const CudaMixerShape& shape, const float* h, const float* skip, float* filter,
                 cudaStream_t stream) {
  const auto n = static_cast<int>(shape.length) - tail_of(shape.length);
  const auto channels = static_cast<int>(shape.channels);
  filter_kernel<<<blocks(shape.channels * kTailFilter), kThreads, 0, stream>>>(
      filter, h, skip, shape.filter_length, n, channels);
  check(cudaGetLastError(), "launch of a tail kernel of the mixer");
}

void tail_output(const TailCall& call, void* y) {
  with_type(call, [&]<class T, int kMax>() {
    TailArgs<T> a = arguments<T>(call);
    a.y = {static_cast<T*>(y), a.p.row_stride, a.p.batch, a.channels, a.p.length};
    output_kernel<T, kMax><<<blocks(rows(call)), kThreads, 0, call.stream>>>(a);
  });
}

void tail_before(const TailCall& call, const void* dy) {
  with_type(call, [&]<class T, int kMax>() {
    TailArgs<T> a = arguments<T>(call);
    a.dy = {static_cast<const T*>(dy), a.p.row_stride, a.p.batch, a.channels, a.p.length};
    before_kernel<T, kMax><<<blocks(rows(call)), kThreads, 0, call.stream>>>(a);
  });
}

void tail_after(const TailCall& call, const void* dy, const CudaMixerGradients& to) {
  with_type(call, [&]<class T, int kMax>() {
    TailArgs<T> a = arguments<T>(call);
    a.dy = {static_cast<const T*>(dy), a.p.row_stride, a.p.batch, a.channels, a.p.length};
    a.dp = {static_cast<T*>(to.dp_BCL), a.p.row_stride, a.p.batch, 3 * a.channels, a.p.length};
    a.to = to;
    after_kernel<T, kMax><<<static_cast<unsigned>(a.channels), kThreads, 0, call.stream>>>(a);
  });
}

}  // namespace hyena::kernels::cuda
