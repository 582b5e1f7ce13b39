// One experiment of a grid: trained, resumable, measured.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include <c10/core/Device.h>

#include "hyena/io/json.h"
#include "hyena/sweep/grid.h"

namespace hyena::sweep {

/// What a cell tells while it trains, and how it is asked to stop.
struct CellObserver {
  std::function<void(std::int64_t step, std::int64_t steps, const std::string& text)> on_progress;
  std::function<bool()> stop_requested;
};

/// @throws UserError if what `folder` holds, state or result, is of another configuration.
void check_configuration(const Cell& cell, const std::filesystem::path& folder);

/// Trains `cell` in `folder` and measures it; a folder with a result is not run again.
///
///     state/          model, optimizer and counters: whole at any moment, at most
///                     train.checkpoint_minutes old; removed with the result
///     metrics.jsonl   per evaluation: step, epoch, tokens, train_loss, valid_loss,
///                     valid_accuracy, lr, seconds; events for TensorBoard beside it
///     cell.json       the configuration that state and result belong to
///     result.json     the returned object
///     lock            held by the process that runs the cell
///
/// Every evaluate_every epochs the validation set is scored; at accuracy `solved` twice in a row
/// training ends.
/// The test set is scored once, at the end. Result keys: cell, variant, task, length, vocab_size,
/// seed, status ("solved", "finished", "budget": the token budget was smaller than all epochs,
/// "diverged"), steps, planned_steps, epochs, tokens, seconds, tokens_per_s, device, parameters,
/// valid_accuracy, test_accuracy (over scored targets), test_row_accuracy (rows with all scored
/// targets right), test_loss (trained targets), test_examples, position_accuracy (at most 32 bins
/// {begin, end, accuracy} of target positions from first_trained on), scored_accuracy (per scored
/// position, where they are at most 64).
///
/// @return nullopt if it was stopped (its state is saved) or another process holds the lock.
/// @throws UserError as check_configuration.
[[nodiscard]] std::optional<io::Json> run_cell(const Cell& cell,
                                               const std::filesystem::path& folder,
                                               at::Device device, const CellObserver& observer);

}  // namespace hyena::sweep
