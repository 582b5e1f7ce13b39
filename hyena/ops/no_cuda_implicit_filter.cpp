// A build without CUDA: no kernel, so the op takes the composed form.
#include <c10/util/Exception.h>

#include "hyena/ops/cuda_implicit_filter.h"

namespace hyena::ops::cuda {

bool supports_filter(const at::Tensor& /*z_KE*/, at::TensorList /*weights*/,
                     const FilterWindow& /*window*/) {
  return false;
}

at::Tensor implicit_filter(const at::Tensor& /*z_KE*/, at::TensorList /*weights*/,
                           at::TensorList /*biases*/, const at::Tensor& /*freq_W*/,
                           const FilterWindow& /*window*/, std::int64_t /*M*/,
                           ChannelLayout /*layout*/) {
  TORCH_CHECK(false, "hyena was built without CUDA");
}

composed::ImplicitFilterGradients implicit_filter_backward(
    const at::Tensor& /*dh_MDK*/, const at::Tensor& /*z_KE*/, at::TensorList /*weights*/,
    at::TensorList /*biases*/, const at::Tensor& /*freq_W*/, const FilterWindow& /*window*/,
    std::int64_t /*M*/, ChannelLayout /*layout*/) {
  TORCH_CHECK(false, "hyena was built without CUDA");
}

}  // namespace hyena::ops::cuda
