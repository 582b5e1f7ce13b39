// Causal sums by scans: O(L log L) work in log2(L) parallel steps, nothing of size L x L.
#pragma once

#include <cstdint>
#include <utility>

#include <ATen/core/Tensor.h>

namespace hyena::nn {

/// y[t] = x[t] + a[t] y[t-1], y[-1] = 0, along the last axis (reversed: y[t] = x[t] + a[t] y[t+1]).
/// No autograd; |a| <= 1 keeps every intermediate bounded by the result.
enum class Direction : std::uint8_t { kForward, kBackward };
[[nodiscard]] at::Tensor linear_scan(const at::Tensor& a, const at::Tensor& x, Direction direction);

/// The running average of v with weights exp(k), older ones fading by exp(-decay) per step:
///
///     s[t] = log sum_{i<=t} exp(k[i] - (t-i) decay)
///     m[t] = sum_{i<=t} exp(k[i] - (t-i) decay - s[t]) v[i]
///
/// @param k_BDL    Logarithms of the weights, shape (B, D, L), any magnitude.
/// @param v_BDL    Values, same shape.
/// @param decay_D  At least 0, shape (D).
/// @return {s, m}, both (B, D, L). Only exponentials of differences <= 0 are formed: nothing
///   overflows, and the past does not depend on the future even in rounding.
///
/// Differentiable once in all three; the backward is two linear scans of the other direction.
/// Method: pairs (s, m) are merged associatively (Hillis and Steele).
[[nodiscard]] std::pair<at::Tensor, at::Tensor> running_mean(const at::Tensor& k_BDL,
                                                             const at::Tensor& v_BDL,
                                                             const at::Tensor& decay_D);

/// Two averages of disjoint sets as one: log weights s and means m. A log weight of -inf is an
/// empty set; both empty gives m2.
[[nodiscard]] std::pair<at::Tensor, at::Tensor> merge_means(const at::Tensor& s1,
                                                            const at::Tensor& m1,
                                                            const at::Tensor& s2,
                                                            const at::Tensor& m2);

/// `x` one step later on its last axis: `first` before the beginning.
[[nodiscard]] at::Tensor delayed(const at::Tensor& x, std::int64_t steps, double first);

/// Causal linear attention in chunks of 64 (PAPER 7.2):
///
///     y[t] = sum_{s<=t} (q[t] . k[s]) v[s]  /  (sum_{s<=t} q[t] . k[s] + 1e-6)
///
/// @param q_BHLM, k_BHLM  Features, shape (B, H, L, M), meant to be positive.
/// @param v_BHLE          Values, shape (B, H, L, E).
/// @return y, shape (B, H, L, E). Cost O(L (64 + M) E) per head, memory one (M, E+1) state per
///   chunk. Composed of differentiable operations.
[[nodiscard]] at::Tensor linear_attention(const at::Tensor& q_BHLM, const at::Tensor& k_BHLM,
                                          const at::Tensor& v_BHLE);

}  // namespace hyena::nn
