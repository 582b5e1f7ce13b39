// Choices of the CUDA mixer that a measurement could change, each with its reason.
#pragma once

namespace hyena::kernels::cuda {

/// Teams of 8 warps per block of the forward kernel: one computes while the other waits. Two fill
/// the 227 KiB of shared memory. 2026-11-23, shared sketch: 0.332 ms at L = 8192, H200.
constexpr int kForwardTeams = 2;
constexpr int kTeamThreads = 256;

/// Threads of the blocks that transform one filter in float32: 16 points each at 8192, which is
/// one radix-16 pass in registers. 2026-11-23, shared sketch (second backward kernel).
constexpr int kFilterThreads = 512;

}  // namespace hyena::kernels::cuda
