#include "hyena/io/safetensors.h"

#include <cstring>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/io/temporary_folder.h"

namespace hyena::io {
namespace {

using testing_support::listing;
using testing_support::message_of;
using testing_support::read_text;
using testing_support::TemporaryFolder;
using testing_support::write_text;

std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A file from its parts, right or wrong.
std::string assembled(const std::string& header, const std::string& data) {
  const std::uint64_t size = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &size, 8);
  return file + header + data;
}

/// What must not change unnoticed: everything but names and metadata.
std::vector<std::string> contents(const SafetensorsFile& file) {
  std::vector<std::string> list;
  for (const TensorView& tensor : file.tensors()) {
    std::string shape;
    for (const std::int64_t size : tensor.shape) {
      shape += std::to_string(size) + ",";
    }
    list.push_back(
        fmt::format("{} [{}] {}", dtype_name(tensor.dtype), shape, text_of(tensor.data)));
  }
  return list;
}

class Safetensors : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& bytes) const {
    write_text(folder_ / "t.safetensors", bytes);
    return folder_ / "t.safetensors";
  }

  /// The error for a file of this header and data, without the path.
  std::string error_of(const std::string& header, const std::string& data) const {
    const std::filesystem::path path = write(assembled(header, data));
    const std::string message = message_of<UserError>([&] { SafetensorsFile file(path); });
    const std::string prefix = path.string() + ": ";
    EXPECT_TRUE(message.starts_with(prefix)) << message;
    return message.substr(std::min(prefix.size(), message.size()));
  }

  SafetensorsFile open(const std::string& header, const std::string& data) const {
    return SafetensorsFile(write(assembled(header, data)));
  }

  TemporaryFolder folder_;
};

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape,
                     offsets);
}

/// One tensor of every dtype, an empty one, a scalar, and awkward names.
struct Sample {
  std::vector<std::string> data;
  std::vector<TensorView> views;

  Sample() {
    std::vector<std::pair<DType, std::vector<std::int64_t>>> kinds;
    for (int dtype = 0; dtype <= static_cast<int>(DType::kC64); ++dtype) {
      kinds.emplace_back(static_cast<DType>(dtype), std::vector<std::int64_t>{3, dtype % 3 + 1});
    }
    kinds.emplace_back(DType::kF32, std::vector<std::int64_t>{});
    kinds.emplace_back(DType::kF16, std::vector<std::int64_t>{4, 0, 2});
    for (const auto& [dtype, shape] : kinds) {
      const std::int64_t count =
          std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
      std::string bytes;
      for (std::int64_t i = 0; i < count * dtype_bytes(dtype); ++i) {
        bytes += static_cast<char>(static_cast<unsigned char>(37 * i + 11 * std::ssize(data)));
      }
      data.push_back(bytes);
    }
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      views.push_back({.name = fmt::format("t\"{}\\\n\xC3\xA9", i),
                       .dtype = kinds[i].first,
                       .shape = kinds[i].second,
                       .data = as_bytes(data[i])});
    }
  }
};

TEST_F(Safetensors, RoundTripsEveryDType) {
  const Sample sample;
  const Metadata metadata{{"format", "pt"}, {"config", R"({"a": "b"})"}};
  write_safetensors(folder_ / "a", sample.views, metadata);
  const SafetensorsFile file(folder_ / "a");
  EXPECT_EQ(file.metadata(), metadata);
  ASSERT_EQ(file.tensors().size(), sample.views.size());
  for (const TensorView& expected : sample.views) {
    const TensorView* found = file.find(expected.name);
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->dtype, expected.dtype);
    EXPECT_EQ(found->shape, expected.shape);
    EXPECT_EQ(text_of(found->data), text_of(expected.data));
  }
  EXPECT_EQ(file.find("no such"), nullptr);
  EXPECT_EQ(listing(folder_.path()), "a");
}

TEST_F(Safetensors, WritesTheDocumentedBytes) {
  const std::string one = "\1";
  const std::string four = "abcd";
  const std::vector<TensorView> views{
      {.name = "z", .dtype = DType::kBool, .shape = {1}, .data = as_bytes(one)},
      {.name = "y", .dtype = DType::kF32, .shape = {}, .data = as_bytes(four)},
      {.name = "x", .dtype = DType::kU8, .shape = {1, 1}, .data = as_bytes(one)}};
  write_safetensors(folder_ / "a", views, {{"k", "v"}});
  std::string header = R"({"__metadata__":{"k":"v"},)" + entry("y", "F32", "[]", "[0,4]") + "," +
                       entry("x", "U8", "[1,1]", "[4,5]") + "," +
                       entry("z", "BOOL", "[1]", "[5,6]") + "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  EXPECT_EQ(read_text(folder_ / "a"), assembled(header, "abcd\1\1"));
  write_safetensors(folder_ / "none", {});
  EXPECT_EQ(SafetensorsFile(folder_ / "none").tensors().size(), 0U);
}

TEST_F(Safetensors, WriterRefusesWhatItCannotSay) {
  const std::string four = "abcd";
  const auto error = [&](std::vector<TensorView> views, const Metadata& metadata = {}) {
    return message_of<UserError>([&] { write_safetensors(folder_ / "a", views, metadata); });
  };
  const std::string cannot = "cannot write " + (folder_ / "a").string() + ": ";
  const TensorView good{.name = "x", .dtype = DType::kF32, .shape = {1}, .data = as_bytes(four)};
  EXPECT_EQ(error({good, good}), cannot + "the tensor name 'x' is taken");
  TensorView bad = good;
  bad.name = "__metadata__";
  EXPECT_EQ(error({bad}), cannot + "the tensor name '__metadata__' is taken");
  bad = good;
  bad.shape = {2};
  EXPECT_EQ(error({bad}), cannot + "tensor 'x' has 4 bytes, which is not F32 of shape [2]");
  bad.shape = {-1};
  EXPECT_EQ(error({bad}), cannot + "tensor 'x' has 4 bytes, which is not F32 of shape [-1]");
  bad = good;
  bad.name = "\xff";
  EXPECT_EQ(error({bad}), cannot + "'\xff' is not UTF-8");
  EXPECT_EQ(error({good}, {{"k", "\xff"}}), cannot + "'\xff' is not UTF-8");
  EXPECT_EQ(listing(folder_.path()), "");
}

TEST_F(Safetensors, AcceptsWhatTheReferenceAccepts) {
  const std::string a = entry("a", "F32", "[1]", "[0,4]");
  const std::string b = entry("b", "U8", "[2]", "[4,6]");
  EXPECT_EQ(open("{" + b + "," + a + "}", "abcdef").tensors().front().name, "a");
  EXPECT_EQ(open(" \n{" + a + "}\t  ", "abcd").tensors().size(), 1U);
  EXPECT_EQ(open("{}", "").tensors().size(), 0U);
  EXPECT_EQ(
      open(R"({"a":{"x":1,"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "a").tensors().size(),
      1U);
  EXPECT_EQ(open("{" + entry("s", "F64", "[]", "[0,8]") + "}", "12345678").tensors()[0].shape,
            std::vector<std::int64_t>{});
  // Unaligned: a byte in front of a float; an empty tensor between two others.
  const SafetensorsFile file =
      open("{" + entry("u", "U8", "[1]", "[0,1]") + "," + entry("e", "F32", "[0,7]", "[1,1]") +
               "," + entry("f", "F32", "[1]", "[1,5]") + "}",
           "1abcd");
  EXPECT_EQ(text_of(file.find("f")->data), "abcd");
  EXPECT_EQ(file.find("e")->data.size(), 0U);
}

TEST_F(Safetensors, RefusesEveryBrokenRule) {
  const std::string a = entry("a", "F32", "[1]", "[0,4]");
  // Tiling of the data.
  EXPECT_EQ(error_of("{" + entry("a", "U8", "[1]", "[1,2]") + "}", "ab"),
            "tensor 'a': a hole in the data before it");
  EXPECT_EQ(error_of("{" + a + "," + entry("b", "U8", "[2]", "[3,5]") + "}", "abcde"),
            "tensor 'b': overlaps the tensor before it");
  EXPECT_EQ(error_of("{" + a + "," + entry("b", "F32", "[1]", "[0,4]") + "}", "abcd"),
            "tensor 'b': overlaps the tensor before it");
  EXPECT_EQ(error_of("{" + a + "," + entry("e", "F32", "[0]", "[2,2]") + "}", "abcd"),
            "tensor 'e': overlaps the tensor before it");
  EXPECT_EQ(error_of("{" + a + "}", "abcde"), "1 bytes behind the last tensor");
  EXPECT_EQ(error_of("{}", "a"), "1 bytes behind the last tensor");
  EXPECT_EQ(error_of("{" + a + "}", "abc"),
            "tensor 'a': ends at byte 4 of the data, which has 3: is the file cut short?");
  // Shapes and offsets.
  EXPECT_EQ(error_of("{" + entry("a", "F32", "[2]", "[0,4]") + "}", "abcd"),
            "tensor 'a': F32 of shape [2] takes 8 bytes, but data_offsets hold 4");
  EXPECT_EQ(error_of("{" + entry("a", "F32", "[4611686018427387905,4]", "[0,16]") + "}", "abcd"),
            "tensor 'a': F32 of shape [4611686018427387905, 4] takes more than 2^63 bytes, but "
            "data_offsets hold 16");
  EXPECT_EQ(error_of("{" + entry("a", "U8", "[1]", "[1,0]") + "}", "a"),
            "tensor 'a': data_offsets [1, 0]: expected [begin, end]");
  EXPECT_EQ(error_of("{" + entry("a", "U8", "[1]", "[0]") + "}", "a"),
            "tensor 'a': data_offsets [0]: expected [begin, end]");
  for (const char* bad : {"[-1]", "[1.0]", "[18446744073709551615]", "[1e3]", "[\"1\"]", "1", "{}",
                          "null", "[99999999999999999999]", "[true]"}) {
    EXPECT_EQ(error_of("{" + entry("a", "U8", bad, "[0,1]") + "}", "a"),
              "tensor 'a': shape: expected a list of non-negative integers")
        << bad;
    EXPECT_EQ(error_of("{" + entry("a", "U8", "[1]", bad) + "}", "a"),
              "tensor 'a': data_offsets: expected a list of non-negative integers")
        << bad;
  }
  // Entries.
  EXPECT_EQ(error_of("{" + entry("a", "F33", "[1]", "[0,4]") + "}", "abcd"),
            "tensor 'a': unknown dtype \"F33\"");
  EXPECT_EQ(error_of(R"({"a":{"dtype":3,"shape":[1],"data_offsets":[0,4]}})", "abcd"),
            "tensor 'a': unknown dtype 3");
  EXPECT_EQ(error_of(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", "abcd"),
            "tensor 'a': no 'dtype'");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","data_offsets":[0,4]}})", "abcd"),
            "tensor 'a': no 'shape'");
  EXPECT_EQ(error_of(R"({"a":{"dtype":"U8","shape":[4]}})", "abcd"),
            "tensor 'a': no 'data_offsets'");
  EXPECT_EQ(error_of(R"({"a":7})", ""), "tensor 'a': no 'dtype'");
  EXPECT_EQ(error_of("{" + a + "," + a + "}", "abcd"), "header: the key 'a' occurs twice");
  EXPECT_EQ(error_of(R"({"__metadata__":{"k":1}})", ""), "__metadata__: 'k' is not a string");
  EXPECT_EQ(error_of(R"({"__metadata__":[]})", ""), "__metadata__: expected an object");
  // JSON.
  EXPECT_EQ(error_of("[]", ""), "the header is not a JSON object");
  EXPECT_TRUE(error_of("", "").starts_with("header:1:1: "));
  EXPECT_TRUE(error_of("{" + a + "} x", "abcd").starts_with("header:1:"));
  EXPECT_TRUE(error_of("{\"\xff\":1}", "").starts_with("header:1:"));
  EXPECT_EQ(error_of("{\"a\":" + std::string(3'000'000, '[') + "}", ""),
            "header: nested deeper than 100 levels");
}

TEST_F(Safetensors, RefusesImpossibleHeaderSizes) {
  const auto error = [&](const std::string& bytes) {
    const std::filesystem::path path = write(bytes);
    return message_of<UserError>([&] { SafetensorsFile file(path); })
        .substr(path.string().size() + 2);
  };
  EXPECT_EQ(error(""), "0 bytes are too few for a safetensors file");
  EXPECT_EQ(error("1234567"), "7 bytes are too few for a safetensors file");
  std::string file = assembled("{}", "");
  const auto with_size = [&](std::uint64_t size) {
    std::memcpy(file.data(), &size, 8);
    return file;
  };
  EXPECT_EQ(error(with_size(3)), "the header has 3 bytes, the file only 2 more: is it cut short?");
  EXPECT_EQ(error(with_size(100'000'001)),
            "not a safetensors file (its header would have 100000001 bytes, the limit is "
            "100000000)");
  error(with_size(UINT64_MAX));
}

TEST_F(Safetensors, TruncationAtEveryByteIsRefused) {
  const Sample sample;
  write_safetensors(folder_ / "a", sample.views, {{"config", "{}"}});
  const std::string whole = read_text(folder_ / "a");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const std::filesystem::path path = write(whole.substr(0, size));
    message_of<UserError>([&] { SafetensorsFile file(path); });
  }
}

/// Nothing protects the letters of names and metadata from a flipped bit, nor the other dimensions
/// of an empty tensor (absent here); everything else either is refused or means the same.
TEST_F(Safetensors, AFlippedHeaderBitIsRefusedOrHarmless) {
  Sample sample;
  sample.views.pop_back();
  write_safetensors(folder_ / "a", sample.views, {{"config", "{}"}});
  const std::string whole = read_text(folder_ / "a");
  const std::vector<std::string> expected = contents(SafetensorsFile(folder_ / "a"));
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, whole.data(), 8);
  int refused = 0;
  int harmless = 0;
  for (std::size_t at = 0; at < 8 + header_bytes; ++at) {
    for (unsigned pattern : {0x01U, 0x02U, 0x04U, 0x08U, 0x10U, 0x20U, 0x40U, 0x80U, 0xFFU}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ pattern);
      try {
        const SafetensorsFile file(write(bytes));
        ASSERT_EQ(contents(file), expected) << "byte " << at << " pattern " << pattern;
        ++harmless;
      } catch (const UserError& error) {
        ASSERT_EQ(std::string(error.what()).find('\n'), std::string::npos);
        ++refused;
      }
    }
  }
  fmt::print("{} flips refused, {} harmless (letters of names and of metadata)\n", refused,
             harmless);
  EXPECT_GT(refused, 5000);
}

TEST_F(Safetensors, AHundredThousandNamesOpenAtOnce) {
  std::string header = "{";
  for (int i = 0; i < 100'000; ++i) {
    header += entry("tensor." + std::to_string(i), "U8", "[0]", "[0,0]") + ",";
  }
  header.back() = '}';
  EXPECT_EQ(open(header, "").tensors().size(), 100'000U);
}

TEST_F(Safetensors, ViewsSurviveMovingTheFile) {
  SafetensorsFile file = open("{" + entry("a", "U8", "[3]", "[0,3]") + "}", "abc");
  const SafetensorsFile moved = std::move(file);
  EXPECT_EQ(text_of(moved.find("a")->data), "abc");
}

}  // namespace
}  // namespace hyena::io
