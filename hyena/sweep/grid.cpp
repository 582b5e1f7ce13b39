#include "hyena/sweep/grid.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "hyena/base/error.h"
#include "hyena/io/field_reader.h"
#include "hyena/train/schedule.h"

namespace hyena::sweep {
namespace {

const std::vector<std::string>& axis_names() {
  static const std::vector<std::string> names{"length", "vocab_size"};
  return names;
}

/// Keys of `change` replace those of `target`.
void merge(io::Json& target, const io::Json& change) {
  for (const auto& [key, value] : change.items()) {
    target[key] = value;
  }
}

io::Json object_at(const io::Json& source, const char* key) {
  return source.contains(key) ? source[key] : io::Json::object();
}

/// A number or a list of numbers.
std::vector<std::int64_t> axis(io::FieldReader& section, const char* key, std::int64_t standard,
                               io::IntegerRange range) {
  std::vector<std::int64_t> values{standard};
  const io::Json* found = section.find(key);
  if (found != nullptr && found->is_array()) {
    section.read(key, values, range);
  } else {
    section.read(key, values.front(), range);
  }
  if (values.empty()) {
    throw user_error("{}: expected at least one value", section.full_name(key));
  }
  return values;
}

struct Place {
  std::string variant;
  std::int64_t length, vocab_size, seed;
};

bool matches(const io::Json& when, const Place& place) {
  const auto holds = [&](const char* key, const io::Json& value) {
    if (!when.contains(key)) {
      return true;
    }
    const io::Json& wanted = when[key];
    return wanted.is_array() ? std::find(wanted.begin(), wanted.end(), value) != wanted.end()
                             : wanted == value;
  };
  return holds("variant", place.variant) && holds("length", place.length) &&
         holds("vocab_size", place.vocab_size);
}

void read_task(io::FieldReader task, TaskOptions& options) {
  task.read_choice("name", options.synthetic.task, data::synthetic_task_names());
  task.read("examples", options.synthetic.examples, io::kAtLeastOne);
  task.read("fresh", options.fresh);
  task.read("valid_examples", options.valid_examples, io::kAtLeastOne);
  task.read("test_examples", options.test_examples, io::kAtLeastOne);
  task.ignore("length");
  task.ignore("vocab_size");
  task.finish();
}

void read_train(io::FieldReader train, TrainOptions& options) {
  static const std::vector<std::string> kPrecisions{"auto", "float32", "bfloat16"};
  train.read("batch_size", options.batch_size, io::kAtLeastOne);
  train.read("micro_batch_size", options.micro_batch_size, io::IntegerRange{.min = 0});
  train.read("epochs", options.epochs, io::kAtLeastOne);
  train.read("max_tokens", options.max_tokens, io::IntegerRange{.min = 0});
  train.read_choice("precision", options.precision, kPrecisions);
  train.read("cuda_graph", options.cuda_graph);
  train.read("clip_norm", options.clip_norm, io::NumberRange{.min = 0.0});
  train.read_choice("schedule", options.schedule, train::schedule_kinds());
  train.read("warmup", options.warmup, io::kFraction);
  train.read("evaluate_every", options.evaluate_every, io::kPositive);
  train.read("solved", options.solved, io::kPositive);
  train.read("checkpoint_minutes", options.checkpoint_minutes,
             io::NumberRange{.min = 0.0, .max = 2.0});
  train.ignore("seed");
  train.finish();
  const std::int64_t micro = options.micro_batch_size;
  if (micro > 0 && options.batch_size % micro != 0) {
    throw user_error("train.micro_batch_size: expected a divisor of train.batch_size = {}, got {}",
                     options.batch_size, micro);
  }
}

/// The cell's sections: the grid's, the variant's differences, what the overrides say.
Cell make_cell(const io::Json& source, const io::Json& variant, const Place& place) {
  io::Json model = object_at(source, "model");
  merge(model, variant);
  model.erase("label");
  io::Json task = object_at(source, "task");
  io::Json train = object_at(source, "train");
  io::Json optimizer = object_at(source, "optimizer");
  for (const io::Json& change : source.value("override", io::Json::array())) {
    if (matches(object_at(change, "when"), place)) {
      merge(model, object_at(change, "model"));
      merge(task, object_at(change, "task"));
      merge(train, object_at(change, "train"));
      merge(optimizer, object_at(change, "optimizer"));
    }
  }
  Cell cell;
  cell.variant = place.variant;
  cell.name =
      fmt::format("{}_n{}_v{}_s{}", place.variant, place.length, place.vocab_size, place.seed);
  cell.task.synthetic.length = place.length;
  cell.task.synthetic.vocab_size = place.vocab_size;
  cell.task.synthetic.seed = place.seed;
  read_task(io::FieldReader(task, "task"), cell.task);
  read_train(io::FieldReader(train, "train"), cell.train);
  const data::SyntheticSet shape = data::synthetic_shape(cell.task.synthetic);

  bool learned_positions = false;
  {
    io::FieldReader fields(model, "model");
    fields.read("learned_positions", learned_positions);
    model.erase("learned_positions");
  }
  for (const char* key : {"l_max", "vocab_size", "max_position_embeddings"}) {
    if (model.contains(key)) {
      throw user_error("model.{}: follows from the task, remove it", key);
    }
  }
  model["l_max"] = shape.row_tokens - 1;
  model["vocab_size"] = shape.vocab_size;
  model["max_position_embeddings"] = learned_positions ? shape.row_tokens - 1 : 0;
  if (!optimizer.contains("lr")) {
    optimizer["lr"] = 5e-4;
  }
  const train::RunConfig run =
      train::read_run_config(io::Json{{"model", model}, {"optimizer", optimizer}});
  cell.model = run.model;
  cell.optimizer = run.optimizer;
  models::validate(cell.model);
  return cell;
}

std::vector<PaperNumber> read_paper(const io::Json* list) {
  std::vector<PaperNumber> numbers;
  if (list == nullptr) {
    return numbers;
  }
  for (const io::Json& row : *list) {
    if (!row.is_array() || row.size() != 4 || !row[0].is_string() || !row[1].is_number_integer() ||
        !row[2].is_number_integer() || !row[3].is_number()) {
      throw user_error("paper: expected rows [variant, length, vocab_size, accuracy], got {}",
                       row.dump());
    }
    numbers.push_back({.variant = row[0].get<std::string>(),
                       .length = row[1].get<std::int64_t>(),
                       .vocab_size = row[2].get<std::int64_t>(),
                       .accuracy = row[3].get<double>()});
  }
  return numbers;
}

void check_overrides(const io::Json& source) {
  for (const io::Json& change : source.value("override", io::Json::array())) {
    io::FieldReader fields(change, "override");
    io::FieldReader when = fields.section("when");
    for (const char* key : {"variant", "length", "vocab_size"}) {
      when.ignore(key);
    }
    when.finish();
    for (const char* key : {"model", "task", "train", "optimizer"}) {
      fields.ignore(key);
    }
    fields.finish();
  }
}

}  // namespace

std::int64_t Cell::input_length() const {
  return data::synthetic_shape(task.synthetic).row_tokens - 1;
}

std::int64_t Cell::steps() const {
  std::int64_t steps = task.synthetic.examples * train.epochs / train.batch_size;
  if (train.max_tokens > 0) {
    steps = std::min(steps, train.max_tokens / (train.batch_size * input_length()));
  }
  return std::max<std::int64_t>(steps, 1);
}

bool Cell::is_cut_by_budget() const {
  return steps() < task.synthetic.examples * train.epochs / train.batch_size;
}

Grid read_grid(const io::Json& source) {
  Grid grid;
  grid.source = source;
  io::FieldReader root(source, "");
  if (!root.read("name", grid.name) || grid.name.empty() ||
      grid.name.find('/') != std::string::npos) {
    throw user_error("name: expected the name of the grid, which names its folder");
  }
  grid.title = grid.name;
  root.read("title", grid.title);
  root.read_choice("columns", grid.columns, axis_names());
  grid.paper = read_paper(root.find("paper"));
  for (const char* key : {"model", "optimizer", "override"}) {
    root.ignore(key);
  }
  check_overrides(source);
  io::FieldReader task = root.section("task");
  const auto lengths = axis(task, "length", 256, io::kAtLeastOne);
  const auto vocabularies = axis(task, "vocab_size", 10, io::kAtLeastOne);
  io::FieldReader train = root.section("train");
  const auto seeds = axis(train, "seed", 0, io::IntegerRange{.min = 0});

  const io::Json variants = source.value("variants", io::Json{{"hyena", io::Json::object()}});
  root.ignore("variants");
  root.finish();
  for (const auto& [key, value] : variants.items()) {
    std::string label = key;
    io::FieldReader(value, "variants." + key).read("label", label);
    grid.variants.push_back({.key = key, .label = label});
  }
  if (grid.variants.empty()) {
    throw user_error("variants: expected at least one, such as [variants.hyena]");
  }
  for (const std::int64_t seed : seeds) {
    for (const std::int64_t length : lengths) {
      for (const std::int64_t vocab_size : vocabularies) {
        for (const Variant& variant : grid.variants) {
          try {
            grid.cells.push_back(make_cell(source, variants[variant.key],
                                           {.variant = variant.key,
                                            .length = length,
                                            .vocab_size = vocab_size,
                                            .seed = seed}));
          } catch (const UserError& error) {
            throw user_error("variant '{}', length {}, vocabulary {}: {}", variant.key, length,
                             vocab_size, error.what());
          }
        }
      }
    }
  }
  return grid;
}

}  // namespace hyena::sweep
