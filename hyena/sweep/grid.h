// A grid of experiments: the TOML file behind `hyena sweep`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hyena/data/synthetic.h"
#include "hyena/io/json.h"
#include "hyena/models/config.h"
#include "hyena/train/config.h"

namespace hyena::sweep {

struct TaskOptions {
  data::SyntheticOptions synthetic;  ///< seed: that of the cell
  bool fresh = false;  ///< every batch is new instead of `examples` rows over and over
  std::int64_t valid_examples = 500;
  std::int64_t test_examples = 500;
};

struct TrainOptions {
  std::int64_t batch_size = 32;
  std::int64_t micro_batch_size = 0;  ///< rows per forward pass; 0: batch_size
  std::int64_t epochs = 200;          ///< of task.examples rows, also where data is fresh
  std::int64_t max_tokens = 0;        ///< budget of a cell; 0: none. The schedule fits into it
  std::string precision = "auto";
  bool cuda_graph = true;  ///< on a GPU: record a step once, then replay it
  double clip_norm = 1.0;
  std::string schedule = "cosine";
  double warmup = 0.05;         ///< of the steps: the paper's 10 of 200 epochs
  double evaluate_every = 1.0;  ///< epochs between looks at the validation set
  double solved = 1.0;          ///< validation accuracy that, twice in a row, ends a cell
  double checkpoint_minutes = 1.0;

  [[nodiscard]] std::int64_t micro_batch() const {
    return micro_batch_size > 0 ? micro_batch_size : batch_size;
  }
};

/// One experiment.
struct Cell {
  std::string name;  ///< of its folder: "hyena_n256_v10_s0"
  std::string variant;
  TaskOptions task;
  models::ModelConfig model;
  train::OptimizerOptions optimizer;
  TrainOptions train;

  [[nodiscard]] std::int64_t input_length() const;
  /// Optimizer steps: all epochs, or as many as the budget pays for. At least 1.
  [[nodiscard]] std::int64_t steps() const;
  [[nodiscard]] bool is_cut_by_budget() const;
};

struct Variant {
  std::string key;
  std::string label;
};

/// A number that the paper prints for a cell, in per cent.
struct PaperNumber {
  std::string variant;
  std::int64_t length = 0;
  std::int64_t vocab_size = 0;
  double accuracy = 0.0;
};

struct Grid {
  std::string name;
  std::string title;
  std::string columns = "length";  ///< or "vocab_size": the table's columns, the plot's x axis
  std::vector<Variant> variants;   ///< the table's rows
  std::vector<Cell> cells;
  std::vector<PaperNumber> paper;
  io::Json source;  ///< the file as read, overrides applied
};

/// Reads
///
///     name, title                              of the table
///     columns = "length"
///     paper = [["hyena", 32768, 30, 100.0]]    variant, length, vocabulary, accuracy
///     [task]       name, length = [..], vocab_size = [..], examples, fresh, valid_examples,
///                  test_examples
///     [model]      as in a run configuration (docs/guide/config.md); l_max and vocab_size follow
///                  from the task, and learned_positions = true sets max_position_embeddings
///     [optimizer]  as in a run configuration; lr 5e-4 unless given
///     [train]      the fields of TrainOptions, and seed = [..]
///     [variants.KEY]   label, and keys of [model] that differ
///     [[override]]     when = {variant = [..], length = [..], vocab_size = [..]}, and tables
///     model,
///                      task, train, optimizer that replace keys in the cells that match
///
/// A cell for every variant x length x vocabulary x seed, in this order of loops: seed outermost,
/// then length, vocabulary, variant, so that an interrupted sweep leaves whole columns.
/// @throws UserError that names the key.
[[nodiscard]] Grid read_grid(const io::Json& source);

}  // namespace hyena::sweep
