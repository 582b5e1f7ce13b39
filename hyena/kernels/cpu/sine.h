// The sine of the C++ library, for arguments that the vector form does not reduce.
#pragma once

#include <cstdint>

namespace hyena::kernels::cpu {

/// sin[i], cos[i] of x[i] to half a unit in the last place. Neither output may be x.
void library_sine(const float* x, std::int64_t count, float* sin, float* cos);

}  // namespace hyena::kernels::cpu
