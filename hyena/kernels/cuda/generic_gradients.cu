// Last steps of the generic mixer's backward: gradients of long rows from c and du, parameter sums.
//
//   dq_x0 = dy c;  dq_x1 = du q_v;  dq_v = du q_x1;  then as in generic_gradients.cuh
//
// Shapes    c, du (items, N) float32; p, dp (B, 3D, L), dy (B, D, L); sums (D, lines, 27)
// Mapping   a block of 256 threads per 2048 times of a row: dq of these and of the taps - 1 behind
//           them to shared memory, then 8 times per thread. Sums: a block per channel, whose eight
//           warps take every eighth line each
// Budget    4 elements and 8 bytes read per time, p again from the L1 and L2; 3 elements written
// Numerics  float32, sums in an order that depends on the shape alone
// Bounds    any L, any row stride
// Tested by tests/kernels/cuda/mixer_generic_test.cpp against float64
#include "hyena/kernels/cuda/generic_gradients.cuh"

namespace hyena::kernels::cuda::generic {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kCount = kGradientTile / kThreads;
constexpr int kHalo = kMaxTaps - 1;

template <class T>
__global__ void __launch_bounds__(kThreads, 3)
    long_gradients_kernel(const Mixer<T> m, const float* c, const float* du, int log_n,
                          const Slice slice, int tiles, T* dp, float* lines) {
  __shared__ float dq[3][kGradientTile + kHalo];
  __shared__ float sums[kWarps * kParameters];
  const int tid = static_cast<int>(threadIdx.x);
  const int tile = static_cast<int>(blockIdx.x) % tiles;
  const int item = static_cast<int>(blockIdx.x) / tiles;
  const int d = slice.channel + item / slice.rows;
  const int b = slice.row + item % slice.rows;
  const int first = tile * kGradientTile;
  const float* c_row = c + (static_cast<int64_t>(item) << log_n);
  const float* du_row = du + (static_cast<int64_t>(item) << log_n);
  const T* dy = m.dy + m.output(b, d);
  const ShortRow<T> x1 = m.row(b, d, 1);
  const ShortRow<T> v = m.row(b, d, 2);
  const auto fill = [&](auto& q1, auto& qv, int i0) {
    constexpr int kPoints = static_cast<int>(std::extent_v<std::remove_reference_t<decltype(q1)>>);
    x1.convolve(q1, first + i0, kThreads);
    v.convolve(qv, first + i0, kThreads);
#pragma unroll
    for (int j = 0; j < kPoints; ++j) {
      const int i = i0 + j * kThreads;
      const int n = first + i;
      const bool inside = n < m.length;
      const float du_n = inside ? du_row[n] : 0.F;
      dq[0][i] = inside ? widen(dy[n]) * c_row[n] : 0.F;
      dq[1][i] = inside ? du_n * qv[j] : 0.F;
      dq[2][i] = inside ? du_n * q1[j] : 0.F;
    }
  };
  {
    float q1[kCount];
    float qv[kCount];
    fill(q1, qv, tid);
  }
  if (tid < kHalo) {
    float q1[1];
    float qv[1];
    fill(q1, qv, kGradientTile + tid);
  }
  for (int i = tid; i < kWarps * kParameters; i += kThreads)
    sums[i] = 0.F;
  __syncthreads();
  const auto values = [&](int n) {
    const int i = n - first;
    return make_float3(dq[0][i], dq[1][i], dq[2][i]);
  };
  store_input_gradients<kCount, kThreads>(m, b, d, first + tid, dp, values);
  add_parameter_gradients<kCount, kThreads>(m, b, d, first + tid, sums + (tid >> 5) * kParameters,
                                            values);
  __syncthreads();
  const int64_t line = (static_cast<int64_t>(d) * m.batch + b) * tiles + tile;
  store_sums<kWarps>(lines + line * kParameters, sums, tid);
}

__global__ void __launch_bounds__(kThreads)
    parameter_gradients_kernel(const float* sums, int lines, int channels, int taps, float* dweight,
                               float* dbias) {
  __shared__ float partial[kWarps * kParameters];
  const int tid = static_cast<int>(threadIdx.x);
  const int warp = tid >> 5;
  const int i = tid & 31;
  const auto d = static_cast<int64_t>(blockIdx.x);
  if (i < kParameters) {
    float sum = 0.F;
    for (int line = warp; line < lines; line += kWarps)
      sum += sums[(d * lines + line) * kParameters + i];
    partial[warp * kParameters + i] = sum;
  }
  __syncthreads();
  if (tid >= kParameters) return;
  float total = 0.F;
#pragma unroll
  for (int w = 0; w < kWarps; ++w)
    total += partial[w * kParameters + tid];
  const int64_t channel = static_cast<int64_t>(tid / (kMaxTaps + 1)) * channels + d;
  const int lag = tid % (kMaxTaps + 1);
  if (lag == kMaxTaps) {
    dbias[channel] = total;
  } else if (lag < taps) {
    dweight[channel * taps + taps - 1 - lag] = total;
  }
}

}  // namespace

void long_gradients(const Problem& m, const Operands& in, const float* c, const float* du, void* dp,
                    float* sums, const Slice& slice, cudaStream_t stream) {
  with_element(m.shape.type, [&]<class T>() {
    const auto blocks =
        static_cast<unsigned>(slice.items()) * static_cast<unsigned>(m.gradient_tiles());
    long_gradients_kernel<T><<<blocks, kThreads, 0, stream>>>(
        Mixer<T>(m, in), c, du, m.log_n, slice, m.gradient_tiles(), static_cast<T*>(dp), sums);
    check(cudaGetLastError(), "launch of the generic mixer's gradients");
  });
}

void parameter_gradients(const Problem& m, const float* sums, int lines,
                         const CudaMixerGradients& to, cudaStream_t stream) {
  parameter_gradients_kernel<<<static_cast<unsigned>(m.shape.channels), kThreads, 0, stream>>>(
      sums, lines, static_cast<int>(m.shape.channels), m.shape.taps, to.dweight_CT, to.dbias_C);
  check(cudaGetLastError(), "launch of the generic mixer's parameter gradients");
}

}  // namespace hyena::kernels::cuda::generic
