// Everything a training run is made of: the TOML file behind `hyena train --config`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hyena/data/tokenizer.h"
#include "hyena/io/json.h"
#include "hyena/models/config.h"
#include "hyena/train/schedule.h"

namespace hyena::train {

struct DataOptions {
  std::vector<std::string> train;  ///< files or globs
  std::vector<std::string> valid;  ///< none: the run is not evaluated
  std::string tokenizer = "byte";  ///< or a folder with vocab.json and merges.txt
  bool end_of_text = true;         ///< appended to every text that is tokenised
  std::string window_offset = "zero";
  std::string cache = ".cache/tokens";
};

struct TrainOptions {
  std::int64_t batch_size = 16;       ///< sequences per optimizer step
  std::int64_t micro_batch_size = 0;  ///< sequences per forward pass; 0: batch_size
  std::int64_t max_steps = 1000;
  double max_minutes = 0.0;  ///< of the whole run, resumed parts included; 0: no limit
  std::int64_t seed = 2222;
  std::string precision = "auto";
  double clip_norm = 1.0;  ///< 0: no clipping
  double max_loss_rise = 3.0;
  std::int64_t log_every = 10;
  std::int64_t evaluate_every = 200;
  std::int64_t evaluate_tokens = 0;  ///< 0: all of data.valid
  std::int64_t checkpoint_every = 200;
  std::int64_t keep_last = 2;
  bool keep_best = true;
};

struct OptimizerOptions {
  double lr = 6e-4;
  std::optional<double> filter_lr;   ///< of the filter MLPs; absent: lr
  std::optional<double> pos_emb_lr;  ///< of the positional features; absent: lr
  std::optional<double> deltas_lr;   ///< of trainable decays; absent: lr
  double weight_decay = 0.1;
  bool decay_biases_and_norms = true;
  std::vector<double> betas{0.9, 0.98};
  double eps = 1e-8;
};

/// The schedule as written: absent numbers follow from the rest of the configuration.
struct ScheduleFields {
  std::string kind = "cosine";
  std::optional<std::int64_t> warmup_steps;  ///< absent: 1 % of train.max_steps
  std::optional<std::int64_t> decay_steps;   ///< absent: train.max_steps
  double initial_lr = 1e-6;
  std::optional<double> min_lr;  ///< absent: a tenth of optimizer.lr
};

struct RunConfig {
  std::string preset;                      ///< "" : none
  std::optional<std::int64_t> vocab_size;  ///< as written; the tokenizer decides
  models::ModelConfig model;
  DataOptions data;
  TrainOptions train;
  OptimizerOptions optimizer;
  ScheduleFields schedule;

  [[nodiscard]] ScheduleOptions schedule_options() const;
  [[nodiscard]] std::int64_t micro_batch_size() const;
};

/// Reads the sections [model] [data] [train] [optimizer] [schedule], all of them optional.
/// docs/guide/config.md has every key.
/// @throws UserError that names the key, what was expected and what came; an unknown key with the
///   nearest known one.
[[nodiscard]] RunConfig read_run_config(const io::Json& config);

/// Sets the model's vocabulary to the tokenizer's.
/// @throws UserError if model.vocab_size was written and says something else.
void adopt_vocabulary(RunConfig& config, const data::Tokenizer& tokenizer);

/// Every key with its value, absent ones resolved: read_run_config(to_json(c)) is the same run.
[[nodiscard]] io::Json to_json(const RunConfig& config);

}  // namespace hyena::train
