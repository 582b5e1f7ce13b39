// Rows above 8192 points: how they are cut, buffers, tensor maps, launches (split.h).
#include <algorithm>

#include "hyena/kernels/cuda/backward.cuh"
#include "hyena/kernels/cuda/launch.h"
#include "hyena/kernels/cuda/split.h"

namespace hyena::kernels::cuda {
namespace {

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

/// Cuts a buffer into its parts.
struct Cursor {
  char* at;
  template <class V>
  V* take(std::size_t bytes) {
    V* part = reinterpret_cast<V*>(at);
    at += round_up(bytes);
    return part;
  }
};

SplitShape shape_of(const MixerProblem& m) {
  int log_points = 14;
  while ((std::int64_t{1} << log_points) < m.shape.length)
    ++log_points;
  const int log_c = std::min(log_points - 13, 3);
  return {log_c, log_points - 13 - log_c};
}

std::size_t row_bytes(const SplitShape& s) {  // of one row in scratch, and of one spectrum
  return std::size_t{4} << s.log_points();
}
std::size_t exponent_bytes(const SplitShape& s, std::size_t rows) {
  return round_up((rows * sizeof(std::uint32_t)) << s.log_tiles());
}

/// The parts of a spectrum buffer.
struct FilterBuffer {
  SplitTables* tables;
  float* scale;
  std::uint32_t* exponent;
  std::uint32_t* tile_exponents;
  uint4* twists;
  uint4* radix;  // of clusters
  uint4* spectrum;

  FilterBuffer(const MixerProblem& m, const void* buffer) {
    const auto channels = static_cast<std::size_t>(m.shape.channels);
    Cursor at{static_cast<char*>(const_cast<void*>(buffer))};
    tables = at.take<SplitTables>(sizeof(SplitTables));
    scale = at.take<float>(channels * sizeof(float));
    exponent = at.take<std::uint32_t>(channels * sizeof(std::uint32_t));
    tile_exponents = at.take<std::uint32_t>(exponent_bytes(shape_of(m), channels));
    twists = at.take<uint4>(static_cast<std::size_t>(shape_of(m).rows()) * 1024);
    radix = at.take<uint4>(std::size_t{512 * sizeof(uint4)} << shape_of(m).log_c);
    spectrum = at.take<uint4>(0);
  }
  [[nodiscard]] SplitFilter view() const { return {tables, scale, exponent, spectrum}; }
};

/// Boxes of 32 columns x C rows of a (rows, L) tensor, in the order of the input layout.
CUtensorMap input_map(const MixerProblem& m, const SplitShape& s, const void* data, int parts) {
  const auto line = static_cast<cuuint64_t>(2 * s.columns());
  const cuuint64_t dim[5] = {32, 16, cuuint64_t{2} << s.log_c,
                             static_cast<cuuint64_t>(s.columns() / 32),
                             static_cast<cuuint64_t>(m.shape.batch * parts * m.shape.channels)};
  const cuuint64_t stride[4] = {line << (1 + s.log_c), line, 64,
                                static_cast<cuuint64_t>(2 * m.shape.row_stride)};
  const cuuint32_t box[5] = {32, 16, cuuint32_t{2} << s.log_c, 1, 1};
  return encode_tensor_map(data, dim, stride, box, CU_TENSOR_MAP_SWIZZLE_64B);
}
/// Boxes of 32 rows, c apart, of 256 columns in blocks of 64: an input of a cluster's block.
CUtensorMap cluster_map(const MixerProblem& m, const SplitShape& s, const void* data, int parts) {
  const cuuint64_t dim[5] = {64, 32, cuuint64_t{1} << s.log_c, 4,
                             static_cast<cuuint64_t>(m.shape.batch * parts * m.shape.channels)};
  const cuuint64_t stride[4] = {cuuint64_t{512} << s.log_c, 512, 128,
                                static_cast<cuuint64_t>(2 * m.shape.row_stride)};
  const cuuint32_t box[5] = {64, 32, 1, 4, 1};
  return encode_tensor_map(data, dim, stride, box, CU_TENSOR_MAP_SWIZZLE_128B);
}
/// Boxes of 32 columns x C rows of one plane of scratch.
CUtensorMap scratch_map(const SplitShape& s, const void* data, std::size_t rows) {
  const cuuint64_t dim[5] = {32, 16, cuuint64_t{1} << s.log_rho, static_cast<cuuint64_t>(s.rows()),
                             rows};
  const cuuint64_t stride[4] = {64, 1024, cuuint64_t{1024} << s.log_rho, row_bytes(s)};
  const cuuint32_t box[5] = {32, 1, 1, static_cast<cuuint32_t>(s.rows()), 1};
  return encode_tensor_map(data, dim, stride, box, CU_TENSOR_MAP_SWIZZLE_64B);
}

bool whole(const MixerProblem& m, const SplitShape& s, const void* a, const void* b,
           const void* c = nullptr) {
  return m.wide(a, b, c) && m.shape.length == std::int64_t{1} << s.log_points();
}

template <class T>
void cluster_forward(const MixerProblem& m, const SplitShape& s, const ForwardCall& call) {
  const FilterBuffer filter(m, call.spectrum);
  const bool ragged = !whole(m, s, call.p, call.y);
  ClusterArgs<T> a{};
  a.p = m.input<T>(call.p, 3);
  a.y = m.output<T>(call.y, 1);
  a.conv = m.conv(call.weight, call.bias);
  a.filter = filter.view();
  a.tables = filter.tables;
  a.twists = filter.twists;
  a.radix = filter.radix;
  a.shape = s;
  a.channels = static_cast<int>(m.shape.channels);
  a.wide = m.wide(call.p, call.y);
  a.tail = call.tail;
  launch_cluster_forward(a, ragged, ragged ? CUtensorMap{} : cluster_map(m, s, call.p, 3),
                         call.stream);
}

template <class T>
void forward(const MixerProblem& m, const ForwardCall& call) {
  const SplitShape s = shape_of(m);
  if (s.log_rho == 0) return cluster_forward<T>(m, s, call);
  const FilterBuffer filter(m, call.spectrum);
  const auto rows = static_cast<std::size_t>(m.shape.batch * m.shape.channels);
  Cursor at{static_cast<char*>(call.workspace)};
  auto* exponents = at.take<std::uint32_t>(exponent_bytes(s, rows));
  auto* scratch = at.take<char>(rows * row_bytes(s));
  const bool ragged = !whole(m, s, call.p, call.y);
  const bool wide = m.wide(call.p, call.y);
  const CUtensorMap map_p = ragged ? CUtensorMap{} : input_map(m, s, call.p, 3);
  const CUtensorMap map_y = ragged ? CUtensorMap{} : input_map(m, s, call.y, 1);
  const CUtensorMap map_z = scratch_map(s, scratch, rows);
  const int channels = static_cast<int>(m.shape.channels);
  const int batch = static_cast<int>(m.shape.batch);
  const ShortConv conv = m.conv(call.weight, call.bias);
  const Tensor<const T> p = m.input<T>(call.p, 3);
  const SplitAnalysisArgs<T> gate{
      p, p, 1, 2, conv, filter.tables, s, channels, wide, exponents, {}, nullptr, nullptr, 0, 0};
  launch_split_gate(gate, true, ragged, m.multiprocessors, map_p, map_p, map_z, call.stream);
  const SplitRowsArgs row{{scratch, nullptr},
                          {exponents, nullptr},
                          filter.view(),
                          s,
                          channels,
                          batch,
                          filter.tables,
                          {},
                          nullptr,
                          nullptr};
  launch_split_deep_rows(row, Rows::kForward, m.multiprocessors, call.stream);
  const SplitSynthesisArgs<T> back{
      p, m.output<T>(call.y, 1), conv, filter.view(), s, wide, exponents, call.tail};
  launch_split_synthesis(back, ragged, m.multiprocessors, map_p, map_y, map_z, call.stream);
}

/// Chunks of 8 columns x C rows of one plane of scratch.
CUtensorMap next_map(const SplitShape& s, const void* data, std::size_t rows) {
  const cuuint64_t dim[5] = {8, 64, cuuint64_t{1} << s.log_rho, static_cast<cuuint64_t>(s.rows()),
                             rows};
  const cuuint64_t stride[4] = {16, 1024, cuuint64_t{1024} << s.log_rho, row_bytes(s)};
  const cuuint32_t box[5] = {8, 1, 1, static_cast<cuuint32_t>(s.rows()), 1};
  return encode_tensor_map(data, dim, stride, box, CU_TENSOR_MAP_SWIZZLE_NONE);
}

/// The parts of the backward's workspace.
struct BackwardBuffer {
  std::uint32_t* z_exponents;
  std::uint32_t* g_exponents;
  std::uint32_t* sum_exponents;
  float* parameter_sums;
  char* z;
  char* g;
  char* sums;
  std::size_t bytes;

  BackwardBuffer(const MixerProblem& m, void* buffer) {
    const SplitShape s = shape_of(m);
    const auto channels = static_cast<std::size_t>(m.shape.channels);
    const auto rows = static_cast<std::size_t>(m.shape.batch) * channels;
    Cursor at{static_cast<char*>(buffer)};
    z_exponents = at.take<std::uint32_t>(exponent_bytes(s, rows));
    g_exponents = at.take<std::uint32_t>(exponent_bytes(s, rows));
    sum_exponents = at.take<std::uint32_t>(channels * static_cast<std::size_t>(s.rows()) *
                                           sizeof(std::uint32_t));
    parameter_sums = at.take<float>((rows << s.log_tiles()) * kParameterSums * sizeof(float));
    z = at.take<char>(rows * row_bytes(s));
    g = at.take<char>(rows * row_bytes(s));
    sums = at.take<char>(channels * row_bytes(s));
    bytes = static_cast<std::size_t>(at.at - static_cast<char*>(buffer));
  }
};

template <class T>
void cluster_backward(const MixerProblem& m, const SplitShape& s, const BackwardCall& call) {
  const FilterBuffer filter(m, call.spectrum);
  const bool ragged = !whole(m, s, call.p, call.dy, call.gradients.dp_BCL);
  const ClusterBackwardArgs<T> a{m.input<T>(call.p, 3),
                                 m.input<T>(call.dy, 1),
                                 m.output<T>(call.gradients.dp_BCL, 3),
                                 m.conv(call.weight, call.bias),
                                 filter.view(),
                                 filter.tables,
                                 filter.twists,
                                 filter.radix,
                                 s,
                                 m.wide(call.p, call.dy, call.gradients.dp_BCL),
                                 call.tail,
                                 call.gradients,
                                 m.shape.filter_length,
                                 m.filter_stride};
  launch_cluster_backward(a, ragged, ragged ? CUtensorMap{} : cluster_map(m, s, call.p, 3),
                          ragged ? CUtensorMap{} : cluster_map(m, s, call.dy, 1), call.stream);
}

template <class T>
void backward(const MixerProblem& m, const BackwardCall& call) {
  const SplitShape s = shape_of(m);
  if (s.log_rho == 0) return cluster_backward<T>(m, s, call);
  const FilterBuffer filter(m, call.spectrum);
  const BackwardBuffer w(m, call.workspace);
  const int channels = static_cast<int>(m.shape.channels);
  const int batch = static_cast<int>(m.shape.batch);
  const auto rows = static_cast<std::size_t>(batch * channels);
  const bool ragged = !whole(m, s, call.p, call.dy, call.gradients.dp_BCL);
  const bool wide = m.wide(call.p, call.dy, call.gradients.dp_BCL);
  const CUtensorMap map_p = ragged ? CUtensorMap{} : input_map(m, s, call.p, 3);
  const CUtensorMap map_dy = ragged ? CUtensorMap{} : input_map(m, s, call.dy, 1);
  const CUtensorMap map_z = scratch_map(s, w.z, rows);
  const CUtensorMap map_g = scratch_map(s, w.g, rows);
  const ShortConv conv = m.conv(call.weight, call.bias);
  const Tensor<const T> p = m.input<T>(call.p, 3);
  const Tensor<const T> dy = m.input<T>(call.dy, 1);
  const SplitAnalysisArgs<T> z{
      p,  p,       1,       2, conv, filter.tables, s, channels, wide, w.z_exponents,
      {}, nullptr, nullptr, 0, 0};
  launch_split_gate(z, true, ragged, m.multiprocessors, map_p, map_p, map_z, call.stream);
  const SplitAnalysisArgs<T> g{
      p,         dy,      0,       0, conv, filter.tables, s, channels, wide, w.g_exponents,
      call.tail, nullptr, nullptr, 0, 0};
  launch_split_gate(g, false, ragged, m.multiprocessors, map_p, map_dy, map_g, call.stream);
  const SplitRowsArgs products{{w.z, w.g},    {w.z_exponents, w.g_exponents},
                               filter.view(), s,
                               channels,      batch,
                               filter.tables, {},
                               w.sums,        w.sum_exponents};
  launch_split_deep_rows(products, Rows::kBackward, m.multiprocessors, call.stream);
  const Tensor<T> dp = m.output<T>(call.gradients.dp_BCL, 3);
  const SplitGradientArgs<T> from_c{
      p, dy, 0, 0, dp, conv, filter.view(), s, wide, w.z_exponents, w.parameter_sums, call.tail};
  launch_split_gradients(from_c, false, ragged, m.multiprocessors, map_p, map_dy, map_z,
                         next_map(s, w.z, rows), call.stream);
  const SplitGradientArgs<T> from_du{
      p, p, 1, 2, dp, conv, filter.view(), s, wide, w.g_exponents, w.parameter_sums, call.tail};
  launch_split_gradients(from_du, true, ragged, m.multiprocessors, map_p, map_p, map_g,
                         next_map(s, w.g, rows), call.stream);
  const SplitFilterGradientArgs dh{call.gradients,
                                   filter.tables,
                                   s,
                                   channels,
                                   batch,
                                   m.shape.taps,
                                   m.shape.filter_length,
                                   m.filter_stride,
                                   w.sum_exponents,
                                   w.parameter_sums};
  launch_split_filter_gradient(dh, m.multiprocessors,
                               scratch_map(s, w.sums, static_cast<std::size_t>(channels)),
                               call.stream);
}

}  // namespace

std::size_t split_spectrum_bytes(const MixerProblem& m) {
  const FilterBuffer parts(m, nullptr);
  return reinterpret_cast<std::size_t>(parts.spectrum) +
         static_cast<std::size_t>(m.shape.channels) * row_bytes(shape_of(m));
}

void split_spectrum(const MixerProblem& m, const float* h, const float* skip, void* spectrum,
                    cudaStream_t stream) {
  const SplitShape s = shape_of(m);
  const FilterBuffer to(m, spectrum);
  const int channels = static_cast<int>(m.shape.channels);
  launch_split_tables(to.tables, to.twists, to.radix, s, to.exponent, channels, stream);
  const SplitSpectrum written{to.scale, to.exponent, to.spectrum};
  if (s.log_rho == 0) {
    ClusterArgs<__half> a{};
    a.tables = to.tables;
    a.twists = to.twists;
    a.radix = to.radix;
    a.shape = s;
    a.channels = channels;
    a.h = h;
    a.skip = skip;
    a.filter_length = m.shape.filter_length;
    a.filter_stride = m.filter_stride;
    a.spectrum = written;
    launch_cluster_filter(a, stream);
    return;
  }
  SplitAnalysisArgs<__half> a{};
  a.tables = to.tables;
  a.shape = s;
  a.channels = channels;
  a.exponents = to.tile_exponents;
  a.h = h;
  a.skip = skip;
  a.filter_length = m.shape.filter_length;
  a.filter_stride = m.filter_stride;
  launch_split_filter(a, m.multiprocessors,
                      scratch_map(s, to.spectrum, static_cast<std::size_t>(channels)), stream);
  const SplitRowsArgs rows{{to.spectrum, nullptr},
                           {to.tile_exponents, nullptr},
                           to.view(),
                           s,
                           channels,
                           1,
                           to.tables,
                           written,
                           nullptr,
                           nullptr};
  launch_split_deep_rows(rows, Rows::kFilter, m.multiprocessors, stream);
}

std::size_t split_forward_workspace(const MixerProblem& m) {
  const SplitShape s = shape_of(m);
  if (s.log_rho == 0) return 0;  // one kernel
  const auto rows = static_cast<std::size_t>(m.shape.batch * m.shape.channels);
  return exponent_bytes(s, rows) + rows * row_bytes(s);
}

void split_forward(const MixerProblem& m, const ForwardCall& call) {
  if (m.shape.type == CudaElement::kBFloat16) {
    forward<__nv_bfloat16>(m, call);
  } else {
    forward<__half>(m, call);
  }
}

std::size_t split_backward_workspace(const MixerProblem& m) {
  if (shape_of(m).log_rho == 0) return 0;  // one kernel
  return BackwardBuffer(m, nullptr).bytes;
}

void split_backward(const MixerProblem& m, const BackwardCall& call) {
  if (m.shape.type == CudaElement::kBFloat16) {
    backward<__nv_bfloat16>(m, call);
  } else {
    backward<__half>(m, call);
  }
}

}  // namespace hyena::kernels::cuda
