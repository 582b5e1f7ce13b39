// The public entry points of the generic mixer: checks, slices, and the order of its steps.
#include <algorithm>

#include "hyena/base/error.h"
#include "hyena/kernels/cuda/device.h"
#include "hyena/kernels/cuda/generic.h"
#include "hyena/kernels/cuda/launch.h"

namespace hyena::kernels {
namespace cuda::generic {
namespace {

bool representable(const CudaMixerShape& s) {
  return s.batch >= 1 && s.channels >= 1 && s.length >= 1 &&
         s.length <= std::int64_t{1} << kMaxLog && s.filter_length >= 1 &&
         s.filter_length <= s.length && s.row_stride >= s.length && s.taps >= 1 &&
         s.taps <= kMaxTaps && s.channels <= (std::int64_t{1} << 30) / 3 / s.batch;
}

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

/// How many channels and batch rows a slice has: whole channels, or else rows of one.
struct Cut {
  std::int64_t channels = 1;
  std::int64_t rows = 1;

  /// `row` bytes per row (b, d) and `channel` per channel.
  Cut(const Problem& m, std::size_t row, std::size_t channel, std::size_t limit) {
    const auto most = [limit](std::size_t bytes) {
      return std::max<std::int64_t>(1, static_cast<std::int64_t>(limit / bytes));
    };
    const std::size_t whole = static_cast<std::size_t>(m.shape.batch) * row + channel;
    if (whole <= limit) {
      rows = m.shape.batch;
      channels = std::min(m.shape.channels, most(whole));
    } else {
      rows = std::min(m.shape.batch, most(row));
    }
  }
  [[nodiscard]] std::size_t items() const { return static_cast<std::size_t>(channels * rows); }
};

Cut forward_cut(const Problem& m) {
  return {m, 8 * m.points(), 0, kForwardSliceBytes};
}
Cut backward_cut(const Problem& m) {
  return {m, 20 * m.points(), 8 * m.points(), kBackwardSliceBytes};
}

/// f(slice), the batch rows of a channel in order.
template <class F>
void for_slices(const Problem& m, const Cut& cut, F&& f) {
  for (std::int64_t d = 0; d < m.shape.channels; d += cut.channels)
    for (std::int64_t b = 0; b < m.shape.batch; b += cut.rows)
      f(Slice{static_cast<int>(d), static_cast<int>(std::min(cut.channels, m.shape.channels - d)),
              static_cast<int>(b), static_cast<int>(std::min(cut.rows, m.shape.batch - b))});
}

std::size_t sums_bytes(const Problem& m, std::int64_t lines) {
  return static_cast<std::size_t>(m.shape.channels * lines) * kParameters * sizeof(float);
}
std::int64_t backward_lines(const Problem& m) {
  return m.long_backward() ? m.shape.batch * m.gradient_tiles() : m.shares();
}
/// The sums stand behind the rest of the backward's workspace.
std::size_t backward_scratch(const Problem& m) {
  if (!m.long_backward())
    return static_cast<std::size_t>(m.shape.channels * m.shares()) * 8 * m.points();
  const Cut cut = backward_cut(m);
  return (20 * cut.items() + 8 * static_cast<std::size_t>(cut.channels)) * m.points();
}

void long_backward(const Problem& m, const Operands& in, const float2* spectrum, void* dp,
                   const FilterGradients& to, float2* scratch, float* sums, cudaStream_t stream) {
  const Cut cut = backward_cut(m);
  float2* const z = scratch;
  float2* const g = z + cut.items() * m.points();
  float2* const correlation = g + cut.items() * m.points();
  auto* const c =
      reinterpret_cast<float*>(correlation + static_cast<std::size_t>(cut.channels) * m.points());
  auto* const du = reinterpret_cast<float*>(z);  // when c has left it
  for_slices(m, cut, [&](const Slice& slice) {
    split_columns(m, in, Source::kProduct, slice, z, stream);
    split_columns(m, in, Source::kOutputGradient, slice, g, stream);
    gradient_rows(m, z, g, spectrum, correlation, slice, stream);
    merge_columns(m, z, slice.items(), c, stream);
    merge_columns(m, g, slice.items(), du, stream);
    long_gradients(m, in, c, du, dp, sums, slice, stream);
    if (slice.row + slice.rows < m.shape.batch) return;
    correlation_rows(m, correlation, slice.channels, stream);
    merge_filter_columns(m, correlation, slice, to, stream);
  });
}

}  // namespace

Problem::Problem(const CudaMixerShape& s) : shape(s) {
  if (!representable(s)) {
    throw user_error(
        "CUDA mixer: batch {}, channels {}, length {}, filter length {}, row stride {}, taps {} is "
        "not supported; use the composition",
        s.batch, s.channels, s.length, s.filter_length, s.row_stride, s.taps);
  }
  while ((std::int64_t{1} << log_n) < s.length)
    ++log_n;
}

int Problem::shares() const {
  return static_cast<int>(
      std::min(shape.batch, (kBackwardBlocks + shape.channels - 1) / shape.channels));
}

}  // namespace cuda::generic

bool hyena_mixer_cuda_generic_supports(const CudaMixerShape& shape, int device) {
  int major = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // no device is an answer, not an error
    return false;
  }
  return major >= 8 && !cuda::is_path("composed") && cuda::generic::representable(shape);
}

std::size_t hyena_mixer_cuda_generic_spectrum_bytes(const CudaMixerShape& shape) {
  const cuda::generic::Problem m(shape);
  return static_cast<std::size_t>(shape.channels) * 8 * m.points();
}
std::size_t hyena_mixer_cuda_generic_forward_workspace(const CudaMixerShape& shape) {
  const cuda::generic::Problem m(shape);
  return m.long_forward() ? cuda::generic::forward_cut(m).items() * 8 * m.points() : 0;
}
std::size_t hyena_mixer_cuda_generic_backward_workspace(const CudaMixerShape& shape) {
  namespace generic = cuda::generic;
  const generic::Problem m(shape);
  return generic::round_up(generic::backward_scratch(m)) +
         generic::sums_bytes(m, generic::backward_lines(m));
}

void hyena_mixer_cuda_generic_spectrum(const CudaMixerShape& shape, const float* h_DK,
                                       const float* skip_D, const float* reverse_DK, void* spectrum,
                                       CUstream_st* stream) {
  namespace generic = cuda::generic;
  const generic::Problem m(shape);
  const generic::Filters filters{h_DK, skip_D, reverse_DK};
  auto* const to = static_cast<float2*>(spectrum);
  if (!m.long_forward()) {
    generic::short_spectrum(m, filters, to, stream);
    return;
  }
  generic::split_filter_columns(m, filters, to, stream);
  generic::spectrum_rows(m, to, stream);
}

void hyena_mixer_cuda_generic_forward(const CudaMixerShape& shape, const void* p_BCL,
                                      const float* weight_CT, const float* bias_C,
                                      const void* spectrum, void* y_BDL, void* workspace,
                                      CUstream_st* stream) {
  namespace generic = cuda::generic;
  const generic::Problem m(shape);
  const generic::Operands in{nullptr, p_BCL, weight_CT, bias_C};
  const auto* const h = static_cast<const float2*>(spectrum);
  if (!m.long_forward()) {
    generic::short_forward(m, in, h, y_BDL, stream);
    return;
  }
  auto* const scratch = static_cast<float2*>(workspace);
  generic::for_slices(m, generic::forward_cut(m), [&](const generic::Slice& slice) {
    generic::split_columns(m, in, generic::Source::kProduct, slice, scratch, stream);
    generic::product_rows(m, scratch, h, slice, stream);
    generic::merge_columns_gated(m, in, scratch, y_BDL, slice, stream);
  });
}

void hyena_mixer_cuda_generic_backward(const CudaMixerShape& shape, const void* dy_BDL,
                                       const void* p_BCL, const float* weight_CT,
                                       const float* bias_C, const void* spectrum,
                                       const CudaMixerGradients& gradients, float* dreverse_DK,
                                       void* workspace, CUstream_st* stream) {
  namespace generic = cuda::generic;
  const generic::Problem m(shape);
  const generic::Operands in{dy_BDL, p_BCL, weight_CT, bias_C};
  const auto* const h = static_cast<const float2*>(spectrum);
  auto* const scratch = static_cast<float2*>(workspace);
  auto* const sums = reinterpret_cast<float*>(static_cast<char*>(workspace) +
                                              generic::round_up(generic::backward_scratch(m)));
  const generic::FilterGradients filters{gradients.dh_DK, gradients.dskip_D, dreverse_DK};
  if (m.long_backward()) {
    generic::long_backward(m, in, h, gradients.dp_BCL, filters, scratch, sums, stream);
  } else {
    generic::short_backward(m, in, h, gradients.dp_BCL, scratch, sums, stream);
    generic::short_filter_gradient(m, scratch, filters, stream);
  }
  generic::parameter_gradients(m, sums, static_cast<int>(generic::backward_lines(m)), gradients,
                               stream);
}

}  // namespace hyena::kernels
