// Choices of the CPU kernels that a measurement made: value, reason, date.
#pragma once

#include <algorithm>
#include <cstdint>

#include "hyena/kernels/gated_conv.h"

namespace hyena::kernels::cpu {

/// Time steps that stream through the gates at once: their rows stay in the first-level cache. A
/// transform with time steps in its lanes needs whole vectors of them. 2026-11-24.
constexpr std::int64_t kBlockSteps = 8;
constexpr std::int64_t kMostBlockSteps = 16;

/// Vectors side by side in a tile of channels, at least and at most. A tile visits L pages of
/// memory per chunk of p, and the hardware prefetcher starts anew on each: at L = 1K packing took
/// 4.1, 3.2, 3.0 and 2.9 cycles of 2.6 GHz per element with 8, 12, 16 and 24 vectors. Prefetching
/// the next rows by instructions made it slower, 4.0 instead of 3.0. 2026-11-24, AVX-512 Xeon in a
/// virtual machine, 4 KiB pages.
constexpr std::int64_t kLeastTileVectors = 8;
constexpr std::int64_t kMostTileVectors = 24;

/// Between the two, as many as keep the packed rows of a tile near the second-level cache (2 MiB
/// there): 3 MiB beat 2 and 4 at L = 4K, forward + backward on two threads. 2026-11-24.
constexpr std::int64_t kTileBytes = 3 << 20;

/// But no more than this: a backward keeps two such tiles per thread.
constexpr std::int64_t kMostTileBytes = 64 << 20;

/// Filters of at most this many taps are summed directly. A multiply-add per tap and output, two
/// per cycle, against the transform's 0.6 to 1 ns per element at L = 256 to 4K. 2026-11-24.
constexpr std::int64_t kMostDirectTaps = 32;

/// Sequences from this length on keep neighbouring time steps in the lanes, not channels: the
/// working set of a transform is then 1 / lanes as large. Forward on two threads, D = 768, ns per
/// element with channels and with time: 4K 1.61, 1.93; 16K 2.94, 2.72; 64K 3.85, 3.56; forward +
/// backward 6.8, 7.8; 11.7, 11.8; 13.9, 13.5. 2026-11-24.
constexpr std::int64_t kTimeLanesFrom = 16384;

/// And from this length on where there are so few channels that half the lanes would stay empty.
/// Forward on one thread, D = 8 with 16 lanes: 1K 11.4, 9.3; 2K 10.8, 7.4; 4K 11.0, 6.7.
/// 2026-11-24.
constexpr std::int64_t kTimeLanesFromFewChannels = 1024;

/// Whether a transform of `shape` keeps neighbouring time steps in its lanes.
inline bool lanes_along_time(const GatedConvShape& shape, std::int64_t lanes) {
  if (lanes == 1 || shape.lane_axis == LaneAxis::kChannel) {
    return false;
  }
  return shape.lane_axis == LaneAxis::kTime || shape.length >= kTimeLanesFrom ||
         (shape.length >= kTimeLanesFromFewChannels && 2 * shape.channels <= lanes);
}

/// Vectors per tile for `groups` vectors of channels, rows of `row_bytes` and transform length N:
/// a tile for each thread at least, where there are enough groups.
constexpr std::int64_t tile_vectors(std::int64_t groups, std::int64_t N, std::int64_t row_bytes,
                                    std::int64_t threads) {
  const std::int64_t cached = kTileBytes / std::max<std::int64_t>(1, N * row_bytes);
  const std::int64_t wanted = std::min(std::clamp(cached, kLeastTileVectors, kMostTileVectors),
                                       kMostTileBytes / std::max<std::int64_t>(1, N * row_bytes));
  return std::max<std::int64_t>(1, std::min(wanted, groups / threads));
}

}  // namespace hyena::kernels::cpu
