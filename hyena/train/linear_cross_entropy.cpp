#include "hyena/train/linear_cross_entropy.h"

#include <algorithm>

#include <torch/csrc/autograd/custom_function.h>
#include <torch/torch.h>

namespace hyena::train {
namespace {

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& hidden_ND,
                            const at::Tensor& weight_VD, const at::Tensor& targets_N,
                            std::int64_t rows_per_chunk) {
    const std::int64_t n = hidden_ND.size(0);
    const bool is_double = hidden_ND.scalar_type() == at::kDouble;
    const at::ScalarType dtype = is_double ? at::kDouble : at::kFloat;
    at::Tensor loss = at::zeros({}, hidden_ND.options().dtype(dtype));
    at::Tensor dhidden_ND = at::empty_like(hidden_ND);
    at::Tensor dweight_VD = at::zeros_like(weight_VD);
    for (std::int64_t begin = 0; begin < n; begin += rows_per_chunk) {
      const std::int64_t rows = std::min(rows_per_chunk, n - begin);
      const at::Tensor h = hidden_ND.narrow(0, begin, rows);
      const at::Tensor target = targets_N.narrow(0, begin, rows).unsqueeze(1);
      const at::Tensor logits = at::linear(h, weight_VD);
      at::Tensor p = at::log_softmax(logits, /*dim=*/1, dtype);
      loss -= p.gather(1, target).sum();
      p.exp_();
      p.scatter_add_(1, target, at::full_like(target, -1, p.options()));
      p.mul_(1.0 / static_cast<double>(n));
      const at::Tensor dlogits = p.to(logits.scalar_type());
      dhidden_ND.narrow(0, begin, rows).copy_(at::matmul(dlogits, weight_VD));
      dweight_VD += at::matmul(dlogits.t(), h);
    }
    context->save_for_backward({dhidden_ND, dweight_VD});
    return loss.div_(static_cast<double>(n));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& dloss) {
    const auto saved = context->get_saved_variables();
    const auto scaled = [&](const at::Tensor& x) { return x * dloss[0].to(x.scalar_type()); };
    return {scaled(saved[0]), scaled(saved[1]), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor linear_cross_entropy(const at::Tensor& hidden_ND, const at::Tensor& weight_VD,
                                const at::Tensor& targets_N, std::int64_t rows_per_chunk) {
  constexpr std::int64_t kChunkElements = 64 << 20;
  const std::int64_t fitting = std::max<std::int64_t>(1, kChunkElements / weight_VD.size(0));
  return LinearCrossEntropy::apply(hidden_ND, weight_VD, targets_N,
                                   rows_per_chunk > 0 ? rows_per_chunk : fitting);
}

}  // namespace hyena::train
