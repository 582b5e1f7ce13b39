// Which devices the kernels of this folder run on.
#pragma once

#include <string_view>

namespace hyena::kernels::cuda {

/// Whether HYENA_CUDA_PATH says `name`: "generic" for kernels that run on every device from 8.0 on,
/// "composed" for none.
[[nodiscard]] bool is_path(std::string_view name);

/// Capability 9.0, and HYENA_CUDA_PATH is neither of these. False also without a device.
[[nodiscard]] bool has_kernels_for(int device);

}  // namespace hyena::kernels::cuda
