// The last r <= 8 times of rows of N + r (tail.h), O(r^2) per row.
//
//   c[N+m]  = Im + sum_{i<=m} z[N+i] h[m-i] + skip z[N+m] + sum_{j<=m} z[j] h[N+m-j]
//   du[N+m] = sum_{n>=m} g[N+n] h[n-m] + skip g[N+m];      du[j] += sum_{m>=j} g[N+m] h[N+m-j]
//   dh[j]  += sum_i g[N+i+j] z[N+i];                       dh[N+j] = sum_{m>=j} g[N+m] z[m-j]
//
// Mapping   a thread per row; behind the backward a warp per channel, its lanes take batch rows in
//           turn and add in fixed order
#include "hyena/kernels/cuda/half_complex.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/tail.h"
#include "hyena/kernels/cuda/tensor.h"

namespace hyena::kernels::cuda {
namespace {

constexpr int kThreads = 128;

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

template <class T>
__device__ __forceinline__ float load(const T* x) {
  return Element<T>::lo(*reinterpret_cast<const uint16_t*>(x));
}
template <class T>
__device__ __forceinline__ void store(T* x, float v) {
  *reinterpret_cast<uint16_t*>(x) = static_cast<uint16_t>(Element<T>::pack(v, 0.F));
}

/// Three taps (oldest first) and bias of one part.
struct Taps {
  float w[3], bias;
  __device__ __forceinline__ Taps(const ShortConv& conv, int channel)
      : w{conv.value(channel, 0), conv.value(channel, 1), conv.value(channel, 2)},
        bias(conv.value(channel, 3)) {}
};

/// Times from `first` on of one input: p[i] is time first - 2 + i, q[i] the short convolution.
struct Times {
  float p[kTailMax + 2], q[kTailMax];
  template <class T>
  __device__ __forceinline__ Times(const T* row, int first, int count, const Taps& taps) {
#pragma unroll
    for (int i = 0; i < kTailMax + 2; ++i)
      p[i] = i < count + 2 && first - 2 + i >= 0 ? load(row + first - 2 + i) : 0.F;
#pragma unroll
    for (int i = 0; i < kTailMax; ++i)
      q[i] = i < count ? fmaf(taps.w[2], p[i + 2],
                              fmaf(taps.w[1], p[i + 1], fmaf(taps.w[0], p[i], taps.bias)))
                       : 0.F;
  }
};

/// Row (b, d): what all of the kernels derive from it.
template <class T>
struct TailRow {
  Taps f0, f1, fv;
  Times x0, x1, v;
  float z[kTailMax], z_first[kTailMax];  // z[N + i], z[i]
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
    const Times first1(a.p.row(b, a.channels + d), 0, a.r, f1);
    const Times first_v(a.p.row(b, 2 * a.channels + d), 0, a.r, fv);
#pragma unroll
    for (int i = 0; i < kTailMax; ++i) {
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
    for (int i = 0; i < kTailMax; ++i)
      if (i <= m) c = fmaf(z[i], near(m - i), fmaf(z_first[i], far(m - i), c));
    return c;
  }
  /// du[N + m] of g[N ..].
  __device__ __forceinline__ float gradient(const float (&g)[kTailMax], int m) const {
    float du = skip() * g[m];
#pragma unroll
    for (int i = 0; i < kTailMax; ++i)
      if (i >= m) du = fmaf(g[i], near(i - m), du);
    return du;
  }
  /// g[N + i], zeros from r on.
  __device__ __forceinline__ void gate(float (&g)[kTailMax], const TailArgs<T>& a, int b,
                                       int d) const {
#pragma unroll
    for (int i = 0; i < kTailMax; ++i)
      g[i] = i < a.r ? load(a.dy.row(b, d) + a.n + i) * x0.q[i] : 0.F;
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

template <class T>
__global__ void __launch_bounds__(kThreads) output_kernel(const TailArgs<T> a) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(a.p.batch) * a.channels) return;
  const int b = static_cast<int>(i / a.channels);
  const int d = static_cast<int>(i - static_cast<int64_t>(b) * a.channels);
  const TailRow<T> row(a, b, d);
#pragma unroll
  for (int m = 0; m < kTailMax; ++m)
    if (m < a.r) store(a.y.row(b, d) + a.n + m, row.x0.q[m] * row.conv(a, m));
}

template <class T>
__global__ void __launch_bounds__(kThreads) before_kernel(const TailArgs<T> a) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(a.p.batch) * a.channels) return;
  const int b = static_cast<int>(i / a.channels);
  const int d = static_cast<int>(i - static_cast<int64_t>(b) * a.channels);
  const TailRow<T> row(a, b, d);
  float g[kTailMax];
  row.gate(g, a, b, d);
#pragma unroll
  for (int j = 0; j < kTailMax; ++j) {
    a.view.g[i * kTailMax + j] = g[j];
    float du = 0.F;
#pragma unroll
    for (int m = 0; m < kTailMax; ++m)
      if (m >= j) du = fmaf(g[m], row.far(m - j), du);
    a.view.du[i * kTailMax + j] = du;
  }
#pragma unroll
  for (int m = 0; m < 2; ++m) {
    const float du = row.gradient(g, m);
    a.view.dq[i * 4 + m] = du * row.v.q[m];
    a.view.dq[i * 4 + 2 + m] = du * row.x1.q[m];
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) after_kernel(const TailArgs<T> a) {
  const int lane = threadIdx.x & 31;
  const int d = blockIdx.x * (kThreads / 32) + (threadIdx.x >> 5);
  if (d >= a.channels) return;
  float taps[3][4] = {};  // of x0, x1, v: taps and bias
  float near[kTailMax] = {};
  float far[kTailMax] = {};
  for (int b = lane; b < a.p.batch; b += 32) {
    const TailRow<T> row(a, b, d);
    float g[kTailMax];
    row.gate(g, a, b, d);
    float dq[3][kTailMax + 2] = {};
#pragma unroll
    for (int m = 0; m < kTailMax; ++m)
      if (m < a.r) {
        const float du = row.gradient(g, m);
        dq[0][m] = load(a.dy.row(b, d) + a.n + m) * row.conv(a, m);
        dq[1][m] = du * row.v.q[m];
        dq[2][m] = du * row.x1.q[m];
      }
    auto part = [&](int k, const Taps& f, const Times& x) {
      T* const to = a.dp.row(b, k * a.channels + d) + a.n;
#pragma unroll
      for (int m = 0; m < kTailMax; ++m) {
        if (m < a.r)
          store(to + m, fmaf(f.w[0], dq[k][m + 2], fmaf(f.w[1], dq[k][m + 1], f.w[2] * dq[k][m])));
#pragma unroll
        for (int tap = 0; tap < 3; ++tap)
          taps[k][tap] = fmaf(dq[k][m], x.p[m + tap], taps[k][tap]);
        taps[k][3] += dq[k][m];
      }
      if (k == 0) {  // dq_x0 was not known to the kernel that made its neighbours
        const float* partial = a.view.seam + row.row * 2;
        store(to - 2, fmaf(f.w[0], dq[0][0], partial[0]));
        store(to - 1, fmaf(f.w[0], dq[0][1], fmaf(f.w[1], dq[0][0], partial[1])));
      }
    };
    part(0, row.f0, row.x0);
    part(1, row.f1, row.x1);
    part(2, row.fv, row.v);
#pragma unroll
    for (int j = 0; j < kTailMax; ++j)
#pragma unroll
      for (int m = 0; m < kTailMax; ++m)
        if (m >= j) {
          near[j] = fmaf(g[m], row.z[m - j], near[j]);
          far[j] = fmaf(g[m], row.z_first[m - j], far[j]);
        }
  }
  auto sum = [](float v) {
#pragma unroll
    for (int o = 16; o != 0; o >>= 1)
      v += __shfl_xor_sync(~0U, v, o);
    return v;
  };
#pragma unroll
  for (int k = 0; k < 3; ++k)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float v = sum(taps[k][i]);
      const int tap = i - (3 - a.conv.taps);
      const int channel = k * a.channels + d;
      if (lane != 0) continue;
      if (i == 3) {
        a.to.dbias_C[channel] += v;
      } else if (tap >= 0) {
        a.to.dweight_CT[channel * a.conv.taps + tap] += v;
      }
    }
#pragma unroll
  for (int j = 0; j < kTailMax; ++j) {
    const float first = sum(near[j]);
    const float last = sum(far[j]);
    if (lane != 0 || j >= a.r) continue;
    if (j < a.filter_length) a.to.dh_DK[d * a.filter_length + j] += first;
    if (a.n + j < a.filter_length) a.to.dh_DK[d * a.filter_length + a.n + j] = last;
    if (j == 0) a.to.dskip_D[d] += first;
  }
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
template <class F>
void with_type(const TailCall& call, F&& run) {
  if (call.shape.type == CudaElement::kBFloat16) {
    run(__nv_bfloat16{});
  } else {
    run(__half{});
  }
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
  with_type(call, [&]<class T>(T) {
    TailArgs<T> a = arguments<T>(call);
    a.y = {static_cast<T*>(y), a.p.row_stride, a.p.batch, a.channels, a.p.length};
    output_kernel<T><<<blocks(rows(call)), kThreads, 0, call.stream>>>(a);
  });
}

void tail_before(const TailCall& call, const void* dy) {
  with_type(call, [&]<class T>(T) {
    TailArgs<T> a = arguments<T>(call);
    a.dy = {static_cast<const T*>(dy), a.p.row_stride, a.p.batch, a.channels, a.p.length};
    before_kernel<T><<<blocks(rows(call)), kThreads, 0, call.stream>>>(a);
  });
}

void tail_after(const TailCall& call, const void* dy, const CudaMixerGradients& to) {
  with_type(call, [&]<class T>(T) {
    TailArgs<T> a = arguments<T>(call);
    a.dy = {static_cast<const T*>(dy), a.p.row_stride, a.p.batch, a.channels, a.p.length};
    a.dp = {static_cast<T*>(to.dp_BCL), a.p.row_stride, a.p.batch, 3 * a.channels, a.p.length};
    a.to = to;
    after_kernel<T><<<blocks(32 * call.shape.channels), kThreads, 0, call.stream>>>(a);
  });
}

}  // namespace hyena::kernels::cuda
