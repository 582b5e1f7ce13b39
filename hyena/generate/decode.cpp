#include "hyena/generate/decode.h"

#include <algorithm>

#include <torch/torch.h>

#include "hyena/base/error.h"

namespace hyena::generate {
namespace {

void check(const models::ModelConfig& config, const std::vector<std::int64_t>& prompt,
           std::int64_t max_tokens) {
  const auto size = static_cast<std::int64_t>(prompt.size());
  if (size == 0) {
    throw user_error("the prompt is empty, and this tokenizer has no token to start from");
  }
  if (size + max_tokens > config.l_max) {
    throw user_error(
        "the prompt of {} tokens and {} new ones exceed the model's length of {}: shorten the "
        "prompt or ask for at most {} tokens",
        size, max_tokens, config.l_max, std::max<std::int64_t>(0, config.l_max - size));
  }
  for (const std::int64_t id : prompt) {
    if (id < 0 || id >= config.vocab_size) {
      throw user_error("token {} lies outside the model's vocabulary of {}", id, config.vocab_size);
    }
  }
}

/// Length of the forward pass for n tokens. The model is causal, so zeros behind the text change
/// nothing; a new length at every token would make a new FFT plan at every token.
std::int64_t padded_length(const models::ModelConfig& config, std::int64_t n) {
  const std::int64_t unit = 64 * config.num_blocks;
  return std::min((n + unit - 1) / unit * unit, config.l_max);
}

}  // namespace

Stop decode(models::LanguageModel& model, std::vector<std::int64_t> prompt,
            const DecodeOptions& options, const std::function<bool(std::int64_t)>& on_token) {
  const models::ModelConfig& config = model->config();
  check(config, prompt, options.max_tokens);
  const torch::InferenceMode no_grad;
  model->eval();
  const at::Device device = model->parameters().front().device();
  Sampler sampler(options.sampler);
  std::vector<std::int64_t>& ids = prompt;
  for (std::int64_t i = 0; i < options.max_tokens; ++i) {
    const auto n = static_cast<std::int64_t>(ids.size());
    at::Tensor inputs_BL = at::zeros({1, padded_length(config, n)}, at::kLong);
    std::copy(ids.begin(), ids.end(), inputs_BL.mutable_data_ptr<std::int64_t>());
    const at::Tensor last_D = model->hidden(inputs_BL.to(device)).select(0, 0).select(0, n - 1);
    const at::Tensor logits_V =
        model->logits(last_D).narrow(0, 0, config.vocab_size).to(at::kFloat).cpu().contiguous();
    const std::int64_t next = sampler.next(
        {logits_V.const_data_ptr<float>(), static_cast<std::size_t>(logits_V.numel())});
    if (next == options.end_token) {
      return Stop::kEndToken;
    }
    ids.push_back(next);
    if (!on_token(next)) {
      return Stop::kCancelled;
    }
  }
  return Stop::kMaxTokens;
}

}  // namespace hyena::generate
