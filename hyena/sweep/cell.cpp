#include "hyena/sweep/cell.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <torch/torch.h>
#include <unistd.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/io/atomic_file.h"
#include "hyena/models/checkpoint.h"
#include "hyena/models/counting.h"
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

/// flock: released by the kernel when the process ends, however it ends.
class CellLock {
 public:
  explicit CellLock(const fs::path& path)
      : descriptor_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) {
      throw run_error("cannot open {}: {}", path.string(), errno_text(errno));
    }
    is_held_ = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  }
  ~CellLock() { ::close(descriptor_); }
  CellLock(const CellLock&) = delete;
  CellLock& operator=(const CellLock&) = delete;
  [[nodiscard]] bool is_held() const { return is_held_; }

 private:
  int descriptor_;
  bool is_held_ = false;
};

/// SSM tensors train at min(1e-3, lr) without decay (PAPER section 5), and so do the sine layers of
/// CKConv, which are a filter MLP.
std::vector<train::ParameterGroup> groups_of(const torch::nn::Module& model,
                                             const train::OptimizerOptions& options) {
  std::vector<train::ParameterGroup> groups = train::parameter_groups(model, options);
  train::ParameterGroup ssm{.name = "ssm",
                            .lr = std::min(1e-3, options.lr),
                            .weight_decay = 0.0,
                            .names = {},
                            .tensors = {}};
  const auto is_ssm = [](const std::string& name) {
    for (const char* part : {".inv_A_real", ".A_imag", ".log_dt", "kernel.B", ".Lambda_real",
                             ".Lambda_imag", ".filter_fn.layers."}) {
      if (name.find(part) != std::string::npos) {
        return true;
      }
    }
    return false;
  };
  for (train::ParameterGroup& group : groups) {
    train::ParameterGroup rest = group;
    rest.names.clear();
    rest.tensors.clear();
    for (std::size_t i = 0; i < group.names.size(); ++i) {
      train::ParameterGroup& target = is_ssm(group.names[i]) ? ssm : rest;
      target.names.push_back(group.names[i]);
      target.tensors.push_back(group.tensors[i]);
    }
    group = std::move(rest);
  }
  groups.push_back(std::move(ssm));
  std::erase_if(groups, [](const train::ParameterGroup& group) { return group.tensors.empty(); });
  return groups;
}

/// Sums over a set of rows.
struct Score {
  double loss = 0.0;      ///< mean over trained targets
  double accuracy = 0.0;  ///< of scored targets
  double row_accuracy = 0.0;
  at::Tensor right_T;  ///< per target position from first_trained on: fraction right
};

class Training {
 public:
  Training(const Cell& cell, const fs::path& folder, at::Device device)
      : cell_(cell), folder_(folder), device_(device), data_(cell.task, device) {
    torch::manual_seed(static_cast<std::uint64_t>(cell.task.synthetic.seed));
    model_ = models::LanguageModel(cell.model);
    model_->to(device);
    embedding_VD_ = model_->named_parameters()["backbone.embeddings.word_embeddings.weight"];
    optimizer_ = std::make_unique<train::AdamW>(
        groups_of(*model_, cell.optimizer), train::AdamWOptions{.beta1 = cell.optimizer.betas.at(0),
                                                                .beta2 = cell.optimizer.betas.at(1),
                                                                .eps = cell.optimizer.eps});
    const std::int64_t steps = cell.steps();
    schedule_ = {.kind = cell.train.schedule,
                 .warmup_steps = static_cast<std::int64_t>(
                     std::llround(cell.train.warmup * static_cast<double>(steps))),
                 .decay_steps = steps};
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
    const Score score = this->score(data_.test());
    result["test_accuracy"] = score.accuracy;
    result["test_row_accuracy"] = score.row_accuracy;
    result["test_loss"] = score.loss;
    result["test_examples"] = data_.test().size(0);
    add_positions(result, score.right_T);
    return result;
  }

 private:
  double epoch() const {
    return static_cast<double>(step_ * cell_.train.batch_size) /
           static_cast<double>(cell_.task.synthetic.examples);
  }

  std::int64_t micro_batch() const {
    return cell_.train.micro_batch_size > 0 ? cell_.train.micro_batch_size : cell_.train.batch_size;
  }

  void step() {
    const std::int64_t micro = micro_batch();
    const std::int64_t rounds = cell_.train.batch_size / micro;
    const at::Tensor rows_BT =
        data_.train_rows(step_ * cell_.train.batch_size, cell_.train.batch_size);
    at::Tensor loss = at::zeros({}, at::TensorOptions(at::kFloat).device(device_));
    for (std::int64_t round = 0; round < rounds; ++round) {
      const at::Tensor share =
          loss_of(rows_BT.narrow(0, round * micro, micro)) / static_cast<double>(rounds);
      share.backward();
      loss += share.detach();
    }
    (void)train::clip_gradients(optimizer_->gradients(), cell_.train.clip_norm);
    optimizer_->step([&](double base) { return train::learning_rate(schedule_, step_, base); });
    optimizer_->zero_grad();
    losses_.push_back(loss);
    ++step_;
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

  Score score(const at::Tensor& set_NT) {
    const torch::NoGradGuard no_grad;
    const std::int64_t N = set_NT.size(0);
    const std::int64_t L = set_NT.size(1) - 1;
    const std::int64_t first = data_.first_trained();
    const std::int64_t scored = data_.first_scored() - first;
    const auto sums = at::TensorOptions(at::kDouble).device(device_);
    at::Tensor right_T = at::zeros({L - first}, sums);
    at::Tensor loss = at::zeros({}, sums);
    at::Tensor whole_rows = at::zeros({}, sums);
    model_->eval();
    for (std::int64_t i = 0; i < N; i += micro_batch()) {
      const at::Tensor rows_BT = set_NT.narrow(0, i, std::min(micro_batch(), N - i)).to(at::kLong);
      const at::Tensor targets = rows_BT.narrow(1, first + 1, L - first);
      at::Tensor logits;
      {
        const train::Autocast autocast(cell_.train.precision, device_);
        logits =
            model_->logits(model_->hidden(rows_BT.narrow(1, 0, L)).narrow(1, first, L - first));
      }
      logits = logits.to(at::kFloat);
      const at::Tensor right = logits.argmax(-1) == targets;
      right_T += right.sum(0);
      whole_rows += right.narrow(1, scored, L - first - scored).all(1).sum();
      loss +=
          at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten(), {}, at::Reduction::Sum);
    }
    model_->train();
    const auto rows = static_cast<double>(N);
    right_T = (right_T / rows).cpu();
    return {.loss = loss.item<double>() / (rows * static_cast<double>(L - first)),
            .accuracy = right_T.narrow(0, scored, L - first - scored).mean().item<double>(),
            .row_accuracy = whole_rows.item<double>() / rows,
            .right_T = right_T};
  }

  void evaluate() {
    const Score valid = score(data_.valid());
    const auto train_loss = at::stack(losses_).mean().item<double>();
    losses_.clear();
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

  void add_positions(io::Json& result, const at::Tensor& right_T) const {
    const std::int64_t first = data_.first_trained();
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
    const std::int64_t scored = data_.first_scored() - first;
    if (count - scored <= 64) {
      io::Json exact = io::Json::array();
      for (std::int64_t t = scored; t < count; ++t) {
        exact.push_back(right_T[t].item<double>());
      }
      result["scored_accuracy"] = exact;
    }
  }

  /// What a saved state must agree in to go on with it.
  io::Json identity() const {
    return {{"cell", cell_.name},
            {"model", models::to_json(cell_.model)},
            {"planned_steps", cell_.steps()},
            {"batch_size", cell_.train.batch_size},
            {"examples", cell_.task.synthetic.examples},
            {"lr", cell_.optimizer.lr}};
  }

  void save() {
    io::AtomicDirectory state(folder_ / "state");
    std::vector<models::NamedTensor> tensors = models::named_state(model_);
    for (const models::NamedTensor& moment : optimizer_->named_state()) {
      tensors.push_back(moment);
    }
    if (!losses_.empty()) {
      tensors.push_back({"pending_losses", at::stack(losses_)});
    }
    models::write_tensors(state.path() / "state.safetensors", tensors);
    const io::Json json{{"identity", identity()},
                        {"step", step_},
                        {"seconds", seconds_before_ + seconds_since(start_)},
                        {"step_seconds", step_seconds_},
                        {"times_solved", times_solved_},
                        {"valid_accuracy", valid_accuracy_}};
    io::write_file_atomically(state.path() / "state.json", json.dump(2) + "\n");
    state.commit(io::IfExists::kReplace);
  }

  void load() {
    const io::Json json = io::read_json(folder_ / "state" / "state.json");
    if (json.at("identity") != identity()) {
      throw user_error(
          "{} was started with another configuration: remove it, or give the sweep another --out",
          folder_.string());
    }
    const io::SafetensorsFile file(folder_ / "state" / "state.safetensors");
    const torch::NoGradGuard no_grad;
    for (const models::NamedTensor& entry : models::named_state(model_)) {
      const io::TensorView* view = file.find(entry.name);
      if (view == nullptr) {
        throw user_error("{}: tensor '{}' is missing", file.path().string(), entry.name);
      }
      entry.tensor.copy_(models::to_tensor(*view));
    }
    optimizer_->load_state(file);
    if (const io::TensorView* pending = file.find("pending_losses")) {
      losses_ = models::to_tensor(*pending).to(device_).unbind(0);
    }
    step_ = json.at("step").get<std::int64_t>();
    seconds_before_ = json.at("seconds").get<double>();
    step_seconds_ = json.at("step_seconds").get<double>();
    times_solved_ = json.at("times_solved").get<std::int64_t>();
    valid_accuracy_ = json.at("valid_accuracy").get<double>();
    // Dropout draws differently than it would have; without dropout nothing is drawn.
    torch::manual_seed(static_cast<std::uint64_t>(cell_.task.synthetic.seed + step_));
  }

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
  std::vector<at::Tensor> losses_;  // since the last evaluation, on the device
  std::string text_;
};

}  // namespace

std::optional<io::Json> run_cell(const Cell& cell, const fs::path& folder, at::Device device,
                                 const CellObserver& observer) {
  io::make_directories(folder);
  const CellLock lock(folder / "lock");
  if (!lock.is_held()) {
    return std::nullopt;
  }
  const fs::path result_file = folder / "result.json";
  if (fs::exists(result_file)) {
    return io::read_json(result_file);
  }
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
