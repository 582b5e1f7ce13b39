// Everything a run needs to go on as if it had not been interrupted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "hyena/data/tokenizer.h"
#include "hyena/eval/perplexity.h"
#include "hyena/io/json.h"
#include "hyena/models/language_model.h"
#include "hyena/train/adamw.h"

namespace hyena::train {

struct Evaluation {
  std::int64_t step = -1;
  eval::Score score;
};

/// The part of the state that is no tensor.
// NOLINTNEXTLINE(bugprone-exception-escape): the analyser follows an assertion of nlohmann's move
struct TrainState {
  std::int64_t step = 0;            ///< optimizer steps done; also the schedule's clock
  std::int64_t tokens = 0;          ///< trained on
  double seconds = 0.0;             ///< wall clock of the run, all parts
  double step_seconds = 0.0;        ///< of these, spent in steps
  std::optional<double> last_loss;  ///< of the last log entry
  std::optional<double> lowest_loss;
  std::optional<Evaluation> last;  ///< evaluations
  std::optional<Evaluation> best;
  io::Json loader;  ///< BatchLoader::state()
};

[[nodiscard]] io::Json to_json(const TrainState& state);
[[nodiscard]] TrainState read_train_state(const io::Json& json, const std::string& what);

/// What a checkpoint is made of, and what loading one fills.
struct Checkpointed {
  models::LanguageModel& model;
  AdamW& optimizer;
  TrainState& state;
  std::vector<at::Tensor>& pending;  ///< {loss, gradient norm} of the steps not yet logged
  at::Device device;
};

/// Writes the folder `target`: config.json, model.safetensors, tokenizer files,
/// train_state.safetensors (moments, random generators, pending values), train_state.json. It
/// appears whole or not at all. @throws RunError if writing fails.
void save_checkpoint(const Checkpointed& run, const data::Tokenizer& tokenizer,
                     const std::filesystem::path& target);

/// @throws UserError if the checkpoint is of another model, or damaged.
void load_checkpoint(Checkpointed run, const std::filesystem::path& checkpoint);

}  // namespace hyena::train
