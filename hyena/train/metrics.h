// The record of a run: metrics.jsonl for everybody, event files for TensorBoard.
#pragma once

#include <cstdint>
#include <filesystem>

#include "hyena/io/file_writer.h"
#include "hyena/io/json.h"
#include "hyena/io/tensorboard.h"

namespace hyena::train {

/// Appends lines to `<folder>/metrics.jsonl` and their numbers to an event file, each flushed.
class Metrics {
 public:
  /// Opens the record of a run that continues after `step` (0: a new one). Lines of later steps,
  /// written by a process that was killed before its next checkpoint, and a torn last line are
  /// removed first: no step stands there twice.
  Metrics(const std::filesystem::path& folder, std::int64_t step);

  /// `line` has an integer "step"; its other numbers become scalars of the same names.
  void write(const io::Json& line);

 private:
  io::FileWriter lines_;
  io::EventWriter events_;
};

/// The part of a metrics file that a resumed run keeps: whole lines of steps up to `step`.
[[nodiscard]] std::string lines_until(std::string_view text, std::int64_t step);

}  // namespace hyena::train
