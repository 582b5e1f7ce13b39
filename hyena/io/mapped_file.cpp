#include "hyena/io/mapped_file.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hyena/base/error.h"

namespace hyena::io {
namespace {

/// Closes at the end of the scope; the mapping outlives the descriptor.
struct Descriptor {
  int value;
  explicit Descriptor(int descriptor) : value(descriptor) {}
  ~Descriptor() {
    if (value >= 0) {
      ::close(value);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path, Empty empty) : path_(path) {
  // O_NONBLOCK: opening a pipe without a writer must fail below, not wait here.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (file.value < 0 || ::fstat(file.value, &status) != 0) {
    throw user_error("cannot open {}: {}", path.string(), errno_text(errno));
  }
  if (S_ISDIR(status.st_mode)) {
    throw user_error("cannot open {}: expected a file, got a folder", path.string());
  }
  if (!S_ISREG(status.st_mode)) {
    throw user_error("cannot open {}: expected a regular file", path.string());
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) {  // mmap refuses a length of 0
    if (empty == Empty::kRefused) {
      throw user_error("{} is empty", path.string());
    }
    return;
  }
  void* mapping = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
  if (mapping == MAP_FAILED) {
    throw run_error("cannot map {}: {}", path.string(), errno_text(errno));
  }
  data_ = static_cast<const std::byte*>(mapping);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) {
    ::munmap(const_cast<std::byte*>(data_), size_);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

std::string_view MappedFile::text() const {
  return {reinterpret_cast<const char*>(data_), size_};
}

}  // namespace hyena::io
