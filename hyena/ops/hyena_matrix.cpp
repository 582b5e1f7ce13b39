#include "hyena/ops/hyena_matrix.h"

#include <ATen/ATen.h>

#include "hyena/ops/check.h"

namespace hyena::ops {

at::Tensor toeplitz_matrix(const at::Tensor& h_DK, std::int64_t L) {
  check_shape("toeplitz_matrix", "h", h_DK, {{"D", kAny}, {"K", kAny}});
  const std::int64_t K = h_DK.size(1);
  const at::Tensor t = at::arange(L, h_DK.options().dtype(at::kLong));
  const at::Tensor lag = t.unsqueeze(1) - t.unsqueeze(0);
  const at::Tensor inside = (lag >= 0).logical_and(lag < K);
  const at::Tensor values = h_DK.index_select(1, lag.clamp(0, K - 1).view(-1)).view({-1, L, L});
  return values * inside.to(h_DK.scalar_type());
}

at::Tensor hyena_matrix(const at::Tensor& q_BCL, const at::Tensor& h_MDK,
                        const std::optional<at::Tensor>& skip_MD, MixerMode mode) {
  check_shape("hyena_matrix", "h", h_MDK, {{"M", kAny}, {"D", kAny}, {"K", kAny}});
  const std::int64_t M = h_MDK.size(0);
  const std::int64_t D = h_MDK.size(1);
  const std::int64_t N = mode == MixerMode::kSafari ? M + 1 : M;
  check_shape("hyena_matrix", "q", q_BCL, {{"B", kAny}, {"C", (N + 1) * D}, {"L", kAny}});
  const std::int64_t L = q_BCL.size(2);
  const auto gates = q_BCL.to(h_MDK.scalar_type()).split(D, /*dim=*/1);
  const auto diagonal = [&](std::int64_t i) {
    return at::diag_embed(gates[static_cast<std::size_t>(i)]);  // (B, D, L, L)
  };
  at::Tensor H = at::eye(L, h_MDK.options()).expand({q_BCL.size(0), D, L, L});
  for (std::int64_t o = 0; o < M; ++o) {
    at::Tensor S = toeplitz_matrix(h_MDK[o], L);
    if (skip_MD) {
      S = S + at::diag_embed(skip_MD->select(0, o).unsqueeze(-1).expand({D, L}));
    }
    H = mode == MixerMode::kSafari ? S.matmul(diagonal(N - 1 - o).matmul(H))
                                   : diagonal(o).matmul(S.matmul(H));
  }
  return mode == MixerMode::kSafari ? diagonal(0).matmul(H) : H;
}

}  // namespace hyena::ops
