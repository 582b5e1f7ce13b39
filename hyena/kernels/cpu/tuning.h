// Choices of the CPU kernels that a measurement made: value, reason, date.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "hyena/kernels/gated_conv.h"

namespace hyena::kernels::cpu {

/// Time steps that stream through the gates at once: their rows stay in the first-level cache. A
/// transform with time steps in its lanes needs whole vectors of them. 2026-11-24.
constexpr std::int64_t kBlockSteps = 8;
constexpr std::int64_t kMostBlockSteps = 16;

/// Time steps packed or unpacked at once where they are adjacent in memory: a block of them would
/// touch a page per channel for half a cache line, and lines of many channels share few cache sets.
/// 2026-11-27.
constexpr std::int64_t kSpanSteps = 64;

/// Vectors side by side in a tile of channels, at most. A tile visits L pages of memory per chunk
/// of p, and the hardware prefetcher starts anew on each. Forward + backward on two threads, D =
/// 768, ns per element with 8, 12 and 24 vectors: 1K 8.1, 7.4, 6.5; 4K 9.1, 8.5, 8.1; 16K 13.0,
/// 12.2, 11.8; 64K 13.3, 12.8, 11.7. That the packed rows of a tile leave the second-level cache
/// (2 MiB) costs less than short runs. Prefetching the next rows by instructions made it slower.
/// 2026-11-25, AVX-512 Xeon in a virtual machine, 4 KiB pages.
constexpr std::int64_t kMostTileVectors = 24;

/// But no more than this: a backward keeps two such tiles per thread.
constexpr std::int64_t kMostTileBytes = 96 << 20;

/// Tiles above this are packed past the caches where time steps lie in the lanes: the stores touch
/// a line of every channel in turn. Forward + backward: 16K 13.4 to 12.7 ns, 64K 14.8 to 13.3; with
/// channels in the lanes, whose stores are sequential, 3 to 10 % slower. 2026-11-25.
constexpr std::int64_t kCachedTileBytes = 1 << 20;

/// Vectors of a tile of the short convolution alone, which packs nothing.
constexpr std::int64_t kShortConvVectors = 8;

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

/// Points of the transform for filters so much shorter than the sequence that windows of it, each
/// repeating as much of the one before as the filter reaches back, cost less than a transform of
/// the whole; 0: none. Forward / forward + backward on two threads, D = 768, ns per element whole
/// and in windows: L = 64K, K = 64 6.0 / 20.7, 2.8 / 8.4; K = 256 6.6 / 16.7, 2.5 / 10.7; K = 1024
/// 5.4 / 19.9, 5.0 / 11.8; 16K 5.0 / 17.3, 2.4 / 8.9; 3.9 / 14.7, 3.3 / 10.5; 4.4 / 20.0, 5.4 /
/// 15.1; 4K no difference. With 8192 points no gain (K = 2048 at 64K 5.3 / 18.4, 5.3 / 16.2).
/// 2026-11-27, a busy machine.
constexpr std::int64_t kLeastWindow = 2048;
constexpr std::int64_t kMostWindow = 4096;
inline std::int64_t window_size(const GatedConvShape& shape, std::int64_t lanes) {
  if (shape.lane_axis == LaneAxis::kTime || 2 * shape.channels <= lanes) {
    return 0;
  }
  const auto taps = static_cast<std::uint64_t>(shape.filter_length);
  const std::int64_t size =
      std::max(kLeastWindow, static_cast<std::int64_t>(std::bit_ceil(4 * taps)));
  return size <= kMostWindow && 4 * size <= shape.length ? size : 0;
}

/// Vectors per tile for `groups` vectors of channels, rows of `row_bytes` and transform length N:
/// the same number of tiles for each thread where that is possible, one at least.
constexpr std::int64_t tile_vectors(std::int64_t groups, std::int64_t N, std::int64_t row_bytes,
                                    std::int64_t threads) {
  const auto parts = [](std::int64_t n, std::int64_t size) { return (n + size - 1) / size; };
  const std::int64_t most = std::clamp<std::int64_t>(
      kMostTileBytes / std::max<std::int64_t>(1, N * row_bytes), 1, kMostTileVectors);
  const std::int64_t tiles = parts(parts(groups, most), threads) * threads;
  const std::int64_t even = parts(groups, std::max<std::int64_t>(1, tiles));
  return std::max<std::int64_t>(
      1, parts(groups, std::max<std::int64_t>(1, even)) >= threads ? even : groups / threads);
}

}  // namespace hyena::kernels::cpu
