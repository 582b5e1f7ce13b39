// Choices of the CPU kernels that a measurement made: value, reason, date.
#pragma once

#include <algorithm>
#include <cstdint>

namespace hyena::kernels::cpu {

/// Time steps that stream through the gates at once. Eight rows of three chunks of p share the sets
/// of the first-level cache even where D is a power of two. 2026-11-24.
constexpr std::int64_t kBlockSteps = 8;

/// Vectors side by side in a tile of channels, at least and at most. A tile visits L pages of
/// memory per chunk of p, and a page walk costs as much as 512 bytes: 4 vectors (256 bytes of each
/// step) read 7 GB/s, 8 to 16 read 11 GB/s. 2026-11-24, AVX-512 Xeon in a virtual machine, 4 KiB
/// pages.
constexpr std::int64_t kLeastTileVectors = 4;
constexpr std::int64_t kMostTileVectors = 16;

/// Between the two, as many as keep the packed rows of a tile near the second-level cache (2 MiB
/// there): 4 MiB beat 2 and 8 at L = 4K, 2026-11-24.
constexpr std::int64_t kTileBytes = 4 << 20;

/// Tiles of all channels at least, where the least width allows it, so that threads share the work.
constexpr std::int64_t kLeastTiles = 4;

/// Filters of at most this many taps are summed directly. A multiply-add per tap and output, two
/// per cycle, against the transform's 0.6 to 1 ns per element at L = 256 to 4K. 2026-11-24.
constexpr std::int64_t kMostDirectTaps = 32;

/// Vectors per tile for `groups` vectors of channels, rows of `row_bytes` and transform length N.
constexpr std::int64_t tile_vectors(std::int64_t groups, std::int64_t N, std::int64_t row_bytes) {
  const std::int64_t cached = kTileBytes / std::max<std::int64_t>(1, N * row_bytes);
  const std::int64_t wanted = std::clamp(cached, kLeastTileVectors, kMostTileVectors);
  return std::max<std::int64_t>(1, std::min(wanted, groups / kLeastTiles));
}

}  // namespace hyena::kernels::cpu
