// The folder of a run: what it holds, and which checkpoints stay.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "hyena/io/process_lock.h"
#include "hyena/train/config.h"

namespace hyena::train {

///     config.toml                      the resolved configuration
///     metrics.jsonl, events.out.tfevents.*
///     checkpoints/step-N/              whole at any moment
class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path checkpoint(std::int64_t step) const;
  /// Steps of the checkpoints that exist, ascending.
  [[nodiscard]] std::vector<std::int64_t> steps() const;

  /// The checkpoint that `resume` names: "" none, "auto" the newest of this folder or none, else a
  /// checkpoint or run folder.
  /// @throws UserError if that is no checkpoint to resume from, or if going on would mix two runs:
  ///   this folder already holds checkpoints, and `resume` does not continue from the newest.
  [[nodiscard]] std::optional<std::filesystem::path> checkpoint_to_resume(
      const std::string& resume) const;

  /// Creates the folder, takes it for this process and writes config.toml.
  /// @throws UserError if another process trains in it.
  void create(const RunConfig& config);

  /// Removes all checkpoints but the newest `keep_last` and the one of step `best` (-1: none).
  void prune(std::int64_t keep_last, std::int64_t best) const;

 private:
  std::filesystem::path path_;
  std::unique_ptr<io::ProcessLock> lock_;
};

}  // namespace hyena::train
