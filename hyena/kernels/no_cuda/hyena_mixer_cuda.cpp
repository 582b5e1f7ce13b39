// A build without CUDA supports nothing, and says so to those who did not ask.
#include "hyena/kernels/hyena_mixer_cuda.h"

#include "hyena/base/error.h"
#include "hyena/kernels/mixer_cuda_generic.h"

namespace hyena::kernels {
namespace {

[[noreturn]] void refuse() {
  throw RunError(
      "this build has no CUDA kernels: configure with HYENA_CUDA=ON (scripts/build cuda)");
}

}  // namespace

bool hyena_mixer_cuda_supports(const CudaMixerShape& /*shape*/, int /*device*/) {
  return false;
}
bool hyena_mixer_cuda_is_toeplitz(const CudaMixerShape& /*shape*/) {
  return false;
}
std::size_t hyena_mixer_cuda_spectrum_bytes(const CudaMixerShape& /*shape*/) {
  refuse();
}
std::size_t hyena_mixer_cuda_forward_workspace(const CudaMixerShape& /*shape*/) {
  refuse();
}
std::size_t hyena_mixer_cuda_backward_workspace(const CudaMixerShape& /*shape*/) {
  refuse();
}
void hyena_mixer_cuda_spectrum(const CudaMixerShape& /*shape*/, const float* /*h_DK*/,
                               const float* /*skip_D*/, void* /*spectrum*/,
                               CUstream_st* /*stream*/) {
  refuse();
}
void hyena_mixer_cuda_forward(const CudaMixerShape& /*shape*/, const void* /*p*/,
                              const float* /*weight*/, const float* /*bias*/,
                              const void* /*spectrum*/, void* /*y*/, void* /*workspace*/,
                              CUstream_st* /*stream*/) {
  refuse();
}
void hyena_mixer_cuda_backward(const CudaMixerShape& /*shape*/, const void* /*dy*/,
                               const void* /*p*/, const float* /*weight*/, const float* /*bias*/,
                               const void* /*spectrum*/, const CudaMixerGradients& /*gradients*/,
                               void* /*workspace*/, CUstream_st* /*stream*/) {
  refuse();
}

bool hyena_mixer_cuda_generic_supports(const CudaMixerShape& /*shape*/, int /*device*/) {
  return false;
}
std::size_t hyena_mixer_cuda_generic_spectrum_bytes(const CudaMixerShape& /*shape*/) {
  refuse();
}
std::size_t hyena_mixer_cuda_generic_forward_workspace(const CudaMixerShape& /*shape*/) {
  refuse();
}
std::size_t hyena_mixer_cuda_generic_backward_workspace(const CudaMixerShape& /*shape*/) {
  refuse();
}
void hyena_mixer_cuda_generic_spectrum(const CudaMixerShape& /*shape*/, const float* /*h_DK*/,
                                       const float* /*skip_D*/, const float* /*reverse_DK*/,
                                       void* /*spectrum*/, CUstream_st* /*stream*/) {
  refuse();
}
void hyena_mixer_cuda_generic_forward(const CudaMixerShape& /*shape*/, const void* /*p*/,
                                      const float* /*weight*/, const float* /*bias*/,
                                      const void* /*spectrum*/, void* /*y*/, void* /*workspace*/,
                                      CUstream_st* /*stream*/) {
  refuse();
}
void hyena_mixer_cuda_generic_backward(const CudaMixerShape& /*shape*/, const void* /*dy*/,
                                       const void* /*p*/, const float* /*weight*/,
                                       const float* /*bias*/, const void* /*spectrum*/,
                                       const CudaMixerGradients& /*gradients*/,
                                       float* /*dreverse_DK*/, void* /*workspace*/,
                                       CUstream_st* /*stream*/) {
  refuse();
}

}  // namespace hyena::kernels
