// Choices of the CUDA mixer that a measurement could change, each with its reason.
#pragma once

#include <cstddef>

namespace hyena::kernels::cuda {

/// Teams of 8 warps per block of the forward kernel: one computes while the other waits. Two fill
/// the 227 KiB of shared memory. 2026-11-23, shared sketch: 0.332 ms at L = 8192, H200.
constexpr int kForwardTeams = 2;
constexpr int kTeamThreads = 256;

/// Threads of the blocks that transform one filter in float32: 16 points each at 8192, which is
/// one radix-16 pass in registers. 2026-11-23, shared sketch (second backward kernel).
constexpr int kFilterThreads = 512;

/// Scratch that the chunked kernels (L > 8192) fill before they drain it. It must stay in the L2
/// (50 MB on an H100, 60 MB on an H200) beside what streams through. Not yet tuned: 2026-11-24.
constexpr std::size_t kChunkScratchBytes = std::size_t{24} << 20;

}  // namespace hyena::kernels::cuda
