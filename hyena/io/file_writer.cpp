#include "hyena/io/file_writer.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

#include "hyena/base/error.h"

namespace hyena::io {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{64} * 1024;

[[noreturn]] void fail(const std::filesystem::path& path, int error) {
  throw run_error("cannot write {}: {}", path.string(), errno_text(error));
}

}  // namespace

FileWriter::FileWriter(std::filesystem::path path, Open open) : path_(std::move(path)) {
  const int how = open == Open::kAppend ? O_APPEND : open == Open::kNew ? O_EXCL : O_TRUNC;
  descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | how, 0666);
  if (descriptor_ < 0) {
    fail(path_, errno);
  }
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) {
    ::close(descriptor_);
  }
}

void FileWriter::write(std::string_view bytes) {
  size_ += static_cast<std::int64_t>(bytes.size());
  if (buffer_.size() + bytes.size() <= kBufferBytes) {
    buffer_.append(bytes);
    return;
  }
  flush();
  if (bytes.size() < kBufferBytes) {
    buffer_.append(bytes);
  } else {
    write_through(bytes.data(), bytes.size());
  }
}

void FileWriter::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void FileWriter::write_at(std::int64_t offset, std::string_view bytes) {
  flush();
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t wrote = ::pwrite(descriptor_, bytes.data() + done, bytes.size() - done,
                                   offset + static_cast<std::int64_t>(done));
    if (wrote < 0 && errno != EINTR) {
      fail(path_, errno);
    }
    done += wrote < 0 ? 0 : static_cast<std::size_t>(wrote);
  }
}

void FileWriter::flush() {
  // Forgotten first: after a failure the destructor and later calls must not write it twice.
  const std::string pending = std::exchange(buffer_, {});
  write_through(pending.data(), pending.size());
}

void FileWriter::write_through(const char* bytes, std::size_t count) {
  while (count > 0) {
    const ssize_t wrote = ::write(descriptor_, bytes, count);
    if (wrote < 0 && errno != EINTR) {
      fail(path_, errno);
    }
    const std::size_t advance = wrote < 0 ? 0 : static_cast<std::size_t>(wrote);
    bytes += advance;
    count -= advance;
  }
}

void FileWriter::sync() {
  flush();
  // EINVAL: pipes and devices cannot be synced and need not be.
  if (::fsync(descriptor_) != 0 && errno != EINVAL) {
    fail(path_, errno);
  }
}

void FileWriter::close() {
  flush();
  const int descriptor = std::exchange(descriptor_, -1);
  // After EINTR the descriptor is closed all the same on Linux.
  if (::close(descriptor) != 0 && errno != EINTR) {
    fail(path_, errno);
  }
}

}  // namespace hyena::io
