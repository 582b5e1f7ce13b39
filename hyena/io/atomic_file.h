// Files and folders that appear whole or not at all: a kill -9 or a full disk at any moment leaves
// what stood there before.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "hyena/io/file_writer.h"

namespace hyena::io {

/// A file under construction: written to the sibling `.<name>.tmp-<pid>`, moved into place by
/// commit(). Without commit() the destructor removes the sibling. Siblings left by processes that
/// no longer run are removed when the same file is written again.
///
/// @throws RunError that names path and reason (permission, disk full, no folder, device or pipe).
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  [[nodiscard]] FileWriter& writer() { return writer_; }
  /// fsync, close, rename over the target, fsync of the folder.
  void commit();

 private:
  std::filesystem::path target_;
  FileWriter writer_;
  bool committed_ = false;
};

/// Replaces `path` by a file of these bytes.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// The same with the bytes that `fill` writes; an exception from `fill` leaves the old file.
void write_file_atomically(const std::filesystem::path& path,
                           const std::function<void(FileWriter&)>& fill);

enum class IfExists {
  kFail,     ///< RunError, and the old one stays
  kReplace,  ///< the old one stays until the new one is whole, then goes
};

/// A folder under construction: fill path(), then commit().
///
/// commit() fsyncs everything below and renames the temporary sibling `.<name>.tmp-<pid>` into
/// place. The destructor removes what was not committed. Leftovers of dead processes are removed
/// as for AtomicFile.
class AtomicDirectory {
 public:
  /// Creates the temporary folder; missing parents of `target` are created too.
  explicit AtomicDirectory(const std::filesystem::path& target);
  ~AtomicDirectory();
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;

  /// The temporary folder to write into.
  [[nodiscard]] const std::filesystem::path& path() const { return temporary_; }
  void commit(IfExists if_exists = IfExists::kFail);

 private:
  std::filesystem::path target_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

/// Creates a folder and its missing parents. @throws RunError that names the path and the reason.
void make_directories(const std::filesystem::path& path);

}  // namespace hyena::io
