// A file descriptor that reports every failed write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace hyena::io {

/// Writes a file through a buffer of 64 KiB. std::ofstream loses errno and lets a failing close
/// pass; a full disk often shows only there.
///
/// Every member throws RunError "cannot write <path>: No space left on device (...)" on failure.
class FileWriter {
 public:
  enum class Open {
    kTruncate,  ///< a new file, or an emptied old one
    kAppend,    ///< at the end of the old one
    kNew,       ///< RunError if the file exists
  };

  /// Creates or opens `path`; its folder must exist.
  FileWriter(std::filesystem::path path, Open open);
  ~FileWriter();  ///< closes without flushing: call close(), or the tail is lost on purpose
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;

  void write(std::string_view bytes);
  void write(std::span<const std::byte> bytes);
  /// Overwrites bytes that were written before, at `offset` from the start of the file.
  void write_at(std::int64_t offset, std::string_view bytes);
  void flush();  ///< hands the buffer to the kernel
  void sync();   ///< flush, then fsync
  void close();  ///< flush, then close; further writes are an error of the program

  [[nodiscard]] std::int64_t size() const { return size_; }  ///< bytes written by this object
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  void write_through(const char* bytes, std::size_t count);

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::string buffer_;
  std::int64_t size_ = 0;
};

}  // namespace hyena::io
