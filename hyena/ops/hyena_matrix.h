/// @file
/// The data-controlled matrix of the operator, materialised.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "hyena/ops/hyena_mixer.h"

namespace hyena::ops {

/// H(u) of Poli et al. 2023, section 3.2: y = H(u) v for every batch row and channel.
///
///     paper    H = D_{x^N} S_N ... D_{x^1} S_1
///     safari   H = D_{x_0} S_{N-2} D_{x_1} ... S_0 D_{x_{N-1}}
///
/// with D the diagonal matrix of a gate and S_o the lower-triangular Toeplitz matrix of a filter,
/// its skip on the diagonal.
///
/// @param q_BCL    Projections **after** the short convolution, shape (B, (N+1) D, L); the last
///                 chunk, v, is not used.
/// @param h_MDK    As in hyena_mixer.
/// @param skip_MD  As in hyena_mixer.
/// @return shape (B, D, L, L), rows are output positions; lower triangular. For small L: it takes
///   B D L^2 values and B D M L^3 FLOP.
[[nodiscard]] at::Tensor hyena_matrix(const at::Tensor& q_BCL, const at::Tensor& h_MDK,
                                      const std::optional<at::Tensor>& skip_MD = std::nullopt,
                                      MixerMode mode = MixerMode::kSafari);

/// S[d,t,s] = h[d,t-s] for 0 <= t-s < K, else 0: shape (D, L, L).
[[nodiscard]] at::Tensor toeplitz_matrix(const at::Tensor& h_DK, std::int64_t L);

}  // namespace hyena::ops
