// The safetensors format: named tensors in one file, mapped, not copied.
//
//   u64 little-endian N | N bytes of JSON | data
//   JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...,
//          "__metadata__": {string: string}}
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hyena/io/mapped_file.h"

namespace hyena::io {

enum class DType {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kU16,
  kI16,
  kF16,
  kBF16,
  kU32,
  kI32,
  kF32,
  kU64,
  kI64,
  kF64,
  kC64,
};

[[nodiscard]] std::int64_t dtype_bytes(DType dtype);     ///< 1, 2, 4 or 8
[[nodiscard]] std::string_view dtype_name(DType dtype);  ///< as in the file: "BF16"

/// A tensor that lives elsewhere: row-major, little-endian, **not necessarily aligned**.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;  ///< empty: a scalar
  std::span<const std::byte> data;
};

using Metadata = std::map<std::string, std::string>;

/// An open safetensors file. The views stay valid as long as the object (moving it is fine).
class SafetensorsFile {
 public:
  /// Maps and checks the whole header; the data is not read.
  ///
  /// @throws UserError, one line that names the file and what is wrong: not a regular file, short,
  ///   header above 100,000,000 bytes, not JSON or not UTF-8, a repeated name, an unknown dtype, a
  ///   negative or overflowing shape, offsets that do not fit the shape, a hole, an overlap,
  ///   trailing bytes, metadata that is not a string. Extra keys of an entry are ignored.
  explicit SafetensorsFile(const std::filesystem::path& path);

  /// In the order of the data.
  [[nodiscard]] const std::vector<TensorView>& tensors() const { return tensors_; }
  /// nullptr if there is none of that name. O(log n).
  [[nodiscard]] const TensorView* find(std::string_view name) const;
  [[nodiscard]] const Metadata& metadata() const { return metadata_; }
  [[nodiscard]] const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  Metadata metadata_;
};

/// Writes a file that SafetensorsFile and the reference implementation read; atomic.
///
/// Tensors are stored by falling size of their dtype, then by name; the header is padded with
/// spaces so that the data starts at a multiple of 8. Equal input gives equal bytes.
/// @throws UserError for a repeated name, the name "__metadata__", text that is not UTF-8, or data
///   whose size is not that of shape and dtype; RunError if writing fails.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata = {});

}  // namespace hyena::io
