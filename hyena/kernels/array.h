// Arrays as the kernels see them: an address, three strides and a storage type.
#pragma once

#include <cstdint>

namespace hyena::kernels {

/// Storage of an array. Arithmetic is in float64 for kFloat64, in float32 for the others.
enum class DataType : std::uint8_t { kFloat32, kFloat64, kBFloat16 };

/// Element (b, c, t) of a (B, C, L) array lies at data[b * batch + c * channel + t * time].
/// Strides count elements. channel == 1 (channels-last, what a linear layer writes) is fastest.
struct Strides {
  std::int64_t batch = 0;
  std::int64_t channel = 0;
  std::int64_t time = 0;
};

struct ConstArray {
  const void* data = nullptr;
  Strides strides;
};

struct Array {
  void* data = nullptr;
  Strides strides;
};

}  // namespace hyena::kernels
