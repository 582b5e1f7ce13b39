#include "hyena/nn/operators/aft.h"

#include <limits>
#include <tuple>

#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/nn/affine.h"
#include "hyena/nn/full_precision.h"
#include "hyena/nn/operators/scan.h"

namespace hyena::nn {
namespace {

constexpr double kSmallest = -80.0;  // exp(-80) = 1.8e-35 is still a normal float32
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Logarithms and exponentials in at least float32, time last.
at::Tensor widened(const at::Tensor& x_BLD) {
  const auto type = x_BLD.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return x_BLD.to(type).transpose(1, 2);
}

struct Means {
  at::Tensor s, m;  // (B, D, L): log of the sum of weights, weighted mean of the values
};

/// x in blocks of T positions, padded at the end: (B, D, L) to (B, D, n, T).
at::Tensor blocks_of(const at::Tensor& x_BDL, std::int64_t T, double outside) {
  const std::int64_t L = x_BDL.size(2);
  const std::int64_t n = (L + T - 1) / T;
  return at::constant_pad_nd(x_BDL, {0, n * T - L}, outside).unflatten(2, {n, T});
}

/// Over the position's own block of T and the one before, where lags below T have a bias
/// w_HT[h, lag].
Means near_means(const at::Tensor& k_BDL, const at::Tensor& v_BDL, const at::Tensor& w_HT) {
  const std::int64_t L = k_BDL.size(2);
  const std::int64_t H = w_HT.size(0);
  const std::int64_t T = w_HT.size(1);
  const auto cut = [&](const at::Tensor& x, double outside) {
    const at::Tensor own = blocks_of(x, T, outside);
    const at::Tensor before =
        at::constant_pad_nd(own.narrow(2, 0, own.size(2) - 1), {0, 0, 1, 0}, outside);
    return at::cat({before, own}, -1).unflatten(1, {H, own.size(1) / H});  // (B, H, D/H, n, 2T)
  };
  const at::Tensor k = cut(k_BDL, -kInfinity);
  const at::Tensor largest = std::get<0>(k.detach().max(-1, /*keepdim=*/true));
  const at::Tensor p = at::exp(at::where(at::isinf(k), k, at::clamp_min(k - largest, kSmallest)));

  const auto index = at::TensorOptions(at::kLong).device(w_HT.device());
  const at::Tensor lag = at::arange(T, index).unsqueeze(1) + T - at::arange(2 * T, index);
  const at::Tensor largest_w = at::clamp_min(w_HT.detach().max(), 0.0);
  const at::Tensor bias_HT1 = at::exp(at::constant_pad_nd(w_HT, {0, 1}, 0.0) - largest_w);
  const at::Tensor bias =  // (H, T, 2T); lags from T on share the last bias, which is not learned
      bias_HT1.index_select(1, at::clamp(lag, 0, T).flatten()).unflatten(1, {T, 2 * T});
  const at::Tensor E = at::where(lag >= 0, bias, at::zeros({}, bias.options()));
  const auto sum = [&](const at::Tensor& x) {
    return at::einsum("hij,bhdnj->bhdni", {E, x}).flatten(3, 4).flatten(1, 2).narrow(2, 0, L);
  };
  const at::Tensor total = sum(p);
  const at::Tensor offset = (largest + largest_w).expand({-1, -1, -1, -1, T});
  return {.s = at::log(total) + offset.flatten(3, 4).flatten(1, 2).narrow(2, 0, L),
          .m = sum(p * cut(v_BDL, 0.0)) / total};
}

/// Over the blocks before those two, without bias. The mean of the blocks' means, weighed by their
/// sums, so that the scan is over L/T blocks.
Means far_means(const at::Tensor& k_BDL, const at::Tensor& v_BDL, std::int64_t T) {
  const at::Tensor k = blocks_of(k_BDL, T, -kInfinity);
  const at::Tensor s_BDn = at::logsumexp(k, -1);
  const at::Tensor m_BDn = (at::softmax(k, -1) * blocks_of(v_BDL, T, 0.0)).sum(-1);
  const auto [s, m] = running_mean(s_BDn, m_BDn, at::zeros({k.size(1)}, k.options()));
  const auto spread = [&](const at::Tensor& x, double first) {
    return delayed(x, 2, first)
        .unsqueeze(-1)
        .expand({-1, -1, -1, T})
        .flatten(2, 3)
        .narrow(2, 0, k_BDL.size(2));
  };
  return {.s = spread(s, -kInfinity), .m = spread(m, 0.0)};
}

}  // namespace

AftConvImpl::AftConvImpl(const AftOptions& options) : options_(options) {
  const std::int64_t D = options.d_model;
  if (options.window < 1) {
    throw user_error("aft_window: expected at least 1, got {}", options.window);
  }
  if (options.num_heads < 1 || D % options.num_heads != 0) {
    throw user_error("num_heads: expected a divisor of d_model = {}, got {}", D, options.num_heads);
  }
  q_proj_ = register_module("q_proj", torch::nn::Linear(D, D));
  k_proj_ = register_module("k_proj", torch::nn::Linear(D, D));
  v_proj_ = register_module("v_proj", torch::nn::Linear(D, D));
  out_proj_ = register_module("out_proj", torch::nn::Linear(D, D));
  w_ = register_parameter("w", at::zeros({options.num_heads, options.window}));
}

at::Tensor AftConvImpl::forward(const at::Tensor& u_BLD) {
  const at::Tensor q = affine(q_proj_, u_BLD);
  const at::Tensor k = widened(affine(k_proj_, u_BLD));
  const at::Tensor v = widened(affine(v_proj_, u_BLD));
  Means means;
  {
    const FullPrecision no_autocast;
    means = near_means(k, v, w_);
    if (2 * options_.window < u_BLD.size(1)) {
      const Means far = far_means(k, v, options_.window);
      std::tie(means.s, means.m) = merge_means(far.s, far.m, means.s, means.m);
    }
  }
  return affine(out_proj_, at::sigmoid(q) * means.m.transpose(1, 2).to(q.scalar_type()));
}

AftFullImpl::AftFullImpl(const AftOptions& options) {
  const std::int64_t D = options.d_model;
  q_proj_ = register_module("q_proj", torch::nn::Linear(D, D));
  k_proj_ = register_module("k_proj", torch::nn::Linear(D, D));
  v_proj_ = register_module("v_proj", torch::nn::Linear(D, D));
  out_proj_ = register_module("out_proj", torch::nn::Linear(D, D));
  w_ = register_parameter("w", at::zeros({options.l_max, options.l_max}));
}

at::Tensor AftFullImpl::forward(const at::Tensor& u_BLD) {
  const std::int64_t L = u_BLD.size(1);
  if (L > w_.size(0)) {
    throw user_error("sequence of {} positions is longer than the model's l_max = {}", L,
                     w_.size(0));
  }
  const at::Tensor q = affine(q_proj_, u_BLD);
  const at::Tensor k = widened(affine(k_proj_, u_BLD));
  const at::Tensor v = widened(affine(v_proj_, u_BLD));
  const at::Tensor future =
      at::ones({L, L}, w_.options().dtype(at::kBool).requires_grad(false)).triu(1);
  const at::Tensor w = w_.narrow(0, 0, L).narrow(1, 0, L).masked_fill(future, -kInfinity);
  const at::Tensor E = at::exp(w - std::get<0>(w.detach().max(1, /*keepdim=*/true)));
  const at::Tensor largest = std::get<0>(k.detach().max(-1, /*keepdim=*/true));
  const at::Tensor p = at::exp(at::clamp_min(k - largest, kSmallest));
  at::Tensor m;
  {
    const FullPrecision no_autocast;
    m = at::matmul(p * v, E.t()) / at::matmul(p, E.t());
  }
  return affine(out_proj_, at::sigmoid(q) * m.transpose(1, 2).to(q.scalar_type()));
}

}  // namespace hyena::nn
