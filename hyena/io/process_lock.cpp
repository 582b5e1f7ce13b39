#include "hyena/io/process_lock.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "hyena/base/error.h"

namespace hyena::io {

ProcessLock::ProcessLock(const std::filesystem::path& path)
    : descriptor_(std::filesystem::is_directory(path)
                      ? ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                      : ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) {
    throw run_error("cannot open {}: {}", path.string(), errno_text(errno));
  }
  // Some network file systems know no such locks: there, nobody is kept out.
  is_held_ = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

ProcessLock::~ProcessLock() {
  ::close(descriptor_);
}

}  // namespace hyena::io
