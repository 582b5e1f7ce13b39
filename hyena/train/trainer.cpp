#include "hyena/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/train/autocast.h"
#include "hyena/train/linear_cross_entropy.h"

namespace hyena::train {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

models::LanguageModel seeded_model(const RunConfig& config, at::Device device) {
  torch::manual_seed(static_cast<std::uint64_t>(config.train.seed));
  models::LanguageModel model(config.model);
  model->to(device);
  model->train();
  return model;
}

data::BatchLoaderOptions loader_options(const RunConfig& config) {
  using Offset = data::BatchLoaderOptions::Offset;
  return {.sequence_length = config.model.l_max,
          .batch_size = config.micro_batch_size(),
          .seed = config.train.seed,
          .offset = config.data.window_offset == "random" ? Offset::kRandom : Offset::kZero};
}

AdamWOptions adamw_options(const OptimizerOptions& options) {
  return {.beta1 = options.betas.at(0), .beta2 = options.betas.at(1), .eps = options.eps};
}

}  // namespace

TrainData open_data(RunConfig& config, const data::CorpusOptions& options) {
  if (config.data.train.empty()) {
    throw user_error("data.train: expected files to train on, got none");
  }
  data::CorpusOptions corpus = options;
  corpus.cache_folder = config.data.cache;
  corpus.end_of_text =
      config.data.end_of_text ? data::EndOfText::kAfterEveryDocument : data::EndOfText::kNone;
  TrainData opened;
  opened.tokenizer = data::load_tokenizer(config.data.tokenizer);
  adopt_vocabulary(config, *opened.tokenizer);
  const auto open = [&](std::string_view key, const std::vector<std::string>& files) {
    try {
      return data::open_corpus(files, *opened.tokenizer, corpus);
    } catch (const UserError& error) {
      throw user_error("{}: {}", key, error.what());
    }
  };
  opened.train = open("data.train", config.data.train);
  if (!config.data.valid.empty()) {
    opened.valid = open("data.valid", config.data.valid);
  }
  return opened;
}

double TrainResult::tokens_per_s() const {
  return state.step_seconds > 0.0 ? static_cast<double>(state.tokens) / state.step_seconds : 0.0;
}

Trainer::Trainer(RunConfig config, TrainData data, at::Device device,
                 const std::filesystem::path& folder)
    : config_(std::move(config)),
      data_(std::move(data)),
      device_(device),
      folder_(folder),
      schedule_(config_.schedule_options()),
      loader_(data_.train, loader_options(config_)),
      windows_(data_.valid ? std::make_unique<data::EvalWindows>(data_.valid, config_.model.l_max,
                                                                 config_.model.l_max)
                           : nullptr),
      model_(seeded_model(config_, device)),
      embedding_VD_(model_->named_parameters()["backbone.embeddings.word_embeddings.weight"]),
      optimizer_(parameter_groups(*model_, config_.optimizer), adamw_options(config_.optimizer)) {}

Checkpointed Trainer::checkpointed() {
  return {.model = model_,
          .optimizer = optimizer_,
          .state = state_,
          .pending = pending_,
          .device = device_};
}

void Trainer::resume(const std::filesystem::path& checkpoint) {
  load_checkpoint(checkpointed(), checkpoint);
  if (state_.step > config_.train.max_steps) {
    throw user_error("train.max_steps: expected at least {}, where the run is already, got {}",
                     state_.step, config_.train.max_steps);
  }
  loader_.restore(state_.loader);
  saved_step_ = state_.step;
}

TrainResult Trainer::run(Observer& observer) {
  folder_.create(config_);
  metrics_ = std::make_unique<Metrics>(folder_.path(), state_.step);
  start_ = Clock::now();
  start_step_ = state_.step;
  seconds_before_ = state_.seconds;
  observer.on_start(state_.step, config_.train.max_steps);
  const TrainOptions& train = config_.train;
  while (state_.step < train.max_steps && !is_out_of_time()) {
    step();
    observer.on_step(state_.step);
    const bool stop = observer.stop_requested();
    if (is_due(train.log_every)) {
      log(observer);
    }
    if (is_due(train.evaluate_every)) {
      evaluate(observer);
    }
    const bool is_best = state_.best && state_.best->step == state_.step;
    if (stop || is_due(train.checkpoint_every) || (is_best && train.keep_best)) {
      save(observer);
    }
    if (stop) {
      return {.state = state_, .finished = false};
    }
  }
  if (!pending_.empty()) {
    log(observer);
  }
  if (!state_.last || state_.last->step != state_.step) {
    evaluate(observer);
  }
  if (saved_step_ != state_.step) {
    save(observer);
  }
  return {.state = state_, .finished = true};
}

at::Tensor Trainer::next_loss() {
  const std::int64_t B = config_.micro_batch_size();
  const std::int64_t L = config_.model.l_max;
  const auto host = at::TensorOptions(at::kLong).pinned_memory(device_.is_cuda());
  const at::Tensor inputs_BL = at::empty({B, L}, host);
  const at::Tensor targets_BL = at::empty({B, L}, host);
  loader_.next(inputs_BL.mutable_data_ptr<std::int64_t>(),
               targets_BL.mutable_data_ptr<std::int64_t>());
  const Autocast autocast(config_.train.precision, device_);
  const at::Tensor hidden_BLD = model_->hidden(inputs_BL.to(device_, /*non_blocking=*/true));
  return linear_cross_entropy(hidden_BLD.flatten(0, 1), embedding_VD_,
                              targets_BL.to(device_, /*non_blocking=*/true).flatten());
}

void Trainer::step() {
  const Clock::time_point begin = Clock::now();
  const std::int64_t rounds = config_.train.batch_size / config_.micro_batch_size();
  at::Tensor loss = at::zeros({}, at::TensorOptions(at::kFloat).device(device_));
  for (std::int64_t round = 0; round < rounds; ++round) {
    const at::Tensor share = next_loss() / static_cast<double>(rounds);
    share.backward();
    loss += share.detach();
  }
  const at::Tensor norm = clip_gradients(optimizer_.gradients(), config_.train.clip_norm);
  optimizer_.step([&](double base) { return learning_rate(schedule_, state_.step, base); });
  optimizer_.zero_grad();
  pending_.push_back(at::stack({loss, norm}));
  ++state_.step;
  ++window_steps_;
  state_.tokens += config_.train.batch_size * config_.model.l_max;
  window_seconds_ += seconds_since(begin);
}

at::Tensor Trainer::finite_pending() const {
  at::Tensor values = at::stack(pending_).cpu();
  const at::Tensor bad = at::isfinite(values).logical_not();
  if (bad.any().item<bool>()) {
    const auto row = bad.any(1).nonzero()[0][0].item<std::int64_t>();
    const std::int64_t first = state_.step - static_cast<std::int64_t>(pending_.size()) + 1 + row;
    const auto is_loss = bad[row][0].item<bool>();
    const bool is_nan = std::isnan(values[row][is_loss ? 0 : 1].item<float>());
    throw run_error("training diverged at step {}: the {} is {}; {}", first,
                    is_loss ? "loss" : "gradient norm", is_nan ? "not a number" : "infinite",
                    advice());
  }
  return values;
}

std::string Trainer::advice() const {
  const std::vector<std::int64_t> steps = folder_.steps();
  return fmt::format(
      "lower optimizer.lr or lengthen schedule.warmup_steps ({})",
      steps.empty() ? "no checkpoint was written yet"
                    : "the last good checkpoint is " + folder_.checkpoint(steps.back()).string());
}

void Trainer::log(Observer& observer) {
  const Clock::time_point begin = Clock::now();
  const at::Tensor values = finite_pending();
  window_seconds_ += seconds_since(begin);  // the wait for the device belongs to the steps
  const auto loss = values.select(1, 0).mean(at::kDouble).item<double>();
  const auto norm = values.select(1, 1).mean(at::kDouble).item<double>();
  const double rate = learning_rate(schedule_, state_.step - 1, config_.optimizer.lr);
  const double per_step =
      window_seconds_ / static_cast<double>(std::max<std::int64_t>(1, window_steps_));
  const auto step_tokens = static_cast<double>(config_.train.batch_size * config_.model.l_max);
  const double tokens_per_s = step_tokens / per_step;
  state_.step_seconds += window_seconds_;
  window_seconds_ = 0.0;
  window_steps_ = 0;
  pending_.clear();
  state_.last_loss = loss;
  metrics_->write({{"step", state_.step},
                   {"epoch", static_cast<double>(loader_.samples()) /
                                 static_cast<double>(loader_.num_windows())},
                   {"tokens", state_.tokens},
                   {"train_loss", loss},
                   {"gradient_norm", norm},
                   {"lr", rate},
                   {"tokens_per_s", tokens_per_s},
                   {"seconds", wall_seconds()}});
  observer.on_log({.step = state_.step,
                   .loss = loss,
                   .lr = rate,
                   .gradient_norm = norm,
                   .tokens_per_s = tokens_per_s,
                   .seconds_left = seconds_left()});
  const double rise = config_.train.max_loss_rise;
  if (rise > 0.0 && state_.lowest_loss && loss > *state_.lowest_loss + rise) {
    throw run_error(
        "training diverged at step {}: the loss rose to {:.3f} from {:.3f} (train.max_loss_rise = "
        "{}); {}",
        state_.step, loss, *state_.lowest_loss, rise, advice());
  }
  state_.lowest_loss = std::min(state_.lowest_loss.value_or(loss), loss);
}

void Trainer::evaluate(Observer& observer) {
  if (!windows_) {
    return;
  }
  if (!pending_.empty()) {
    (void)finite_pending();
  }
  const std::int64_t L = config_.model.l_max;
  const Autocast autocast(config_.train.precision, device_);
  const eval::Score score = eval::score(model_, *windows_,
                                        {.batch_size = config_.micro_batch_size(),
                                         .max_windows = (config_.train.evaluate_tokens + L - 1) / L,
                                         .progress = {}});
  state_.last = Evaluation{.step = state_.step, .score = score};
  if (!state_.best || score.nll < state_.best->score.nll) {
    state_.best = state_.last;
  }
  metrics_->write({{"step", state_.step},
                   {"valid_loss", score.nll},
                   {"valid_perplexity", score.perplexity()},
                   {"valid_accuracy", score.accuracy}});
  observer.on_evaluation(state_.step, score);
}

void Trainer::save(Observer& observer) {
  if (!pending_.empty()) {
    (void)finite_pending();
  }
  state_.loader = loader_.state();
  state_.seconds = wall_seconds();
  const std::filesystem::path target = folder_.checkpoint(state_.step);
  save_checkpoint(checkpointed(), *data_.tokenizer, target);
  saved_step_ = state_.step;
  folder_.prune(config_.train.keep_last,
                config_.train.keep_best && state_.best ? state_.best->step : -1);
  observer.on_checkpoint(target);
}

double Trainer::wall_seconds() const {
  return seconds_before_ + seconds_since(start_);
}

bool Trainer::is_out_of_time() const {
  const double limit = config_.train.max_minutes * 60.0;
  return limit > 0.0 && wall_seconds() >= limit;
}

double Trainer::seconds_left() const {
  const auto done = static_cast<double>(state_.step - start_step_);
  const auto to_do = static_cast<double>(config_.train.max_steps - state_.step);
  const double by_steps = seconds_since(start_) / done * to_do;
  const double limit = config_.train.max_minutes * 60.0;
  return limit > 0.0 ? std::min(by_steps, limit - wall_seconds()) : by_steps;
}

}  // namespace hyena::train
