#include "hyena/train/run_folder.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "hyena/base/error.h"
#include "hyena/io/atomic_file.h"
#include "hyena/io/toml.h"

namespace hyena::train {
namespace fs = std::filesystem;
namespace {

std::optional<std::int64_t> step_of(const std::string& name) {
  constexpr std::string_view kPrefix = "step-";
  std::int64_t step = 0;
  const char* end = name.data() + name.size();
  if (!name.starts_with(kPrefix)) {
    return std::nullopt;
  }
  const auto parsed = std::from_chars(name.data() + kPrefix.size(), end, step);
  return parsed.ec == std::errc() && parsed.ptr == end ? std::optional(step) : std::nullopt;
}

bool is_resumable(const fs::path& checkpoint) {
  std::error_code ignored;
  return fs::exists(checkpoint / "train_state.json", ignored);
}

/// A name that find_checkpoint() and steps() do not take for a checkpoint.
constexpr std::string_view kRemoved = ".removed-";

}  // namespace

fs::path RunFolder::checkpoint(std::int64_t step) const {
  return path_ / "checkpoints" / fmt::format("step-{}", step);
}

std::vector<std::int64_t> RunFolder::steps() const {
  std::vector<std::int64_t> steps;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(path_ / "checkpoints", ignored)) {
    if (const auto step = step_of(entry.path().filename().string())) {
      steps.push_back(*step);
    }
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<fs::path> RunFolder::checkpoint_to_resume(const std::string& resume) const {
  const std::vector<std::int64_t> own = steps();
  const auto newest_own = [&] {
    return own.empty() ? std::nullopt : std::optional(checkpoint(own.back()));
  };
  std::optional<fs::path> from;
  if (resume == "auto") {
    from = newest_own();
  } else if (!resume.empty()) {
    from = fs::path(resume);
    if (const auto steps_there = RunFolder(resume).steps(); !steps_there.empty()) {
      from = RunFolder(resume).checkpoint(steps_there.back());
    }
  }
  if (from && !is_resumable(*from)) {
    throw user_error("--resume: '{}' has no train_state.json, it is no checkpoint to resume from",
                     from->string());
  }
  if (!own.empty() && (!from || !fs::equivalent(*from, *newest_own()))) {
    throw user_error(
        "'{}' already holds a run up to step {}: continue it with --resume auto, or choose another "
        "--out",
        path_.string(), own.back());
  }
  return from;
}

void RunFolder::create(const RunConfig& config) {
  io::make_directories(path_);
  lock_ = std::make_unique<io::ProcessLock>(path_);
  if (!lock_->is_held()) {
    throw user_error("another process trains in '{}': wait for its end, or take another folder",
                     path_.string());
  }
  io::write_file_atomically(path_ / "config.toml", io::write_toml(to_json(config)));
}

void RunFolder::prune(std::int64_t keep_last, std::int64_t best) const {
  std::vector<std::int64_t> old = steps();
  old.resize(old.size() - std::min(old.size(), static_cast<std::size_t>(keep_last)));
  std::error_code ignored;  // a checkpoint that cannot be removed is no reason to stop training
  for (const std::int64_t step : old) {
    if (step != best) {
      const fs::path folder = checkpoint(step);
      fs::rename(folder, folder.parent_path() / fmt::format("{}{}", kRemoved, step), ignored);
    }
  }
  for (const fs::directory_entry& entry : fs::directory_iterator(path_ / "checkpoints", ignored)) {
    if (entry.path().filename().string().starts_with(kRemoved)) {
      fs::remove_all(entry.path(), ignored);
    }
  }
}

}  // namespace hyena::train
