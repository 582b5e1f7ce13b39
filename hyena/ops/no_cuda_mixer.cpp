// A build without CUDA: no kernel, so the ops take the composed form.
#include <c10/util/Exception.h>

#include "hyena/ops/cuda_mixer.h"

namespace hyena::ops::cuda {

bool supports(const at::Tensor& /*p_BCL*/, const at::Tensor& /*weight_CT*/,
              const at::Tensor& /*h_MDK*/, MixerMode /*mode*/) {
  return false;
}

at::Tensor mixer_forward(const at::Tensor& /*p_BCL*/, const at::Tensor& /*weight_CT*/,
                         const std::optional<at::Tensor>& /*bias_C*/, const at::Tensor& /*h_MDK*/,
                         const std::optional<at::Tensor>& /*skip_MD*/) {
  TORCH_CHECK(false, "hyena was built without CUDA");
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> mixer_backward(
    const at::Tensor& /*dy_BDL*/, const at::Tensor& /*p_BCL*/, const at::Tensor& /*weight_CT*/,
    const std::optional<at::Tensor>& /*bias_C*/, const at::Tensor& /*h_MDK*/,
    const std::optional<at::Tensor>& /*skip_MD*/) {
  TORCH_CHECK(false, "hyena was built without CUDA");
}

}  // namespace hyena::ops::cuda
