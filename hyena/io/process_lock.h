// A lock that one process holds, and the kernel releases when it ends, however it ends.
#pragma once

#include <filesystem>

namespace hyena::io {

/// Takes the flock of a file, which is created, or of a folder that exists; does not wait.
class ProcessLock {
 public:
  /// @throws RunError that names the path if it cannot be opened.
  explicit ProcessLock(const std::filesystem::path& path);
  ~ProcessLock();
  ProcessLock(const ProcessLock&) = delete;
  ProcessLock& operator=(const ProcessLock&) = delete;

  /// False if another process, or another lock of this one, has it.
  [[nodiscard]] bool is_held() const { return is_held_; }

 private:
  int descriptor_;
  bool is_held_ = false;
};

}  // namespace hyena::io
