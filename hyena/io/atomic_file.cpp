#include "hyena/io/atomic_file.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <string>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "hyena/base/error.h"

namespace hyena::io {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, int error) {
  throw run_error("cannot write {}: {}", path.string(), errno_text(error));
}

/// "runs/a/" and "runs/a" name the same folder.
fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

std::string temporary_prefix(const fs::path& target) {
  return fmt::format(".{}.tmp-", target.filename().string());
}

bool is_running(pid_t pid) {
  return ::kill(pid, 0) == 0 || errno != ESRCH;
}

/// Removes temporaries of this target whose process is gone, or was given our own number.
void remove_leftovers(const fs::path& target) {
  const std::string prefix = temporary_prefix(target);
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_of(target), ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) {
      continue;
    }
    const char* end = name.data() + name.size();
    pid_t pid = 0;
    const auto parsed = std::from_chars(name.data() + prefix.size(), end, pid);
    const bool is_ours = parsed.ec == std::errc() && parsed.ptr == end && pid > 0;
    if (is_ours && (pid == ::getpid() || !is_running(pid))) {
      fs::remove_all(entry.path(), ignored);
    }
  }
}

/// A rename would put a file in the place of a device or pipe: /dev/null, for root.
void refuse_special(const fs::path& target) {
  std::error_code error;
  const fs::file_status status = fs::status(target, error);
  if (fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status)) {
    throw run_error("cannot write {}: expected a regular file, got a device or pipe",
                    target.string());
  }
}

/// The path to write `target` at until it is whole.
fs::path prepare_temporary(const fs::path& target) {
  refuse_special(target);
  remove_leftovers(target);
  return folder_of(target) / (temporary_prefix(target) + std::to_string(::getpid()));
}

void sync_path(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    fail(path, errno);
  }
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  if (error != 0 && error != EINVAL) {  // EINVAL: this file system cannot sync a folder
    fail(path, error);
  }
}

void sync_tree(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_symlink()) {
      sync_path(entry.path());
    }
  }
  sync_path(folder);
}

/// renameat2 with `flags`; returns 0 or errno.
int rename_with(const fs::path& from, const fs::path& to, unsigned flags) {
  return ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags) == 0 ? 0 : errno;
}

bool is_unsupported(int error) {
  return error == EINVAL || error == ENOSYS;
}

void move_to_free_place(const fs::path& from, const fs::path& to) {
  int error = rename_with(from, to, RENAME_NOREPLACE);
  if (is_unsupported(error)) {  // NFS: no atomic test, so test before
    error = fs::exists(fs::symlink_status(to)) ? EEXIST : rename_with(from, to, 0);
  }
  if (error != 0) {
    fail(to, error);
  }
}

void exchange(const fs::path& fresh, const fs::path& target) {
  const int error = rename_with(fresh, target, RENAME_EXCHANGE);
  if (error == 0) {
    return;
  }
  if (error == ENOENT) {
    move_to_free_place(fresh, target);
    return;
  }
  if (!is_unsupported(error)) {
    fail(target, error);
  }
  // NFS: a kill between the first two renames leaves the old folder under the name `.old`.
  const fs::path old = folder_of(target) / fmt::format(".{}.old", target.filename().string());
  fs::remove_all(old);
  fs::rename(target, old);
  fs::rename(fresh, target);
  fs::rename(old, fresh);
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& target)
    : target_(target), writer_(prepare_temporary(target), FileWriter::Open::kTruncate) {}

AtomicFile::~AtomicFile() {
  if (!committed_) {
    std::error_code ignored;
    fs::remove(writer_.path(), ignored);
  }
}

void AtomicFile::commit() {
  writer_.sync();
  writer_.close();
  if (const int error = rename_with(writer_.path(), target_, 0); error != 0) {
    fail(target_, error);
  }
  committed_ = true;
  sync_path(folder_of(target_));
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.writer().write(bytes);
  file.commit();
}

void write_file_atomically(const fs::path& path, const std::function<void(FileWriter&)>& fill) {
  AtomicFile file(path);
  fill(file.writer());
  file.commit();
}

void make_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    throw run_error("cannot create the folder {}: {}", path.string(), error.message());
  }
}

AtomicDirectory::AtomicDirectory(const fs::path& target) : target_(without_trailing_slash(target)) {
  make_directories(folder_of(target_));
  temporary_ = prepare_temporary(target_);
  std::error_code error;
  fs::create_directory(temporary_, error);
  if (error) {
    fail(temporary_, error.value());
  }
}

AtomicDirectory::~AtomicDirectory() {
  if (!committed_) {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
}

void AtomicDirectory::commit(IfExists if_exists) {
  try {
    sync_tree(temporary_);
    if (if_exists == IfExists::kFail) {
      move_to_free_place(temporary_, target_);
    } else {
      exchange(temporary_, target_);
    }
  } catch (const fs::filesystem_error& error) {
    fail(target_, error.code().value());
  }
  committed_ = true;
  sync_path(folder_of(target_));
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);  // after an exchange: what stood there before
}

}  // namespace hyena::io
