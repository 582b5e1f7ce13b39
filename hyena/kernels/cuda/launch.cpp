// The public entry points of the CUDA mixer: checks, and which kernels run a shape.
#include "hyena/kernels/cuda/launch.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "hyena/base/error.h"
#include "hyena/kernels/cuda/device.h"
#include "hyena/kernels/cuda/direct.h"
#include "hyena/kernels/cuda/spectrum_buffer.h"

namespace hyena::kernels {
namespace cuda {
namespace {

constexpr std::int64_t kMaxLength = std::int64_t{1} << 20;

bool representable(const CudaMixerShape& s) {
  return s.type != CudaElement::kFloat32 && s.batch >= 1 && s.channels >= 1 && s.length >= 1 &&
         s.length <= kMaxLength && s.filter_length >= 1 && s.filter_length <= s.length &&
         s.row_stride >= s.length && s.row_stride % 2 == 0 && s.taps >= 1 && s.taps <= 3 &&
         s.batch * s.channels <= (std::int64_t{1} << 30) / 3 &&
         (s.length <= kTilePoints || s.batch <= 65535);
}

void require_representable(const CudaMixerShape& s) {
  if (!representable(s)) {
    throw user_error(
        "CUDA mixer: batch {}, channels {}, length {}, filter length {}, row stride {}, taps {} is "
        "not supported; use the composition",
        s.batch, s.channels, s.length, s.filter_length, s.row_stride, s.taps);
  }
}

bool aligned(const void* p, std::uintptr_t bytes = 16) {
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0;
}

/// Short copies move 4 bytes at a time.
void require_aligned(const void* data, const char* name) {
  if (reinterpret_cast<std::uintptr_t>(data) % 4 != 0) {
    throw user_error("CUDA mixer: {} must be 4-byte aligned, got {}; copy it first", name, data);
  }
}

using Encode = decltype(&cuTensorMapEncodeTiled);
Encode tensor_map_encoder() {
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                           cudaEnableDefault, &found),
          "driver entry point cuTensorMapEncodeTiled");
    if (function == nullptr) throw RunError("CUDA: the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<Encode>(function);
  }();
  return encode;
}

}  // namespace

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw run_error("CUDA: {}: {}", what, cudaGetErrorString(error));
}

CUtensorMap encode_tensor_map(const void* data, const cuuint64_t (&dim)[5],
                              const cuuint64_t (&stride)[4], const cuuint32_t (&box)[5],
                              CUtensorMapSwizzle swizzle) {
  const cuuint32_t one[5] = {1, 1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      tensor_map_encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 5, const_cast<void*>(data), dim,
                           stride, box, one, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                           CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw run_error("CUDA: tensor map of {} x {} x {} x {} x {} elements: error {}", dim[0], dim[1],
                    dim[2], dim[3], dim[4], static_cast<int>(result));
  }
  return map;
}

int current_multiprocessors() {
  int device = 0;
  int count = 0;
  check(cudaGetDevice(&device), "current device");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device),
        "number of multiprocessors");
  return count;
}

MixerProblem::MixerProblem(const CudaMixerShape& s) : shape(s), filter_stride(s.filter_length) {
  require_representable(s);
  shape.length -= tail_of(s.length);
  shape.filter_length = std::min(shape.filter_length, shape.length);
  log_n1 = 2;
  while (log_n1 < 5 && (std::int64_t{256} << log_n1) < shape.length)
    ++log_n1;
  multiprocessors = current_multiprocessors();
}

bool MixerProblem::wide(const void* a, const void* b, const void* c) const {
  return shape.row_stride % 8 == 0 && aligned(a) && aligned(b) && aligned(c);
}
bool MixerProblem::bulk(const void* a, const void* b, const void* c) const {
  return wide(a, b, c) && shape.length == std::int64_t{256} << log_n1;
}

DirectProblem::DirectProblem(const CudaMixerShape& s) : shape(s) {
  require_representable(s);
  halo = direct_halo(static_cast<int>(s.filter_length));
  blocks = direct_blocks(static_cast<int>(s.filter_length));
  multiprocessors = current_multiprocessors();
}

bool DirectProblem::wide(const void* a, const void* b, const void* c) const {
  return shape.row_stride % 4 == 0 && aligned(a, 8) && aligned(b, 8) && aligned(c, 8);
}

bool DirectProblem::bulk(const void* a, const void* b) const {
  return shape.row_stride % 8 == 0 && aligned(a) && aligned(b);
}

CUtensorMap MixerProblem::tensor_map(const void* data, int parts) const {
  const auto row = static_cast<cuuint64_t>(2 * shape.row_stride);
  const auto channels = static_cast<cuuint64_t>(parts * shape.channels);
  const auto box_rows = static_cast<cuuint32_t>(1 << log_n1);
  // 64 times, rows of 256 times, batch, 4 blocks of 64 times, channel
  const cuuint64_t dim[5] = {64, static_cast<cuuint64_t>(shape.length / 256),
                             static_cast<cuuint64_t>(shape.batch), 4, channels};
  const cuuint64_t stride[4] = {512, channels * row, 128, row};
  const cuuint32_t box[5] = {64, box_rows, static_cast<cuuint32_t>(tile_rows()) / box_rows, 4, 1};
  return encode_tensor_map(data, dim, stride, box, CU_TENSOR_MAP_SWIZZLE_128B);
}

}  // namespace cuda

bool cuda::is_path(std::string_view name) {
  const char* path = std::getenv("HYENA_CUDA_PATH");
  return path != nullptr && path == name;
}

bool cuda::has_kernels_for(int device) {
  if (is_path("generic") || is_path("composed")) return false;
  int major = 0;
  int minor = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // no device is an answer, not an error
    return false;
  }
  return major == 9 && minor == 0;
}

bool hyena_mixer_cuda_supports(const CudaMixerShape& shape, int device) {
  return cuda::has_kernels_for(device) && cuda::representable(shape);
}

namespace cuda {
namespace {

std::size_t round_up(std::size_t bytes) {
  return (bytes + 255) / 256 * 256;
}
// The tail's part of a buffer stands behind the rest.
std::size_t spectrum_bytes(const MixerProblem& m) {
  return round_up(m.is_long() ? split_spectrum_bytes(m)
                              : SpectrumView::bytes(m.channels(), m.log_n1));
}
std::size_t forward_bytes(const MixerProblem& m) {
  return m.is_long() ? round_up(split_forward_workspace(m)) : 0;
}
std::size_t backward_bytes(const MixerProblem& m) {
  return round_up(m.is_long() ? split_backward_workspace(m) : fused_backward_workspace(m));
}
std::size_t rows(const CudaMixerShape& s) {
  return static_cast<std::size_t>(s.batch * s.channels);
}
std::size_t tail_bytes(const CudaMixerShape& s) {
  return tail_of(s.length) != 0 ? rows(s) * TailView::kFloats * sizeof(float) : 0;
}
float* tail_filter_of(const MixerProblem& m, const void* spectrum) {
  auto* const buffer = static_cast<char*>(const_cast<void*>(spectrum));
  return reinterpret_cast<float*>(buffer + spectrum_bytes(m));
}

}  // namespace
}  // namespace cuda

bool hyena_mixer_cuda_is_toeplitz(const CudaMixerShape& shape) {
  return cuda::is_direct(shape);
}

std::size_t hyena_mixer_cuda_spectrum_bytes(const CudaMixerShape& shape) {
  if (cuda::is_direct(shape)) return cuda::direct_spectrum_bytes(cuda::DirectProblem(shape));
  const std::size_t tail =
      cuda::tail_of(shape.length) != 0
          ? static_cast<std::size_t>(shape.channels) * cuda::kTailFilter * sizeof(float)
          : 0;
  return cuda::spectrum_bytes(cuda::MixerProblem(shape)) + tail;
}
std::size_t hyena_mixer_cuda_forward_workspace(const CudaMixerShape& shape) {
  if (cuda::is_direct(shape)) return 0;
  return cuda::forward_bytes(cuda::MixerProblem(shape)) + cuda::tail_bytes(shape);
}
std::size_t hyena_mixer_cuda_backward_workspace(const CudaMixerShape& shape) {
  if (cuda::is_direct(shape)) return cuda::direct_backward_workspace(cuda::DirectProblem(shape));
  return cuda::backward_bytes(cuda::MixerProblem(shape)) + cuda::tail_bytes(shape);
}

void hyena_mixer_cuda_spectrum(const CudaMixerShape& shape, const float* h_DK, const float* skip_D,
                               void* spectrum, CUstream_st* stream) {
  if (cuda::is_direct(shape)) {
    cuda::direct_spectrum(cuda::DirectProblem(shape), h_DK, skip_D, spectrum, stream);
    return;
  }
  const cuda::MixerProblem m(shape);
  m.is_long() ? cuda::split_spectrum(m, h_DK, skip_D, spectrum, stream)
              : cuda::filter_spectrum(m, h_DK, skip_D, spectrum, stream);
  if (cuda::tail_of(shape.length) != 0)
    cuda::tail_filter(shape, h_DK, skip_D, cuda::tail_filter_of(m, spectrum), stream);
}

void hyena_mixer_cuda_forward(const CudaMixerShape& shape, const void* p_BCL,
                              const float* weight_CT, const float* bias_C, const void* spectrum,
                              void* y_BDL, void* workspace, CUstream_st* stream) {
  cuda::require_aligned(p_BCL, "p");
  cuda::require_aligned(y_BDL, "y");
  cuda::ForwardCall call{p_BCL, weight_CT, bias_C, spectrum, y_BDL, workspace, {}, stream};
  if (cuda::is_direct(shape)) {
    cuda::direct_forward(cuda::DirectProblem(shape), call);
    return;
  }
  const cuda::MixerProblem m(shape);
  const bool has_tail = cuda::tail_of(shape.length) != 0;
  if (has_tail)
    call.tail = cuda::TailView::of(static_cast<char*>(workspace) + cuda::forward_bytes(m),
                                   cuda::rows(shape));
  m.is_long() ? cuda::split_forward(m, call) : cuda::fused_forward(m, call);
  if (has_tail)
    cuda::tail_output(
        {shape, p_BCL, weight_CT, bias_C, cuda::tail_filter_of(m, spectrum), call.tail, stream},
        y_BDL);
}

void hyena_mixer_cuda_backward(const CudaMixerShape& shape, const void* dy_BDL, const void* p_BCL,
                               const float* weight_CT, const float* bias_C, const void* spectrum,
                               const CudaMixerGradients& gradients, void* workspace,
                               CUstream_st* stream) {
  cuda::require_aligned(dy_BDL, "dy");
  cuda::require_aligned(p_BCL, "p");
  cuda::require_aligned(gradients.dp_BCL, "dp");
  cuda::BackwardCall call{dy_BDL,    p_BCL,     weight_CT, bias_C, spectrum,
                          gradients, workspace, {},        stream};
  if (cuda::is_direct(shape)) {
    cuda::direct_backward(cuda::DirectProblem(shape), call);
    return;
  }
  const cuda::MixerProblem m(shape);
  const auto run = [&m](const cuda::BackwardCall& c) {
    m.is_long() ? cuda::split_backward(m, c) : cuda::fused_backward(m, c);
  };
  if (cuda::tail_of(shape.length) == 0) {
    run(call);
    return;
  }
  call.tail = cuda::TailView::of(static_cast<char*>(workspace) + cuda::backward_bytes(m),
                                 cuda::rows(shape));
  const cuda::TailCall tail{shape,     p_BCL, weight_CT, bias_C, cuda::tail_filter_of(m, spectrum),
                            call.tail, stream};
  cuda::tail_before(tail, dy_BDL);
  run(call);
  cuda::tail_after(tail, dy_BDL, gradients);
}

}  // namespace hyena::kernels
