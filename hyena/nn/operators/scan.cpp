#include "hyena/nn/operators/scan.h"

#include <limits>

#include <torch/torch.h>

namespace hyena::nn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Means {
  at::Tensor s, m;
};

/// exp(s2 - s) / (exp(s1 - s) + exp(s2 - s)) without not-a-number for two empty sets.
at::Tensor share_of_second(const at::Tensor& s1, const at::Tensor& s2) {
  return at::sigmoid(at::nan_to_num(s2 - s1, /*nan=*/kInfinity, /*posinf=*/kInfinity,
                                    /*neginf=*/-kInfinity));
}

Means scan_means(const at::Tensor& k, const at::Tensor& v, const at::Tensor& decay_D) {
  const std::int64_t L = k.size(-1);
  const at::Tensor decay = decay_D.unsqueeze(-1);
  Means x{.s = k, .m = v};
  for (std::int64_t step = 1; step < L; step *= 2) {
    const std::int64_t rest = L - step;
    const at::Tensor s1 = x.s.narrow(-1, 0, rest) - decay * static_cast<double>(step);
    const at::Tensor s2 = x.s.narrow(-1, step, rest);
    const at::Tensor m1 = x.m.narrow(-1, 0, rest);
    const at::Tensor m = at::lerp(m1, x.m.narrow(-1, step, rest), share_of_second(s1, s2));
    x = {.s = at::cat({x.s.narrow(-1, 0, step), at::logaddexp(s1, s2)}, -1),
         .m = at::cat({x.m.narrow(-1, 0, step), m}, -1)};
  }
  return x;
}

/// With R_i = sum_{t>=i} exp(s_i - s_t - (t-i) decay) x_t, that is R_i = x_i + a_{i+1} R_{i+1} and
/// a_t = exp(s_{t-1} - decay - s_t) <= 1:
///     dv = exp(k - s) R(dm) ;   dk = v dv + exp(k - s) R(ds - m dm)
///     ddecay = - sum_{b,t} a_t (R(ds - m dm)_t + m_{t-1} R(dm)_t)
class RunningMean : public torch::autograd::Function<RunningMean> {
 public:
  static torch::autograd::variable_list forward(torch::autograd::AutogradContext* context,
                                                const at::Tensor& k, const at::Tensor& v,
                                                const at::Tensor& decay) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const Means means = scan_means(k, v, decay);
    context->save_for_backward({k, v, decay, means.s, means.m});
    return {means.s, means.m};
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor& k = saved[0];
    const at::Tensor& v = saved[1];
    const at::Tensor& decay = saved[2];
    const at::Tensor& s = saved[3];
    const at::Tensor& m = saved[4];
    const at::Tensor ds = gradients[0].defined() ? gradients[0] : at::zeros_like(s);
    const at::Tensor dm = gradients[1].defined() ? gradients[1] : at::zeros_like(m);
    const at::Tensor a =
        at::exp(at::clamp_max(delayed(s, 1, -kInfinity) - decay.unsqueeze(-1) - s, 0.0));
    const at::Tensor next_a =
        at::cat({a.narrow(-1, 1, a.size(-1) - 1), at::zeros_like(a.narrow(-1, 0, 1))}, -1);
    const at::Tensor R = linear_scan(next_a, at::stack({dm, ds - m * dm}), Direction::kBackward);
    const at::Tensor share = at::exp(at::clamp_max(k - s, 0.0));
    const at::Tensor dv = share * R[0];
    const at::Tensor dk = v * dv + share * R[1];
    const at::Tensor ddecay = -(a * (R[1] + delayed(m, 1, 0.0) * R[0])).sum(at::IntArrayRef{0, 2});
    return {dk, dv, ddecay};
  }
};

}  // namespace

at::Tensor delayed(const at::Tensor& x, std::int64_t steps, double first) {
  const std::int64_t L = x.size(-1);
  if (steps >= L) {
    return at::full_like(x, first);
  }
  return at::constant_pad_nd(x.narrow(-1, 0, L - steps), {steps, 0}, first);
}

at::Tensor linear_scan(const at::Tensor& a, const at::Tensor& x, Direction direction) {
  const bool forward = direction == Direction::kForward;
  const std::int64_t L = x.size(-1);
  at::Tensor factor = a;
  at::Tensor y = x;
  for (std::int64_t step = 1; step < L; step *= 2) {
    const std::int64_t rest = L - step;
    const std::int64_t from = forward ? 0 : step;  // the neighbour that is merged in
    const std::int64_t to = forward ? step : 0;
    const at::Tensor kept = factor.narrow(-1, to, rest);
    const at::Tensor merged = y.narrow(-1, to, rest) + kept * y.narrow(-1, from, rest);
    const at::Tensor factors = kept * factor.narrow(-1, from, rest);
    const std::int64_t done = forward ? 0 : rest;  // these have all of their past
    const at::Tensor y_done = y.narrow(-1, done, step);
    const at::Tensor factor_done = factor.narrow(-1, done, step);
    y = forward ? at::cat({y_done, merged}, -1) : at::cat({merged, y_done}, -1);
    factor = forward ? at::cat({factor_done, factors}, -1) : at::cat({factors, factor_done}, -1);
  }
  return y;
}

std::pair<at::Tensor, at::Tensor> running_mean(const at::Tensor& k_BDL, const at::Tensor& v_BDL,
                                               const at::Tensor& decay_D) {
  const auto results = RunningMean::apply(k_BDL, v_BDL, decay_D);
  return {results[0], results[1]};
}

std::pair<at::Tensor, at::Tensor> merge_means(const at::Tensor& s1, const at::Tensor& m1,
                                              const at::Tensor& s2, const at::Tensor& m2) {
  return {at::logaddexp(s1, s2), at::lerp(m1, m2, share_of_second(s1, s2))};
}

at::Tensor linear_attention(const at::Tensor& q_BHLM, const at::Tensor& k_BHLM,
                            const at::Tensor& v_BHLE) {
  constexpr std::int64_t kChunk = 64;
  const std::int64_t L = q_BHLM.size(2);
  const std::int64_t chunks = (L + kChunk - 1) / kChunk;
  const auto cut = [&](const at::Tensor& x) {  // (B, H, L, C) to (B, H, chunks, kChunk, C)
    return at::constant_pad_nd(x, {0, 0, 0, chunks * kChunk - L}).unflatten(2, {chunks, kChunk});
  };
  const at::Tensor q = cut(q_BHLM);
  const at::Tensor k = cut(k_BHLM);
  // The denominator is one more value that is always one.
  const at::Tensor v = cut(at::cat({v_BHLE, at::ones_like(v_BHLE.narrow(-1, 0, 1))}, -1));
  const at::Tensor states = at::matmul(k.transpose(-1, -2), v);  // (B, H, chunks, M, E+1)
  const at::Tensor before =
      at::constant_pad_nd(at::cumsum(states, 2).narrow(2, 0, chunks - 1), {0, 0, 0, 0, 1, 0});
  const at::Tensor inside = at::tril(at::matmul(q, k.transpose(-1, -2)));
  const at::Tensor sums =
      (at::matmul(inside, v) + at::matmul(q, before)).flatten(2, 3).narrow(2, 0, L);
  const std::int64_t E = v_BHLE.size(-1);
  return sums.narrow(-1, 0, E) / (sums.narrow(-1, E, 1) + 1e-6);
}

}  // namespace hyena::nn
