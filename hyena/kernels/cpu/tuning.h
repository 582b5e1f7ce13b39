// Choices of the CPU kernels that a measurement made: value, reason, date.
#pragma once

#include <algorithm>
#include <cstdint>

namespace hyena::kernels::cpu {

/// Time steps that stream through the gates at once: their rows and the short convolutions' fit L1.
constexpr std::int64_t kBlockSteps = 32;

/// Vectors side by side in a tile of channels. Rows of memory are read this wide: four AVX-512
/// vectors are 256 bytes of each time step.
constexpr std::int64_t kTileVectors = 4;

/// A tile keeps this many signals' bytes at most, so that they wait in the second-level cache.
constexpr std::int64_t kTileBytes = 1 << 20;

/// Vectors per tile for `groups` vectors of channels, rows of `row_bytes` and transform length N.
constexpr std::int64_t tile_vectors(std::int64_t groups, std::int64_t N, std::int64_t row_bytes) {
  const std::int64_t cached = kTileBytes / std::max<std::int64_t>(1, N * row_bytes);
  return std::clamp<std::int64_t>(std::min(cached, groups / 4), 1, kTileVectors);
}

}  // namespace hyena::kernels::cpu
