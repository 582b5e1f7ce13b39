// A build without CUDA: no kernel, so the ops take the composed form.
#include <c10/util/Exception.h>

#include "hyena/ops/cuda_mixer.h"

namespace hyena::ops::cuda {

using OptionalTensor = std::optional<at::Tensor>;

bool supports(const at::Tensor& /*p_BCL*/, const at::Tensor& /*h_MDK*/, bool /*both_ways*/) {
  return false;
}

std::string path_of(const at::Tensor& /*p_BCL*/, const at::Tensor& /*h_MDK*/) {
  TORCH_CHECK(false, "hyena was built without CUDA");
}

at::Tensor mixer_forward(const at::Tensor& /*p_BCL*/, const at::Tensor& /*weight_CT*/,
                         const OptionalTensor& /*bias_C*/, const at::Tensor& /*h_MDK*/,
                         const OptionalTensor& /*skip_MD*/, MixerMode /*mode*/,
                         const PreparedFilters* /*kept*/) {
  TORCH_CHECK(false, "hyena was built without CUDA");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> mixer_backward(
    const at::Tensor& /*dy_BDL*/, const at::Tensor& /*p_BCL*/, const at::Tensor& /*weight_CT*/,
    const OptionalTensor& /*bias_C*/, const at::Tensor& /*h_MDK*/,
    const OptionalTensor& /*skip_MD*/, MixerMode /*mode*/) {
  TORCH_CHECK(false, "hyena was built without CUDA");
}

at::Tensor long_conv_forward(const at::Tensor& /*u_BDL*/, const at::Tensor& /*h_DK*/,
                             const OptionalTensor& /*skip_D*/,
                             const OptionalTensor& /*reverse_DK*/) {
  TORCH_CHECK(false, "hyena was built without CUDA");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> long_conv_backward(
    const at::Tensor& /*dy_BDL*/, const at::Tensor& /*u_BDL*/, const at::Tensor& /*h_DK*/,
    const OptionalTensor& /*skip_D*/, const OptionalTensor& /*reverse_DK*/) {
  TORCH_CHECK(false, "hyena was built without CUDA");
}

}  // namespace hyena::ops::cuda
