// A build without CUDA supports nothing, and says so to those who did not ask.
#include "hyena/kernels/hyena_mixer_cuda.h"

#include "hyena/base/error.h"

namespace hyena::kernels {
namespace {

[[noreturn]] void refuse() {
  throw RunError(
      "this build has no CUDA kernels: configure with HYENA_CUDA=ON (scripts/build cuda)");
}

}  // namespace

bool hyena_mixer_cuda_supports(const CudaMixerShape&, int) {
  return false;
}
std::size_t hyena_mixer_cuda_spectrum_bytes(const CudaMixerShape&) {
  refuse();
}
std::size_t hyena_mixer_cuda_forward_workspace(const CudaMixerShape&) {
  refuse();
}
std::size_t hyena_mixer_cuda_backward_workspace(const CudaMixerShape&) {
  refuse();
}
void hyena_mixer_cuda_spectrum(const CudaMixerShape&, const float*, const float*, void*,
                               CUstream_st*) {
  refuse();
}
void hyena_mixer_cuda_forward(const CudaMixerShape&, const void*, const float*, const float*,
                              const void*, void*, void*, CUstream_st*) {
  refuse();
}
void hyena_mixer_cuda_backward(const CudaMixerShape&, const void*, const void*, const float*,
                               const float*, const void*, const CudaMixerGradients&, void*,
                               CUstream_st*) {
  refuse();
}

}  // namespace hyena::kernels
