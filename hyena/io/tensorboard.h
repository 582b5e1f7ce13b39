// TensorBoard event files, without protobuf.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "hyena/io/file_writer.h"

namespace hyena::io {

/// Writes scalars that TensorBoard shows. Every object makes a file of its own,
/// `<folder>/events.out.tfevents.<seconds>.<host>.<pid>.<counter>`: TensorBoard joins the files of
/// a folder, so resuming a run simply adds one.
class EventWriter {
 public:
  /// Creates the folder if it is missing. @throws RunError if that or a write fails.
  explicit EventWriter(const std::filesystem::path& folder);

  /// Adds one point and flushes it to the file.
  void add_scalar(std::string_view tag, std::int64_t step, double value);

  [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }

 private:
  void write_record(std::string_view payload);

  FileWriter file_;
};

/// CRC-32C (Castagnoli) of `bytes`; crc32c("123456789") == 0xe3069283.
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes);

}  // namespace hyena::io
