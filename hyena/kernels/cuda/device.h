// Which devices the kernels of this folder run on.
#pragma once

namespace hyena::kernels::cuda {

/// Capability 9.0, and HYENA_CUDA_PATH is not "generic". False also without a device.
[[nodiscard]] bool has_kernels_for(int device);

}  // namespace hyena::kernels::cuda
