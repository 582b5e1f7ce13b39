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

/// Spectra that the chunked kernels (L > 8192) keep between their phases. 24 or 48 MiB would stay
/// in the L2, but the launches of so many small groups cost more than the traffic they save:
/// backward at L = 65,536, D = 768, B = 2: 3.56, 2.97, 2.72, 2.38 ms with 24, 48, 120, 800 MiB. 256
/// MiB is a compromise with the memory it takes. 2026-11-24, H200, workbench/cuda/README.md.
constexpr std::size_t kChunkScratchBytes = std::size_t{256} << 20;

/// Rows of up to this many chunks go through one kernel, chunk after chunk; beyond, the spectra of
/// earlier chunks of all teams leave the L2 and three phases win: forward at 4 chunks 0.724 against
/// 0.748 ms, at 8 chunks 1.097 against 0.778. 2026-11-24, H200, workbench/cuda/README.md.
constexpr int kSequentialChunks = 4;

}  // namespace hyena::kernels::cuda
