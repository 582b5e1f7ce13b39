#include "hyena/eval/perplexity.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include <torch/torch.h>

#include "hyena/base/error.h"

namespace hyena::eval {
namespace {

struct Sums {
  double nll = 0.0;
  std::int64_t correct = 0;
};

/// Of the given rows (n, D), as many at a time as keep the logits within 256 MiB.
Sums score_rows(models::LanguageModel& model, const at::Tensor& hidden_ND,
                const at::Tensor& targets_N) {
  constexpr std::int64_t kChunkElements = 64 << 20;
  const models::ModelConfig& config = model->config();
  const std::int64_t chunk = std::max<std::int64_t>(1, kChunkElements / config.padded_vocab_size());
  at::Tensor sums = at::zeros({2}, hidden_ND.options().dtype(at::kDouble));
  for (std::int64_t begin = 0; begin < hidden_ND.size(0); begin += chunk) {
    const std::int64_t rows = std::min(chunk, hidden_ND.size(0) - begin);
    const at::Tensor target = targets_N.narrow(0, begin, rows);
    const at::Tensor logits = model->logits(hidden_ND.narrow(0, begin, rows))
                                  .narrow(1, 0, config.vocab_size)
                                  .to(at::kFloat);
    const at::Tensor nll =
        at::logsumexp(logits, 1) - logits.gather(1, target.unsqueeze(1)).squeeze(1);
    const at::Tensor correct = logits.argmax(1).eq(target);
    sums += at::stack({nll.sum(at::kDouble), correct.sum().to(at::kDouble)});
  }
  const at::Tensor host = sums.cpu();
  return {.nll = host[0].item<double>(),
          .correct = static_cast<std::int64_t>(host[1].item<double>())};
}

class EvaluationMode {
 public:
  explicit EvaluationMode(models::LanguageModel& model)
      : model_(model), was_training_(model->is_training()) {
    model_->eval();
  }
  ~EvaluationMode() { model_->train(was_training_); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  models::LanguageModel& model_;
  bool was_training_;
};

}  // namespace

double Score::perplexity() const {
  return std::exp(nll);
}

double Score::bits_per_byte(std::int64_t bytes) const {
  return nll * static_cast<double>(tokens) / (static_cast<double>(bytes) * std::numbers::ln2);
}

Score score(models::LanguageModel& model, const data::EvalWindows& windows,
            const ScoreOptions& options) {
  const torch::InferenceMode no_grad;
  const EvaluationMode evaluation(model);
  const at::Device device = model->parameters().front().device();
  const std::int64_t L = model->config().l_max;
  const std::int64_t total =
      options.max_windows > 0 ? std::min(options.max_windows, windows.size()) : windows.size();
  Score result;
  Sums sums;
  for (std::int64_t first = 0; first < total; first += options.batch_size) {
    const std::int64_t count = std::min(options.batch_size, total - first);
    at::Tensor inputs_BL = at::empty({count, L}, at::kLong);
    at::Tensor targets_BL = at::empty({count, L}, at::kLong);
    windows.fill(first, count, inputs_BL.mutable_data_ptr<std::int64_t>(),
                 targets_BL.mutable_data_ptr<std::int64_t>());
    const std::int64_t largest =
        std::max(inputs_BL.max().item<std::int64_t>(), targets_BL.max().item<std::int64_t>());
    if (largest >= model->config().vocab_size) {
      throw user_error("token {} lies beyond the model's vocabulary of {}", largest,
                       model->config().vocab_size);
    }
    const at::Tensor flat = targets_BL.flatten();
    const at::Tensor rows = flat.ne(data::EvalWindows::kIgnored).nonzero().squeeze(1);
    const at::Tensor hidden_ND =
        model->hidden(inputs_BL.to(device)).flatten(0, 1).index_select(0, rows.to(device));
    const Sums batch = score_rows(model, hidden_ND, flat.index_select(0, rows).to(device));
    sums.nll += batch.nll;
    sums.correct += batch.correct;
    result.tokens += rows.size(0);
    if (options.progress) {
      options.progress(first + count, total);
    }
  }
  const auto tokens = static_cast<double>(result.tokens);
  result.nll = sums.nll / tokens;
  result.accuracy = static_cast<double>(sums.correct) / tokens;
  return result;
}

}  // namespace hyena::eval
