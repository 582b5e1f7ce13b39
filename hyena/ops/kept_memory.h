// Memory of large outputs on the CPU, kept from one call to the next.
#pragma once

#include <cstddef>

#include <ATen/core/Tensor.h>

namespace hyena::ops::cpu {

// The default allocator maps an output of megabytes anew in every call: that the system clears its
// pages costs as much as half the kernels' work (bench/results/2026-11-25_cpu-mixer_xeon.md).
// Blocks come on huge pages; freed ones are lent again where three quarters of them or more are
// used, the oldest beyond the limit go back to the system. Any thread may allocate and free.
constexpr std::size_t kLeastBytesKept = std::size_t{1} << 20;
constexpr std::size_t kMostBytesKept = std::size_t{1} << 30;

/// An uninitialised contiguous CPU tensor. Smaller than kLeastBytesKept: as at::empty.
[[nodiscard]] at::Tensor empty_kept(at::IntArrayRef sizes, at::ScalarType type);

/// Bytes of freed blocks that wait for use.
[[nodiscard]] std::size_t bytes_kept();

}  // namespace hyena::ops::cpu
