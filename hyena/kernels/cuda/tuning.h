// Choices of the CUDA mixer that a measurement could change, each with its reason.
#pragma once

namespace hyena::kernels::cuda {

/// Teams of 8 warps per block of the forward kernel: one computes while the other waits. Two fill
/// the 227 KiB of shared memory. 2026-11-23, shared sketch: 0.332 ms at L = 8192, H200.
constexpr int kForwardTeams = 2;
constexpr int kTeamThreads = 256;

/// Whether rows in clusters of 2^kLogC blocks sum in fp16 (row_dft): 4 % of the forward, and fewer
/// spills in the backward. Not with eight blocks: the longest chain of roundings has nothing left
/// to give (docs/math/cuda_numerics.md). 2026-11-27, H200.
template <int kLogC>
constexpr bool kHalfRows = kLogC < 3;

/// Whether the backward in clusters asks for a row's twist and spectrum a phase ahead: 5 % faster
/// with eight blocks (64K 2.21 -> 2.10 ms), 5 % slower with two or four. 2026-11-27, H200.
template <int kLogC>
constexpr bool kPrefetchRows = kLogC == 3;

/// Threads of the blocks that transform one filter in float32: 16 points each at 8192, which is
/// one radix-16 pass in registers. 2026-11-23, shared sketch (second backward kernel).
constexpr int kFilterThreads = 512;

}  // namespace hyena::kernels::cuda
