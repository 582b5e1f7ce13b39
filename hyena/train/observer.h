// What a run tells while it goes on. The trainer prints nothing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "hyena/eval/perplexity.h"

namespace hyena::train {

struct LogEntry {
  std::int64_t step = 0;
  double loss = 0.0;  ///< mean since the last entry
  double lr = 0.0;
  double gradient_norm = 0.0;
  double tokens_per_s = 0.0;  ///< since the last entry, evaluation and checkpoints not counted
  double seconds_left = 0.0;
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_start(std::int64_t /*step*/, std::int64_t /*max_steps*/) {}
  virtual void on_step(std::int64_t /*step*/) {}
  virtual void on_log(const LogEntry& /*entry*/) {}
  virtual void on_evaluation(std::int64_t /*step*/, const eval::Score& /*score*/) {}
  virtual void on_checkpoint(const std::filesystem::path& /*checkpoint*/) {}
  /// Asked after every step: true makes the run save its state and return.
  virtual bool stop_requested() { return false; }
};

}  // namespace hyena::train
