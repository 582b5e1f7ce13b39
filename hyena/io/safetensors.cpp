#include "hyena/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/io/atomic_file.h"
#include "hyena/io/json_guard.h"

namespace hyena::io {
namespace {

static_assert(std::endian::native == std::endian::little, "the data is mapped as it lies");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr std::string_view kMetadataKey = "__metadata__";

struct DTypeRow {
  DType dtype;
  std::string_view name;
  std::int64_t bytes;
};

constexpr std::array<DTypeRow, 17> kDTypes{{
    {DType::kBool, "BOOL", 1},
    {DType::kU8, "U8", 1},
    {DType::kI8, "I8", 1},
    {DType::kF8E4M3, "F8_E4M3", 1},
    {DType::kF8E5M2, "F8_E5M2", 1},
    {DType::kF8E8M0, "F8_E8M0", 1},
    {DType::kU16, "U16", 2},
    {DType::kI16, "I16", 2},
    {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2},
    {DType::kU32, "U32", 4},
    {DType::kI32, "I32", 4},
    {DType::kF32, "F32", 4},
    {DType::kU64, "U64", 8},
    {DType::kI64, "I64", 8},
    {DType::kF64, "F64", 8},
    {DType::kC64, "C64", 8},
}};

const DTypeRow& row_of(DType dtype) {
  const DTypeRow& row = kDTypes.at(static_cast<std::size_t>(dtype));
  return row;
}

/// Bytes of a tensor, or nothing if a dimension is negative or the product leaves 63 bits.
std::optional<std::int64_t> tensor_bytes(DType dtype, std::span<const std::int64_t> shape) {
  std::int64_t bytes = dtype_bytes(dtype);
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) {
      return std::nullopt;
    }
  }
  return bytes;
}

/// The header's JSON becomes tensors; errors name the file and the tensor.
class HeaderParser {
 public:
  HeaderParser(const std::filesystem::path& path, std::span<const std::byte> data)
      : path_(path.string()), data_(data) {}

  TensorView entry(const std::string& name, const nlohmann::json& fields) const {
    TensorView view;
    view.name = name;
    const nlohmann::json& dtype = field(name, fields, "dtype");
    const auto* const row =
        std::find_if(kDTypes.begin(), kDTypes.end(), [&](const DTypeRow& candidate) {
          return dtype.is_string() && candidate.name == dtype.get_ref<const std::string&>();
        });
    if (row == kDTypes.end()) {
      throw bad_entry(name, fmt::format("unknown dtype {}", dtype.dump()));
    }
    view.dtype = row->dtype;
    view.shape = integers(name, field(name, fields, "shape"), "shape");
    const std::vector<std::int64_t> offsets =
        integers(name, field(name, fields, "data_offsets"), "data_offsets");
    if (offsets.size() != 2 || offsets[0] > offsets[1]) {
      throw bad_entry(
          name, fmt::format("data_offsets [{}]: expected [begin, end]", fmt::join(offsets, ", ")));
    }
    const std::optional<std::int64_t> bytes = tensor_bytes(view.dtype, view.shape);
    if (bytes != offsets[1] - offsets[0]) {
      throw bad_entry(name, fmt::format("{} of shape [{}] takes {} bytes, but data_offsets hold {}",
                                        row->name, fmt::join(view.shape, ", "),
                                        bytes ? std::to_string(*bytes) : "more than 2^63",
                                        offsets[1] - offsets[0]));
    }
    if (offsets[1] > static_cast<std::int64_t>(data_.size())) {
      throw bad_entry(name, fmt::format("ends at byte {} of the data, which has {}: is the file "
                                        "cut short?",
                                        offsets[1], data_.size()));
    }
    view.data = data_.subspan(static_cast<std::size_t>(offsets[0]),
                              static_cast<std::size_t>(offsets[1] - offsets[0]));
    return view;
  }

  Metadata metadata(const nlohmann::json& fields) const {
    if (!fields.is_object()) {
      throw user_error("{}: {}: expected an object", path_, kMetadataKey);
    }
    Metadata metadata;
    for (const auto& [key, value] : fields.items()) {
      if (!value.is_string()) {
        throw user_error("{}: {}: '{}' is not a string", path_, kMetadataKey, one_line(key, 100));
      }
      metadata.emplace(key, value.get<std::string>());
    }
    return metadata;
  }

  /// Sorts by position and checks that the tensors tile the data.
  void check_tiling(std::vector<TensorView>& tensors) const {
    std::stable_sort(tensors.begin(), tensors.end(), [](const TensorView& a, const TensorView& b) {
      return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
    });
    const std::byte* next = data_.data();
    for (const TensorView& tensor : tensors) {
      if (tensor.data.data() != next) {
        throw bad_entry(tensor.name, tensor.data.data() > next ? "a hole in the data before it"
                                                               : "overlaps the tensor before it");
      }
      next += tensor.data.size();
    }
    if (const auto rest = data_.data() + data_.size() - next; rest != 0) {
      throw user_error("{}: {} bytes behind the last tensor", path_, rest);
    }
  }

 private:
  UserError bad_entry(const std::string& name, const std::string& reason) const {
    return user_error("{}: tensor '{}': {}", path_, one_line(name, 100), one_line(reason));
  }

  const nlohmann::json& field(const std::string& name, const nlohmann::json& fields,
                              const char* key) const {
    if (!fields.is_object() || !fields.contains(key)) {
      throw bad_entry(name, fmt::format("no '{}'", key));
    }
    return fields[key];
  }

  std::vector<std::int64_t> integers(const std::string& name, const nlohmann::json& list,
                                     const char* key) const {
    std::vector<std::int64_t> values;
    for (const nlohmann::json& value : list.is_array() ? list : nlohmann::json::array({-1})) {
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() > INT64_MAX) {
        throw bad_entry(name, fmt::format("{}: expected a list of non-negative integers", key));
      }
      values.push_back(value.get<std::int64_t>());
    }
    return values;
  }

  std::string path_;
  std::span<const std::byte> data_;
};

}  // namespace

std::int64_t dtype_bytes(DType dtype) {
  return row_of(dtype).bytes;
}

std::string_view dtype_name(DType dtype) {
  return row_of(dtype).name;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) {
    throw user_error("{}: {} bytes are too few for a safetensors file", path.string(),
                     bytes.size());
  }
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  if (header_bytes > kMaxHeaderBytes) {
    throw user_error("{}: not a safetensors file (its header would have {} bytes, the limit is {})",
                     path.string(), header_bytes, kMaxHeaderBytes);
  }
  if (header_bytes > bytes.size() - sizeof header_bytes) {
    throw user_error("{}: the header has {} bytes, the file only {} more: is it cut short?",
                     path.string(), header_bytes, bytes.size() - sizeof header_bytes);
  }
  const auto header = parse_guarded<nlohmann::json>(
      file_.text().substr(sizeof header_bytes, header_bytes), path.string() + ": header");
  if (!header.is_object()) {
    throw user_error("{}: the header is not a JSON object", path.string());
  }
  const HeaderParser parser(path, bytes.subspan(sizeof header_bytes + header_bytes));
  for (const auto& [name, fields] : header.items()) {
    if (name == kMetadataKey) {
      metadata_ = parser.metadata(fields);
    } else {
      tensors_.push_back(parser.entry(name, fields));
    }
  }
  parser.check_tiling(tensors_);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    index_.emplace(tensors_[i].name, i);
  }
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

namespace {

/// `text` as a JSON string.
std::string quoted(const std::string& text, const std::filesystem::path& path) {
  if (!is_utf8(text)) {
    throw user_error("cannot write {}: '{}' is not UTF-8", path.string(), one_line(text, 100));
  }
  return nlohmann::json(text).dump();
}

std::vector<const TensorView*> in_file_order(std::span<const TensorView> tensors,
                                             const std::filesystem::path& path) {
  std::vector<const TensorView*> order;
  for (const TensorView& tensor : tensors) {
    const auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
    if (bytes != static_cast<std::int64_t>(tensor.data.size())) {
      throw user_error("cannot write {}: tensor '{}' has {} bytes, which is not {} of shape [{}]",
                       path.string(), tensor.name, tensor.data.size(), dtype_name(tensor.dtype),
                       fmt::join(tensor.shape, ", "));
    }
    order.push_back(&tensor);
  }
  const auto key = [](const TensorView* tensor) {
    return std::pair<std::int64_t, std::string_view>(-dtype_bytes(tensor->dtype), tensor->name);
  };
  std::sort(order.begin(), order.end(),
            [&](const TensorView* a, const TensorView* b) { return key(a) < key(b); });
  std::map<std::string_view, int> seen;
  for (const TensorView* tensor : order) {
    if (++seen[tensor->name] > 1 || tensor->name == kMetadataKey) {
      throw user_error("cannot write {}: the tensor name '{}' is taken", path.string(),
                       one_line(tensor->name, 100));
    }
  }
  return order;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata) {
  const std::vector<const TensorView*> order = in_file_order(tensors, path);
  std::vector<std::string> members;
  if (!metadata.empty()) {
    std::vector<std::string> pairs;
    for (const auto& [key, value] : metadata) {
      pairs.push_back(fmt::format("{}:{}", quoted(key, path), quoted(value, path)));
    }
    members.push_back(fmt::format("\"{}\":{{{}}}", kMetadataKey, fmt::join(pairs, ",")));
  }
  std::size_t offset = 0;
  for (const TensorView* tensor : order) {
    const std::size_t end = offset + tensor->data.size();
    members.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  quoted(tensor->name, path), dtype_name(tensor->dtype),
                                  fmt::join(tensor->shape, ","), offset, end));
    offset = end;
  }
  std::string header = fmt::format("{{{}}}", fmt::join(members, ","));
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > kMaxHeaderBytes) {
    throw user_error("cannot write {}: the header would have {} bytes, the limit is {}",
                     path.string(), header.size(), kMaxHeaderBytes);
  }
  const std::uint64_t header_bytes = header.size();
  write_file_atomically(path, [&](FileWriter& out) {
    out.write(std::as_bytes(std::span(&header_bytes, 1)));
    out.write(header);
    for (const TensorView* tensor : order) {
      out.write(tensor->data);
    }
  });
}

}  // namespace hyena::io
