// How good a cell's model is on a set of rows.
#pragma once

#include <ATen/core/Tensor.h>

#include "hyena/io/json.h"
#include "hyena/models/language_model.h"
#include "hyena/sweep/grid.h"
#include "hyena/sweep/task_data.h"

namespace hyena::sweep {

struct Score {
  double loss = 0.0;      ///< mean over trained targets
  double accuracy = 0.0;  ///< of scored targets
  double row_accuracy = 0.0;
  at::Tensor right_T;  ///< per target position from first_trained on: fraction right
};

/// Over the rows of `set_NT`, a micro batch at a time, in evaluation mode; leaves the model in
/// training mode.
[[nodiscard]] Score score_of(models::LanguageModel& model, const TaskData& data,
                             const at::Tensor& set_NT, const TrainOptions& options);

/// Adds "position_accuracy", in at most 32 bins, and "scored_accuracy", every scored target of at
/// most 64.
void add_positions(io::Json& result, const Score& score, const TaskData& data);

}  // namespace hyena::sweep
