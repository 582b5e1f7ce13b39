// Read-only memory mapping of a file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace hyena::io {

/// The bytes of a regular file, mapped: opening costs no reading, pages come as they are touched,
/// and the kernel may drop them again. The file must not be shortened while it is mapped (the
/// process would get SIGBUS); files that this library writes are replaced, never shortened.
class MappedFile {
 public:
  enum class Empty { kAllowed, kRefused };

  /// @throws UserError that names the path: missing, a folder or device, no permission, or empty
  ///   where that is refused.
  explicit MappedFile(const std::filesystem::path& path, Empty empty = Empty::kAllowed);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }
  [[nodiscard]] std::string_view text() const;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace hyena::io
