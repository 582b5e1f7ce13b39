#include "hyena/train/config.h"

#include <algorithm>

#include "hyena/base/error.h"
#include "hyena/io/field_reader.h"
#include "hyena/models/presets.h"

namespace hyena::train {
namespace {

constexpr io::IntegerRange kSteps{.min = 1, .max = std::int64_t{1} << 40};
constexpr io::IntegerRange kStepsOrNone{.min = 0, .max = kSteps.max};
constexpr io::IntegerRange kBatch{.min = 1, .max = 1 << 24};
constexpr io::NumberRange kRate{.min = 0.0, .max = 1e3};

const std::vector<std::string>& window_offsets() {
  static const std::vector<std::string> names{"zero", "random"};
  return names;
}

const std::vector<std::string>& precisions() {
  static const std::vector<std::string> names{"auto", "float32", "bfloat16"};
  return names;
}

// One list per section, for reading and writing: visit(key, field[, range or choices]).

template <typename Options, typename Visitor>
void visit_data(Options& data, Visitor&& visit) {
  visit("train", data.train);
  visit("valid", data.valid);
  visit("tokenizer", data.tokenizer);
  visit("end_of_text", data.end_of_text);
  visit("window_offset", data.window_offset, window_offsets());
  visit("cache", data.cache);
}

template <typename Options, typename Visitor>
void visit_train(Options& train, Visitor&& visit) {
  visit("batch_size", train.batch_size, kBatch);
  visit("micro_batch_size", train.micro_batch_size, io::IntegerRange{.min = 0, .max = kBatch.max});
  visit("max_steps", train.max_steps, kSteps);
  visit("max_minutes", train.max_minutes, io::NumberRange{.min = 0.0, .max = 1e9});
  visit("seed", train.seed, io::IntegerRange{.min = 0});
  visit("precision", train.precision, precisions());
  visit("clip_norm", train.clip_norm, io::NumberRange{.min = 0.0});
  visit("max_loss_rise", train.max_loss_rise, io::NumberRange{.min = 0.0});
  visit("log_every", train.log_every, io::IntegerRange{.min = 1, .max = 1 << 20});
  visit("evaluate_every", train.evaluate_every, kSteps);
  visit("evaluate_tokens", train.evaluate_tokens, io::IntegerRange{.min = 0});
  visit("checkpoint_every", train.checkpoint_every, kSteps);
  visit("keep_last", train.keep_last, io::IntegerRange{.min = 1});
  visit("keep_best", train.keep_best);
}

template <typename Options, typename Visitor>
void visit_optimizer(Options& optimizer, Visitor&& visit) {
  visit("lr", optimizer.lr, kRate);
  visit("filter_lr", optimizer.filter_lr, kRate);
  visit("pos_emb_lr", optimizer.pos_emb_lr, kRate);
  visit("deltas_lr", optimizer.deltas_lr, kRate);
  visit("weight_decay", optimizer.weight_decay, io::NumberRange{.min = 0.0, .max = 1e3});
  visit("decay_biases_and_norms", optimizer.decay_biases_and_norms);
  visit("betas", optimizer.betas, io::NumberRange{.min = 0.0, .max = 0.999999});
  visit("eps", optimizer.eps, io::kPositive);
}

template <typename Options, typename Visitor>
void visit_schedule(Options& schedule, Visitor&& visit) {
  visit("kind", schedule.kind, schedule_kinds());
  visit("warmup_steps", schedule.warmup_steps, kStepsOrNone);
  visit("decay_steps", schedule.decay_steps, kSteps);
  visit("initial_lr", schedule.initial_lr, kRate);
  visit("min_lr", schedule.min_lr, kRate);
}

struct Reading {
  io::FieldReader& fields;

  void operator()(const char* key, std::string& field, const std::vector<std::string>& choices) {
    fields.read_choice(key, field, choices);
  }
  template <typename T, typename... Range>
  void operator()(const char* key, T& field, const Range&... range) {
    fields.read(key, field, range...);
  }
};

struct Writing {
  io::Json& json;

  template <typename T, typename... Range>
  void operator()(const char* key, const T& field, const Range&... /*range*/) {
    json[key] = field;
  }
  template <typename T, typename... Range>
  void operator()(const char* key, const std::optional<T>& field, const Range&... /*range*/) {
    json[key] = field.value();  // to_json() resolved it
  }
};

/// model.max_length is the name in run configurations, l_max the published one.
void read_length(io::FieldReader& fields, models::ModelConfig& model) {
  const io::Json* l_max = fields.find("l_max");
  std::int64_t length = model.l_max;
  if (fields.read("max_length", length, io::IntegerRange{.min = 1, .max = std::int64_t{1} << 32})) {
    if (l_max != nullptr && *l_max != length) {
      throw user_error("model.max_length = {} and model.l_max = {} are two names of one setting",
                       length, l_max->dump());
    }
    model.l_max = length;
  }
}

void read_model(io::FieldReader fields, RunConfig& config) {
  models::ModelConfig& model = config.model;
  if (fields.read("preset", config.preset) && !config.preset.empty()) {
    model = models::preset(config.preset);
  }
  read_model_fields(fields, model);
  read_length(fields, model);
  if (fields.find("vocab_size") != nullptr) {
    config.vocab_size = model.vocab_size;
  }
  if (model.max_position_embeddings > 0 && fields.find("max_position_embeddings") == nullptr) {
    model.max_position_embeddings = model.l_max;  // a preset's positions follow the length
  }
  fields.finish();
  try {
    validate(model);
  } catch (const UserError& error) {
    throw user_error("model.{}", error.what());
  }
}

void check(const RunConfig& config) {
  const TrainOptions& train = config.train;
  if (train.batch_size % config.micro_batch_size() != 0) {
    throw user_error("train.micro_batch_size: expected a divisor of train.batch_size = {}, got {}",
                     train.batch_size, train.micro_batch_size);
  }
  if (config.optimizer.betas.size() != 2) {
    throw user_error("optimizer.betas: expected two numbers, got {}",
                     config.optimizer.betas.size());
  }
  const ScheduleOptions schedule = config.schedule_options();
  if (schedule.warmup_steps >= schedule.decay_steps && schedule.kind == "linear") {
    throw user_error("schedule.warmup_steps: expected less than schedule.decay_steps = {}, got {}",
                     schedule.decay_steps, schedule.warmup_steps);
  }
}

}  // namespace

ScheduleOptions RunConfig::schedule_options() const {
  return {.kind = schedule.kind,
          .warmup_steps = schedule.warmup_steps.value_or(train.max_steps / 100),
          .decay_steps = schedule.decay_steps.value_or(train.max_steps),
          .initial_lr = schedule.initial_lr,
          .min_lr = schedule.min_lr.value_or(0.1 * optimizer.lr)};
}

std::int64_t RunConfig::micro_batch_size() const {
  return train.micro_batch_size > 0 ? train.micro_batch_size : train.batch_size;
}

RunConfig read_run_config(const io::Json& config) {
  RunConfig run;
  io::FieldReader root(config, "");
  read_model(root.section("model"), run);
  const auto read_section = [&](const char* name, auto&& visit_section) {
    io::FieldReader fields = root.section(name);
    visit_section(Reading{fields});
    fields.finish();
  };
  read_section("data", [&](auto visit) { visit_data(run.data, visit); });
  read_section("train", [&](auto visit) { visit_train(run.train, visit); });
  read_section("optimizer", [&](auto visit) { visit_optimizer(run.optimizer, visit); });
  read_section("schedule", [&](auto visit) { visit_schedule(run.schedule, visit); });
  root.finish();
  check(run);
  return run;
}

void adopt_vocabulary(RunConfig& config, const data::Tokenizer& tokenizer) {
  const std::int64_t size = tokenizer.vocab_size();
  if (config.vocab_size && *config.vocab_size != size) {
    throw user_error(
        "model.vocab_size: expected {}, the size of the tokenizer '{}', got {}; leave the key out",
        size, tokenizer.name(), *config.vocab_size);
  }
  config.vocab_size = size;
  config.model.vocab_size = size;
}

io::Json to_json(const RunConfig& config) {
  RunConfig resolved = config;
  OptimizerOptions& optimizer = resolved.optimizer;
  for (std::optional<double>* rate :
       {&optimizer.filter_lr, &optimizer.pos_emb_lr, &optimizer.deltas_lr}) {
    *rate = rate->value_or(optimizer.lr);
  }
  const ScheduleOptions schedule = config.schedule_options();
  resolved.schedule.warmup_steps = schedule.warmup_steps;
  resolved.schedule.decay_steps = schedule.decay_steps;
  resolved.schedule.min_lr = schedule.min_lr;

  io::Json json = io::Json::object();
  json["model"]["preset"] = config.preset;
  const io::Json model = models::to_json(config.model);
  for (const auto& [key, value] : model.items()) {
    json["model"][key == "l_max" ? "max_length" : key] = value;
  }
  const auto section = [&](const char* name) { return Writing{json[name] = io::Json::object()}; };
  visit_data(resolved.data, section("data"));
  visit_train(resolved.train, section("train"));
  visit_optimizer(resolved.optimizer, section("optimizer"));
  visit_schedule(resolved.schedule, section("schedule"));
  return json;
}

}  // namespace hyena::train
