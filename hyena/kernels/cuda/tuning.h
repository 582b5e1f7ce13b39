// Choices of the CUDA mixer that a measurement could change, each with its reason.
#pragma once

#include <cstdint>

namespace hyena::kernels::cuda {

/// Teams of 8 warps per block of the forward kernel: one computes while the other waits. Two fill
/// the 227 KiB of shared memory. 2026-11-23, shared sketch: 0.332 ms at L = 8192, H200.
constexpr int kForwardTeams = 2;

/// Blocks per multiprocessor for rows of at most 4096 points, of 4 warps forward, of 8 backward.
/// Forward, five (96 registers, x0 past shared memory) take 5 to 10 % longer, six (80) 15 to 23 %:
/// more warps do not fill what the pipes leave (docs/dev/profiling.md). 2026-11-28, H200.
constexpr int kForwardBlocks = 4;
constexpr int kBackwardBlocks = 2;

/// Whether rows in clusters of 2^kLogC blocks sum in fp16 (row_dft): 8 % of the forward with two
/// rows in flight, and fewer spills in the backward. Not with eight blocks: the longest chain of
/// roundings has nothing left to give (docs/math/cuda_numerics.md). 2026-11-27, H200.
template <int kLogC>
constexpr bool kHalfRows = kLogC < 3;

/// Whether the backward in clusters asks for a row's twist and spectrum a phase ahead: 5 % faster
/// with eight blocks (64K 2.21 -> 2.10 ms), 5 % slower with two or four. 2026-11-27, H200.
template <int kLogC>
constexpr bool kPrefetchRows = kLogC == 3;

/// Threads of the blocks that transform one filter of 256 N1 points in float32: 16 points each at
/// 8192, which is one radix-16 pass in registers (2026-11-23, shared sketch). Below,
/// smaller blocks, so that the last ones are a smaller part of all (at 1024 those of D = 768 run at
/// once): spectrum .0135 -> .0110 ms at 1024, .0236 -> .0211 at 4096. 2026-11-28, H200.
template <int kLogN1>
constexpr int kFilterThreads = kLogN1 == 2  ? 128
                               : kLogN1 < 5 ? 256
                                            : 512;

/// Filters of at most so many taps are Toeplitz products (direct_forward.cu), longer ones
/// transforms of the row, whose points are the next power of two from 1024 on, or up to 8 fewer
/// than times. Forward and backward, D = 768, 131,072 tokens, 2026-11-27, H200: 1.24 ms at 128 taps
/// and 1.69 at 256 whatever the length, against 1.32 to 1.36 of the transforms at 2^k <= 8192
/// (5 quarters of it where a fifth of the points is padding), 2.16 and more beyond.
constexpr int direct_taps(std::int64_t length) {
  std::int64_t points = 1024;
  while (points + 8 < length)
    points *= 2;
  return length > 8192 || 4 * points >= 5 * length ? 256 : 128;
}
constexpr int kDirectTaps = 256;  // never more

}  // namespace hyena::kernels::cuda
