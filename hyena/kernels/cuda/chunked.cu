// Rows above 8192 points: groups of channels through analysis, products and synthesis (chunked.h),
// the seams between chunks, and dh from the products of spectra.
//
// Budget    per element, in brackets through the L2 where a group fits it:
//           forward 4 (+4, 4 + 4, 4), 2, 2 bytes; backward 8 (+8, 16 + 8, 8), 8, 6
#include <algorithm>

#include "hyena/kernels/cuda/backward_args.h"
#include "hyena/kernels/cuda/chunk_tile.cuh"
#include "hyena/kernels/cuda/fft.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/slots.cuh"
#include "hyena/kernels/cuda/tuning.h"

namespace hyena::kernels::cuda {
namespace {

struct FinishArgs {
  const float2* sums;
  const float* parameter_sums;
  CudaMixerGradients to;
  ChunkGroup group;
  int channels, taps, blocks;
  int64_t filter_length;
};

/// One block per (channel, chunk): dh of the chunk from S'_m + i S'_{m+1}; chunk 0 finishes the
/// parameters.
__global__ void __launch_bounds__(kFilterThreads) finish_chunks(const FinishArgs a) {
  extern __shared__ float2 x[];
  const int tid = threadIdx.x;
  const int local = blockIdx.x / a.group.chunks;
  const int m = blockIdx.x % a.group.chunks;
  const int d = a.group.first_channel + local;
  const float2* s = a.sums + static_cast<int64_t>(blockIdx.x) * kTilePoints;
#pragma unroll 4
  for (int u = tid; u < kTilePoints; u += kFilterThreads) {
    float2 v = s[u];
    if (m + 1 < a.group.chunks) {
      const float2 w = s[kTilePoints + u];
      v = make_float2(v.x - w.y, v.y + w.x);
    }
    x[place(bit_reversed_index<13>(frequency(u >> 8, u & 31, (u >> 5) & 7, kTileRows)))] =
        make_float2(v.x * radix_fix(5), v.y * radix_fix(5));
  }
  __syncthreads();
  fft<13>(x, tid);
  const int64_t first = static_cast<int64_t>(m) * kTilePoints;
  float2 w = unit_root(static_cast<float>(tid) * (-0.5F / kTilePoints));
  const float2 step = unit_root(-0.5F * kFilterThreads / kTilePoints);
#pragma unroll
  for (int i = 0; i < kTilePoints / kFilterThreads; ++i) {
    const int n = tid + i * kFilterThreads;
    const float2 v = x[place(tid) ^ place(i * kFilterThreads)];
    const float y = v.x * w.x - v.y * w.y;
    if (first + n < a.filter_length) a.to.dh_DK[d * a.filter_length + first + n] = y;
    if (m == 0 && n == 0) a.to.dskip_D[d] = y;
    w = complex_product(w, step);
  }
  if (m == 0) {
    const SlotRange slots(local, a.group.channel_count, a.group.batch * a.group.chunks, a.blocks);
    finish_parameters(a.parameter_sums, local, slots, a.to, d, a.channels, a.taps, tid);
  }
}

/// The last two times of every chunk but a row's last: one thread per (tile, part).
template <class T>
__global__ void finish_seams(Tensor<T> dp, ShortConv conv, ChunkGroup group, const float2* seams) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const int tile = i / 3;
  const int part = i % 3;
  if (tile >= group.tiles()) return;
  const ChunkPlace w(group, tile);
  if (w.chunk + 1 == group.chunks) return;
  const int channel = part * (dp.channels / 3) + w.channel;
  const float2 own = seams[(static_cast<int64_t>(tile) * 3 + part) * 2];
  const float2 next = seams[(static_cast<int64_t>(tile + 1) * 3 + part) * 2 + 1];
  const Fir f = channel_fir(conv, channel);
  const float y0 = fmaf(f.w0, next.x, own.x);
  const float y1 = fmaf(f.w0, next.y, fmaf(f.w1, next.x, own.y));
  *reinterpret_cast<uint32_t*>(dp.row(w.batch, channel) + w.start() + kTilePoints - 2) =
      Element<T>::pack(y0, y1);
}

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

/// Channels that a group holds, and its parts of the workspace.
struct Plan {
  int channels;                                     // of a full group
  std::size_t tiles;                                // of a full group
  std::size_t spectra, scales, sums, slots, seams;  // bytes

  Plan(const MixerProblem& m, bool backward) {
    const std::size_t row_tiles =
        static_cast<std::size_t>(m.shape.batch) * static_cast<std::size_t>(m.chunks);
    const std::size_t channel_bytes = row_tiles * kSpectrumBytes * (backward ? 2 : 1);
    channels = static_cast<int>(std::clamp<std::size_t>(
        kChunkScratchBytes / channel_bytes, 1, static_cast<std::size_t>(m.shape.channels)));
    tiles = row_tiles * static_cast<std::size_t>(channels);
    const std::size_t slot_count = static_cast<std::size_t>(channels + m.multiprocessors);
    spectra = tiles * kSpectrumBytes;
    scales = round_up(tiles * sizeof(float));
    sums = static_cast<std::size_t>(channels * m.chunks) * kTilePoints * sizeof(float2);
    slots = round_up(slot_count * kParameterSums * sizeof(float));
    seams = round_up(tiles * 6 * sizeof(float2));
  }
  [[nodiscard]] std::size_t forward_bytes() const { return spectra + 2 * scales; }
  [[nodiscard]] std::size_t backward_bytes() const {
    return 2 * spectra + 4 * scales + sums + slots + seams;
  }
};

/// Cuts a workspace into its parts.
struct Cursor {
  char* at;
  template <class V>
  V* take(std::size_t bytes) {
    V* part = reinterpret_cast<V*>(at);
    at += bytes;
    return part;
  }
};

ChunkGroup group_at(const MixerProblem& m, const Plan& plan, int first) {
  return {first, std::min(plan.channels, static_cast<int>(m.shape.channels) - first),
          static_cast<int>(m.shape.batch), m.chunks};
}

/// Whether one kernel takes the rows chunk after chunk: few chunks, and rows enough for all teams.
bool sequential(const MixerProblem& m) {
  return m.chunks <= kSequentialChunks && m.shape.batch * m.shape.channels >= m.multiprocessors;
}

template <class T>
void forward_sequential(const MixerProblem& m, const ForwardCall& call) {
  const bool ragged = !m.bulk(call.p, call.y);
  const SynthesisArgs<T> a{
      m.input<T>(call.p, 3),
      m.output<T>(call.y, 1),
      m.conv(call.weight, call.bias),
      SpectrumView::of(call.spectrum, m.spectrum_tiles()),
      {0, static_cast<int>(m.shape.channels), static_cast<int>(m.shape.batch), m.chunks},
      m.wide(call.p, call.y),
      nullptr,
      nullptr};
  launch_chunks_forward(a, ragged, m.multiprocessors, static_cast<uint4*>(call.workspace),
                        ragged ? CUtensorMap{} : m.tensor_map(call.p, 3), call.stream);
}

template <class T>
void forward(const MixerProblem& m, const ForwardCall& call) {
  if (sequential(m)) return forward_sequential<T>(m, call);
  const Plan plan(m, false);
  Cursor cursor{static_cast<char*>(call.workspace)};
  auto* u = cursor.take<uint4>(plan.spectra);
  auto* u_scale = cursor.take<float>(plan.scales);
  auto* c_scale = cursor.take<float>(plan.scales);
  const SpectrumView filter = SpectrumView::of(call.spectrum, m.spectrum_tiles());
  const ShortConv conv = m.conv(call.weight, call.bias);
  const Tensor<const T> p = m.input<T>(call.p, 3);
  const bool ragged = !m.bulk(call.p, call.y);
  const bool wide = m.wide(call.p, call.y);
  const CUtensorMap map = ragged ? CUtensorMap{} : m.tensor_map(call.p, 3);
  for (int first = 0; first < m.shape.channels; first += plan.channels) {
    const ChunkGroup group = group_at(m, plan, first);
    launch_analysis(AnalysisArgs<T>{p, p, 1, 2, conv, filter, group, wide, u, u_scale}, true,
                    ragged, m.multiprocessors, map, map, call.stream);
    launch_convolution(
        ProductArgs{filter, group, u, nullptr, u_scale, nullptr, c_scale, nullptr, nullptr},
        call.stream);
    launch_synthesis(
        SynthesisArgs<T>{p, m.output<T>(call.y, 1), conv, filter, group, wide, u, c_scale}, ragged,
        m.multiprocessors, map, call.stream);
  }
}

template <class T>
void backward(const MixerProblem& m, const BackwardCall& call) {
  const Plan plan(m, true);
  Cursor cursor{static_cast<char*>(call.workspace)};
  auto* u = cursor.take<uint4>(plan.spectra);
  auto* g = cursor.take<uint4>(plan.spectra);
  auto* u_scale = cursor.take<float>(plan.scales);
  auto* g_scale = cursor.take<float>(plan.scales);
  auto* c_scale = cursor.take<float>(plan.scales);
  auto* du_scale = cursor.take<float>(plan.scales);
  auto* sums = cursor.take<float2>(plan.sums);
  auto* slots = cursor.take<float>(plan.slots);
  auto* seams = cursor.take<float2>(plan.seams);
  const SpectrumView filter = SpectrumView::of(call.spectrum, m.spectrum_tiles());
  const ShortConv conv = m.conv(call.weight, call.bias);
  const Tensor<const T> p = m.input<T>(call.p, 3);
  const Tensor<const T> dy = m.input<T>(call.dy, 1);
  const Tensor<T> dp = m.output<T>(call.gradients.dp_BCL, 3);
  const bool ragged = !m.bulk(call.p, call.dy, call.gradients.dp_BCL);
  const bool wide = m.wide(call.p, call.dy);
  const CUtensorMap map_p = ragged ? CUtensorMap{} : m.tensor_map(call.p, 3);
  const CUtensorMap map_dy = ragged ? CUtensorMap{} : m.tensor_map(call.dy, 1);
  allow_shared_memory<finish_chunks>(8 * kTilePoints);
  for (int first = 0; first < m.shape.channels; first += plan.channels) {
    const ChunkGroup group = group_at(m, plan, first);
    launch_analysis(AnalysisArgs<T>{p, p, 1, 2, conv, filter, group, wide, u, u_scale}, true,
                    ragged, m.multiprocessors, map_p, map_p, call.stream);
    launch_analysis(AnalysisArgs<T>{p, dy, 0, 0, conv, filter, group, wide, g, g_scale}, false,
                    ragged, m.multiprocessors, map_p, map_dy, call.stream);
    const ProductArgs products{filter, group, u, g, u_scale, g_scale, c_scale, du_scale, sums};
    launch_products(products, call.stream);
    const int blocks = std::min(m.multiprocessors, group.tiles());
    launch_backward(BackwardArgs<T>{p,
                                    dy,
                                    dp,
                                    conv,
                                    filter,
                                    group.first_channel,
                                    group.channel_count,
                                    m.chunks,
                                    wide,
                                    nullptr,
                                    slots,
                                    {u, g},
                                    {c_scale, du_scale},
                                    seams},
                    m.log_n1, ragged, blocks, map_p, map_dy, call.stream);
    finish_seams<T>
        <<<(3 * group.tiles() + 127) / 128, 128, 0, call.stream>>>(dp, conv, group, seams);
    check(cudaGetLastError(), "launch of the chunk seam kernel");
    finish_chunks<<<group.channel_count * m.chunks, kFilterThreads, 8 * kTilePoints, call.stream>>>(
        FinishArgs{sums, slots, call.gradients, group, static_cast<int>(m.shape.channels),
                   m.shape.taps, blocks, m.shape.filter_length});
    check(cudaGetLastError(), "launch of the chunk filter gradient's last kernel");
  }
}

}  // namespace

std::size_t chunked_forward_workspace(const MixerProblem& m) {
  return sequential(m) ? chunks_forward_history(m.multiprocessors, m.chunks)
                       : Plan(m, false).forward_bytes();
}
std::size_t chunked_backward_workspace(const MixerProblem& m) {
  return Plan(m, true).backward_bytes();
}
void chunked_forward(const MixerProblem& m, const ForwardCall& call) {
  m.shape.type == CudaElement::kBFloat16 ? forward<__nv_bfloat16>(m, call)
                                         : forward<__half>(m, call);
}
void chunked_backward(const MixerProblem& m, const BackwardCall& call) {
  m.shape.type == CudaElement::kBFloat16 ? backward<__nv_bfloat16>(m, call)
                                         : backward<__half>(m, call);
}

}  // namespace hyena::kernels::cuda
