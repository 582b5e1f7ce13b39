#include "hyena/sweep/score.h"

#include <algorithm>

#include <torch/torch.h>

#include "hyena/train/autocast.h"

namespace hyena::sweep {

Score score_of(models::LanguageModel& model, const TaskData& data, const at::Tensor& set_NT,
               const TrainOptions& options) {
  const torch::NoGradGuard no_grad;
  const std::int64_t N = set_NT.size(0);
  const std::int64_t L = set_NT.size(1) - 1;
  const std::int64_t first = data.first_trained();
  const std::int64_t scored = data.first_scored() - first;
  const auto sums = at::TensorOptions(at::kDouble).device(set_NT.device());
  at::Tensor right_T = at::zeros({L - first}, sums);
  at::Tensor loss = at::zeros({}, sums);
  at::Tensor whole_rows = at::zeros({}, sums);
  model->eval();
  for (std::int64_t i = 0; i < N; i += options.micro_batch()) {
    const at::Tensor rows_BT =
        set_NT.narrow(0, i, std::min(options.micro_batch(), N - i)).to(at::kLong);
    const at::Tensor targets = rows_BT.narrow(1, first + 1, L - first);
    at::Tensor logits;
    {
      const train::Autocast autocast(options.precision, set_NT.device());
      logits = model->logits(model->hidden(rows_BT.narrow(1, 0, L)).narrow(1, first, L - first));
    }
    logits = logits.to(at::kFloat);
    const at::Tensor right = logits.argmax(-1) == targets;
    right_T += right.sum(0);
    whole_rows += right.narrow(1, scored, L - first - scored).all(1).sum();
    loss += at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten(), {}, at::Reduction::Sum);
  }
  model->train();
  const auto rows = static_cast<double>(N);
  right_T = (right_T / rows).cpu();
  return {.loss = loss.item<double>() / (rows * static_cast<double>(L - first)),
          .accuracy = right_T.narrow(0, scored, L - first - scored).mean().item<double>(),
          .row_accuracy = whole_rows.item<double>() / rows,
          .right_T = right_T};
}

void add_positions(io::Json& result, const Score& score, const TaskData& data) {
  const at::Tensor& right_T = score.right_T;
  const std::int64_t first = data.first_trained();
  const std::int64_t count = right_T.size(0);
  const std::int64_t bins = std::min<std::int64_t>(32, count);
  io::Json positions = io::Json::array();
  for (std::int64_t bin = 0; bin < bins; ++bin) {
    const std::int64_t begin = count * bin / bins;
    const std::int64_t end = count * (bin + 1) / bins;
    positions.push_back(
        {{"begin", first + begin},
         {"end", first + end},
         {"accuracy", right_T.narrow(0, begin, end - begin).mean().item<double>()}});
  }
  result["position_accuracy"] = positions;
  const std::int64_t scored = data.first_scored() - first;
  if (count - scored <= 64) {
    io::Json exact = io::Json::array();
    for (std::int64_t t = scored; t < count; ++t) {
      exact.push_back(right_T[t].item<double>());
    }
    result["scored_accuracy"] = exact;
  }
}

}  // namespace hyena::sweep
