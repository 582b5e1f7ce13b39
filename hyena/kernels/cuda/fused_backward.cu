// The backward of rows of at most 8192 points: its workspace, its two launches, and the second
// kernel, from sums of spectra to dh and the gradients of the short convolutions.
//
//   dh[d][n] = Re exp(-i pi n / 2N) sum_k S[k] exp(2 pi i n k / N) / N      (1 / N is in S)
//
// Mapping   one block per channel: adds the slots that hold parts of the channel in fixed order,
//           then the batch rows of a tile; one inverse float32 FFT
// Budget    8 bytes read per slot and point, 4 written per (d, l)
#include <algorithm>

#include "hyena/kernels/cuda/backward.cuh"
#include "hyena/kernels/cuda/backward_args.h"
#include "hyena/kernels/cuda/fft.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/slots.cuh"

namespace hyena::kernels::cuda {
namespace {

struct FinishArgs {
  const float2* sums;
  const float* parameter_sums;
  CudaMixerGradients to;
  int channels, taps, groups, blocks;
  int64_t filter_length, filter_stride;
};

template <int kLogN1>
__global__ void __launch_bounds__(kFilterThreads<kLogN1>) finish_gradients(const FinishArgs a) {
  constexpr int kN1 = 1 << kLogN1;
  constexpr int kLog = kLogN1 + 8;
  constexpr int kPoints = 1 << kLog;
  constexpr int kThreads = kFilterThreads<kLogN1>;
  constexpr int kUnroll = 4;  // loads in flight
  static_assert(kPoints % (kUnroll * kThreads) == 0);
  extern __shared__ float2 x[];
  const int d = blockIdx.x;
  const int tid = threadIdx.x;
  const SlotRange slots(d, a.channels, a.groups, a.blocks);
  for (int u0 = tid; u0 < kPoints; u0 += kUnroll * kThreads) {
    float2 sum[kUnroll] = {};
    for (int b = slots.first; b <= slots.last; ++b)
      for (int row = 0; row < sum_rows(kLogN1); row += kN1)
#pragma unroll
        for (int i = 0; i < kUnroll; ++i) {
          const int u = u0 + i * kThreads;
          const float2 v =
              __ldg(a.sums + (static_cast<int64_t>(d + b) * sum_rows(kLogN1) + row) * 256 + u);
          sum[i].x += v.x;
          sum[i].y += v.y;
        }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const int u = u0 + i * kThreads;
      x[place(bit_reversed_index<kLog>(frequency(u >> 8, u & 31, (u >> 5) & 7, kN1)))] = sum[i];
    }
  }
  __syncthreads();
  fft<kLog, kThreads>(x, tid);
  float2 w = unit_root(static_cast<float>(tid) * (-0.5F / kPoints));
  const float2 step = unit_root(-0.5F * kThreads / kPoints);
#pragma unroll
  for (int i = 0; i < kPoints / kThreads; ++i) {
    const int n = tid + i * kThreads;
    const float2 v = x[place(tid) ^ place(i * kThreads)];
    const float y = v.x * w.x - v.y * w.y;
    if (n < a.filter_length) a.to.dh_DK[d * a.filter_stride + n] = y;
    if (n == 0) a.to.dskip_D[d] = y;
    w = complex_product(w, step);
  }
  finish_parameters(a.parameter_sums, d, slots.first, slots.last, a.to, d, a.channels, a.taps, tid);
}

template <int kLogN1>
void finish(const FinishArgs& a, cudaStream_t stream) {
  constexpr int kBytes = 8 * (256 << kLogN1);
  allow_shared_memory<finish_gradients<kLogN1>>(kBytes);
  finish_gradients<kLogN1><<<a.channels, kFilterThreads<kLogN1>, kBytes, stream>>>(a);
  check(cudaGetLastError(), "launch of the mixer's filter gradient kernel");
}

/// Every block must own a tile: a slot of one that does not would never be written.
int grid(const MixerProblem& m) {
  const int at_once = m.multiprocessors * (m.log_n1 == 5 ? 1 : kBackwardBlocks);
  return static_cast<int>(std::min<int64_t>(at_once, m.shape.channels * m.tile_groups()));
}

std::size_t slots(const MixerProblem& m) {
  return m.channels() + static_cast<std::size_t>(grid(m));
}
std::size_t slot_points(const MixerProblem& m) {
  return static_cast<std::size_t>(sum_rows(m.log_n1)) * 256;
}

template <class T>
void run(const MixerProblem& m, const BackwardCall& call) {
  auto* sums = static_cast<float2*>(call.workspace);
  auto* parameter_sums = reinterpret_cast<float*>(sums + slots(m) * slot_points(m));
  const bool ragged = !m.bulk(call.p, call.dy, call.gradients.dp_BCL);
  const BackwardArgs<T> a{m.input<T>(call.p, 3),
                          m.input<T>(call.dy, 1),
                          m.output<T>(call.gradients.dp_BCL, 3),
                          m.conv(call.weight, call.bias),
                          SpectrumView::of(call.spectrum, m.channels()),
                          m.wide(call.p, call.dy),
                          sums,
                          parameter_sums,
                          call.tail};
  const CUtensorMap map_p = ragged ? CUtensorMap{} : m.tensor_map(call.p, 3);
  const CUtensorMap map_dy = ragged ? CUtensorMap{} : m.tensor_map(call.dy, 1);
  launch_backward(a, m.log_n1, ragged, grid(m), map_p, map_dy, call.stream);
  const FinishArgs f{
      sums,           parameter_sums,  call.gradients, static_cast<int>(m.shape.channels),
      m.shape.taps,   m.tile_groups(), grid(m),        m.shape.filter_length,
      m.filter_stride};
  switch (m.log_n1) {
    case 2:
      return finish<2>(f, call.stream);
    case 3:
      return finish<3>(f, call.stream);
    case 4:
      return finish<4>(f, call.stream);
    default:
      return finish<5>(f, call.stream);
  }
}

}  // namespace

std::size_t fused_backward_workspace(const MixerProblem& m) {
  return slots(m) * (slot_points(m) * sizeof(float2) + kParameterSums * sizeof(float));
}

void fused_backward(const MixerProblem& m, const BackwardCall& call) {
  if (m.shape.type == CudaElement::kBFloat16) {
    run<__nv_bfloat16>(m, call);
  } else {
    run<__half>(m, call);
  }
}

}  // namespace hyena::kernels::cuda
