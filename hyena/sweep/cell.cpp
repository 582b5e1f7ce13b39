#include "hyena/sweep/cell.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/io/atomic_file.h"
#include "hyena/io/process_lock.h"
#include "hyena/models/checkpoint.h"
#include "hyena/models/counting.h"
#include "hyena/sweep/parameter_groups.h"
#include "hyena/sweep/score.h"
#include "hyena/sweep/step_graph.h"
#include "hyena/sweep/task_data.h"
#include "hyena/train/adamw.h"
#include "hyena/train/autocast.h"
#include "hyena/train/linear_cross_entropy.h"
#include "hyena/train/metrics.h"
#include "hyena/train/schedule.h"

namespace hyena::sweep {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr const char* kConfigurationFile = "cell.json";

/// What a saved state, or a result, must agree in to be one of this cell: all that decides the
/// result, and not how the work is cut (micro-batches, graphs, the interval of checkpoints).
io::Json configuration(const Cell& cell) {
  const data::SyntheticOptions& synthetic = cell.task.synthetic;
  const TrainOptions& train = cell.train;
  train::RunConfig of_optimizer;
  of_optimizer.optimizer = cell.optimizer;
  return {{"cell", cell.name},
          {"model", models::to_json(cell.model)},
          {"optimizer", train::to_json(of_optimizer).at("optimizer")},
          {"task",
           {{"name", synthetic.task},
            {"length", synthetic.length},
            {"vocab_size", synthetic.vocab_size},
            {"examples", synthetic.examples},
            {"seed", synthetic.seed},
            {"fresh", cell.task.fresh},
            {"valid_examples", cell.task.valid_examples},
            {"test_examples", cell.task.test_examples}}},
          {"train",
           {{"batch_size", train.batch_size},
            {"epochs", train.epochs},
            {"max_tokens", train.max_tokens},
            {"precision", train.precision},
            {"clip_norm", train.clip_norm},
            {"schedule", train.schedule},
            {"warmup", train.warmup},
            {"evaluate_every", train.evaluate_every},
            {"solved", train.solved}}}};
}

class Training {
 public:
  Training(const Cell& cell, fs::path folder, at::Device device)
      : graph_(device, cell.train.cuda_graph),
        cell_(cell),
        folder_(std::move(folder)),
        device_(device),
        data_(cell.task, device) {
    torch::manual_seed(static_cast<std::uint64_t>(cell.task.synthetic.seed));
    model_ = models::LanguageModel(cell.model);
    model_->to(device);
    embedding_VD_ = model_->named_parameters()["backbone.embeddings.word_embeddings.weight"];
    optimizer_ =
        std::make_unique<train::AdamW>(parameter_groups_of(*model_, cell.optimizer),
                                       train::AdamWOptions{.beta1 = cell.optimizer.betas.at(0),
                                                           .beta2 = cell.optimizer.betas.at(1),
                                                           .eps = cell.optimizer.eps});
    const std::int64_t steps = cell.steps();
    schedule_ = {.kind = cell.train.schedule,
                 .warmup_steps = static_cast<std::int64_t>(
                     std::llround(cell.train.warmup * static_cast<double>(steps))),
                 .decay_steps = steps};
    rows_BT_ = at::empty({cell.train.batch_size, cell.input_length() + 1},
                         at::TensorOptions(at::kLong).device(device));
    loss_sum_ = at::zeros({}, at::TensorOptions(at::kDouble).device(device));
    if (fs::exists(folder_ / "state")) {
      load();
    }
    metrics_ = std::make_unique<train::Metrics>(folder_, step_);
  }

  /// True when it ended by itself.
  bool run(const CellObserver& observer) {
    const std::int64_t steps = cell_.steps();
    const double per_epoch = static_cast<double>(cell_.task.synthetic.examples) /
                             static_cast<double>(cell_.train.batch_size);
    const auto interval =
        std::max<std::int64_t>(1, std::llround(cell_.train.evaluate_every * per_epoch));
    start_ = Clock::now();
    Clock::time_point saved = start_;
    model_->train();
    while (step_ < steps) {
      const bool is_due = (step_ + 1) % interval == 0 || step_ + 1 == steps;
      const Clock::time_point begin = Clock::now();
      step();
      if (is_due && device_.is_cuda()) {
        torch::cuda::synchronize();  // the device's work since the last look belongs to the steps
      }
      step_seconds_ += seconds_since(begin);
      if (is_due) {
        evaluate();
        if (is_diverged_ || times_solved_ >= 2) {
          return true;
        }
      }
      observer.on_progress(step_, steps, text_);
      const bool stop = observer.stop_requested();
      if (stop || seconds_since(saved) >= 60.0 * cell_.train.checkpoint_minutes) {
        save();
        saved = Clock::now();
      }
      if (stop) {
        return false;
      }
    }
    return true;
  }

  io::Json result() {
    const auto& task = cell_.task.synthetic;
    const std::int64_t tokens = step_ * cell_.train.batch_size * cell_.input_length();
    const bool solved = valid_accuracy_ >= cell_.train.solved;
    const char* status = is_diverged_               ? "diverged"
                         : solved                   ? "solved"
                         : cell_.is_cut_by_budget() ? "budget"
                                                    : "finished";
    io::Json result{{"cell", cell_.name},
                    {"variant", cell_.variant},
                    {"task", task.task},
                    {"length", task.length},
                    {"vocab_size", task.vocab_size},
                    {"seed", task.seed},
                    {"status", status},
                    {"steps", step_},
                    {"planned_steps", cell_.steps()},
                    {"epochs", epoch()},
                    {"tokens", tokens},
                    {"seconds", seconds_before_ + seconds_since(start_)},
                    {"tokens_per_s", static_cast<double>(tokens) / step_seconds_},
                    {"device", device_.is_cuda() ? "cuda" : "cpu"},
                    {"parameters", models::parameter_count(cell_.model)},
                    {"valid_accuracy", valid_accuracy_}};
    if (is_diverged_) {
      return result;
    }
    const Score score = score_of(model_, data_, data_.test(), cell_.train);
    result["test_accuracy"] = score.accuracy;
    result["test_row_accuracy"] = score.row_accuracy;
    result["test_loss"] = score.loss;
    result["test_examples"] = data_.test().size(0);
    add_positions(result, score, data_);
    return result;
  }

 private:
  double epoch() const {
    return static_cast<double>(step_ * cell_.train.batch_size) /
           static_cast<double>(cell_.task.synthetic.examples);
  }

  void step() {
    const std::int64_t batch = cell_.train.batch_size;
    rows_BT_.copy_(data_.train_rows(step_ * batch, batch));
    graph_.run([this] { add_gradients(); });
    (void)train::clip_gradients(optimizer_->gradients(), cell_.train.clip_norm);
    optimizer_->step([&](double base) { return train::learning_rate(schedule_, step_, base); });
    if (!graph_.is_recorded()) {
      optimizer_->zero_grad();
    }
    ++steps_in_sum_;
    ++step_;
  }

  void add_gradients() {
    const std::int64_t rounds = cell_.train.batch_size / cell_.train.micro_batch();
    for (std::int64_t round = 0; round < rounds; ++round) {
      const at::Tensor share = loss_of(rows_BT_.narrow(0, round * cell_.train.micro_batch(),
                                                       cell_.train.micro_batch())) /
                               static_cast<double>(rounds);
      share.backward();
      loss_sum_ += share.detach();
    }
  }

  at::Tensor loss_of(const at::Tensor& rows_BT) {
    const std::int64_t L = rows_BT.size(1) - 1;
    const std::int64_t first = data_.first_trained();
    const train::Autocast autocast(cell_.train.precision, device_);
    const at::Tensor hidden_BLD = model_->hidden(rows_BT.narrow(1, 0, L));
    return train::linear_cross_entropy(hidden_BLD.narrow(1, first, L - first).flatten(0, 1),
                                       embedding_VD_,
                                       rows_BT.narrow(1, first + 1, L - first).flatten());
  }

  void evaluate() {
    const Score valid = score_of(model_, data_, data_.valid(), cell_.train);
    const double train_loss = loss_sum_.item<double>() / static_cast<double>(steps_in_sum_);
    loss_sum_.zero_();
    steps_in_sum_ = 0;
    is_diverged_ = !std::isfinite(train_loss);
    valid_accuracy_ = valid.accuracy;
    times_solved_ = valid.accuracy >= cell_.train.solved ? times_solved_ + 1 : 0;
    text_ = fmt::format("loss {:.4f}, valid {:.1f} %", train_loss, 100.0 * valid.accuracy);
    const std::int64_t tokens = step_ * cell_.train.batch_size * cell_.input_length();
    if (!is_diverged_) {
      metrics_->write({{"step", step_},
                       {"epoch", epoch()},
                       {"tokens", tokens},
                       {"train_loss", train_loss},
                       {"valid_loss", valid.loss},
                       {"valid_accuracy", valid.accuracy},
                       {"lr", train::learning_rate(schedule_, step_ - 1, cell_.optimizer.lr)},
                       {"seconds", step_seconds_}});
    }
  }

  void save() {
    io::AtomicDirectory state(folder_ / "state");
    std::vector<models::NamedTensor> tensors = models::named_state(model_);
    for (const models::NamedTensor& moment : optimizer_->named_state()) {
      tensors.push_back(moment);
    }
    tensors.push_back({"loss_sum", loss_sum_});
    models::write_tensors(state.path() / "state.safetensors", tensors);
    const io::Json json{{"step", step_},
                        {"steps_in_sum", steps_in_sum_},
                        {"seconds", seconds_before_ + seconds_since(start_)},
                        {"step_seconds", step_seconds_},
                        {"times_solved", times_solved_},
                        {"valid_accuracy", valid_accuracy_}};
    io::write_file_atomically(state.path() / "state.json", json.dump(2) + "\n");
    state.commit(io::IfExists::kReplace);
  }

  void load() {
    const io::Json json = io::read_json(folder_ / "state" / "state.json");
    const io::SafetensorsFile file(folder_ / "state" / "state.safetensors");
    const torch::NoGradGuard no_grad;
    std::vector<models::NamedTensor> tensors = models::named_state(model_);
    tensors.push_back({"loss_sum", loss_sum_});
    for (const models::NamedTensor& entry : tensors) {
      const io::TensorView* view = file.find(entry.name);
      if (view == nullptr) {
        throw user_error("{}: tensor '{}' is missing", file.path().string(), entry.name);
      }
      entry.tensor.copy_(models::to_tensor(*view));
    }
    optimizer_->load_state(file);
    step_ = json.at("step").get<std::int64_t>();
    steps_in_sum_ = json.at("steps_in_sum").get<std::int64_t>();
    seconds_before_ = json.at("seconds").get<double>();
    step_seconds_ = json.at("step_seconds").get<double>();
    times_solved_ = json.at("times_solved").get<std::int64_t>();
    valid_accuracy_ = json.at("valid_accuracy").get<double>();
    // Dropout draws differently than it would have; without dropout nothing is drawn.
    torch::manual_seed(static_cast<std::uint64_t>(cell_.task.synthetic.seed + step_));
  }

  StepGraph graph_;  // first, because every tensor below belongs to its stream
  Cell cell_;
  fs::path folder_;
  at::Device device_;
  TaskData data_;
  models::LanguageModel model_{nullptr};
  at::Tensor embedding_VD_;
  std::unique_ptr<train::AdamW> optimizer_;
  train::ScheduleOptions schedule_;
  std::unique_ptr<train::Metrics> metrics_;
  std::int64_t step_ = 0;
  double seconds_before_ = 0.0;
  double step_seconds_ = 0.0;
  double valid_accuracy_ = 0.0;
  std::int64_t times_solved_ = 0;  // evaluations in a row
  bool is_diverged_ = false;
  Clock::time_point start_;
  at::Tensor rows_BT_;   // of the step
  at::Tensor loss_sum_;  // since the last evaluation, on the device
  std::int64_t steps_in_sum_ = 0;
  std::string text_;
};

}  // namespace

void check_configuration(const Cell& cell, const fs::path& folder) {
  const fs::path file = folder / kConfigurationFile;
  if (fs::exists(file) && io::read_json(file) != configuration(cell)) {
    throw user_error(
        "{} was started with another configuration: remove it, or give the sweep another --out",
        folder.string());
  }
}

std::optional<io::Json> run_cell(const Cell& cell, const fs::path& folder, at::Device device,
                                 const CellObserver& observer) {
  check_configuration(cell, folder);
  io::make_directories(folder);
  const io::ProcessLock lock(folder / "lock");
  if (!lock.is_held()) {
    return std::nullopt;
  }
  const fs::path result_file = folder / "result.json";
  if (fs::exists(result_file)) {
    return io::read_json(result_file);
  }
  io::write_file_atomically(folder / kConfigurationFile, configuration(cell).dump(2) + "\n");
  Training training(cell, folder, device);
  if (!training.run(observer)) {
    return std::nullopt;
  }
  io::Json result = training.result();
  io::write_file_atomically(result_file, result.dump(2) + "\n");
  fs::remove_all(folder / "state");
  return result;
}

}  // namespace hyena::sweep
