// The training loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hyena/data/batch_loader.h"
#include "hyena/data/corpus.h"
#include "hyena/train/metrics.h"
#include "hyena/train/observer.h"
#include "hyena/train/run_folder.h"
#include "hyena/train/train_state.h"

namespace hyena::train {

/// The texts of a run, opened.
struct TrainData {
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::shared_ptr<const data::Corpus> train;
  std::shared_ptr<const data::Corpus> valid;  ///< null: none
};

/// Opens what config.data names, and adopts the tokenizer's vocabulary.
/// @throws UserError for a missing or empty text, a bad tokenizer, data.train left empty.
[[nodiscard]] TrainData open_data(RunConfig& config, const data::CorpusOptions& options);

struct TrainResult {
  TrainState state;
  bool finished = false;  ///< false: stopped by the observer, to be resumed

  [[nodiscard]] double tokens_per_s() const;
};

/// One training run: construct, resume() where wanted, run().
///
/// Every step: micro batches forward and backward, clipping, AdamW, with no wait for the device;
/// losses are read back at log entries, evaluations and checkpoints, where a loss or gradient norm
/// that is not finite ends the run before anything is saved.
class Trainer {
 public:
  /// Builds the model (seeded by train.seed). Nothing is written yet.
  /// @throws UserError if a text is shorter than one sequence, or the model makes no sense.
  Trainer(RunConfig config, TrainData data, at::Device device, const std::filesystem::path& folder);

  /// Goes on from a checkpoint: on the CPU, with the same number of threads, every later loss has
  /// the bits that the uninterrupted run would have had.
  /// @throws UserError if the checkpoint is of another model, data or seed.
  void resume(const std::filesystem::path& checkpoint);

  /// Trains to max_steps or max_minutes, or until the observer wants to stop; then evaluates
  /// (unless stopped) and saves.
  /// @throws RunError if the loss diverges or writing fails. The last checkpoint stays.
  [[nodiscard]] TrainResult run(Observer& observer);

  [[nodiscard]] const models::LanguageModel& model() const { return model_; }
  [[nodiscard]] const TrainState& state() const { return state_; }

 private:
  void step();
  [[nodiscard]] at::Tensor next_loss();  // of the next micro batch
  void log(Observer& observer);
  void evaluate(Observer& observer);
  void save(Observer& observer);
  /// Reads the pending losses and norms back. @throws RunError if one is not finite.
  [[nodiscard]] at::Tensor finite_pending() const;
  [[nodiscard]] bool is_due(std::int64_t every) const { return state_.step % every == 0; }
  [[nodiscard]] bool is_out_of_time() const;
  [[nodiscard]] double seconds_left() const;
  [[nodiscard]] double wall_seconds() const;
  [[nodiscard]] Checkpointed checkpointed();
  [[nodiscard]] std::string advice() const;

  using Clock = std::chrono::steady_clock;

  RunConfig config_;
  TrainData data_;
  at::Device device_;
  RunFolder folder_;
  ScheduleOptions schedule_;
  data::BatchLoader loader_;
  std::unique_ptr<data::EvalWindows> windows_;  // null: no evaluation
  models::LanguageModel model_;
  at::Tensor embedding_VD_;  // the model's, tied to its head
  AdamW optimizer_;

  TrainState state_;
  std::vector<at::Tensor> pending_;  // {loss, gradient norm} per step since the last log entry
  std::unique_ptr<Metrics> metrics_;
  std::int64_t saved_step_ = -1;

  Clock::time_point start_;
  std::int64_t start_step_ = 0;
  double seconds_before_ = 0.0;  // wall clock of the parts before this process
  double window_seconds_ = 0.0;  // in steps since the last log entry
  std::int64_t window_steps_ = 0;
};

}  // namespace hyena::train
