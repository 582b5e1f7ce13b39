// Files of the reference implementation hold exactly what their index lists.
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "hyena/io/json.h"
#include "hyena/io/safetensors.h"

namespace hyena::io {
namespace {

std::optional<std::filesystem::path> fixtures_folder() {
  const char* named = std::getenv("HYENA_FIXTURES");  // NOLINT(concurrency-mt-unsafe): no setenv
  const std::filesystem::path folder = named != nullptr ? named : "../shared/fixtures";
  return std::filesystem::exists(folder / "index.json") ? std::optional(folder) : std::nullopt;
}

TEST(SafetensorsFixtures, HoldExactlyTheListedTensors) {
  const auto folder = fixtures_folder();
  if (!folder) {
    GTEST_SKIP() << "no HYENA_FIXTURES and no ../shared/fixtures: 0 entries compared";
  }
  const std::map<std::string, DType> dtypes{{"float16", DType::kF16},   {"bfloat16", DType::kBF16},
                                            {"float32", DType::kF32},   {"float64", DType::kF64},
                                            {"int32", DType::kI32},     {"int64", DType::kI64},
                                            {"complex64", DType::kC64}, {"bool", DType::kBool}};
  int entries = 0;
  std::size_t tensors = 0;
  const Json index = read_json(*folder / "index.json");
  for (const auto& [name, entry] : index.items()) {
    const SafetensorsFile file(*folder / (name + ".safetensors"));
    EXPECT_EQ(file.tensors().size(), entry["tensors"].size()) << name;
    for (const auto& [tensor_name, expected] : entry["tensors"].items()) {
      const TensorView* tensor = file.find(tensor_name);
      ASSERT_NE(tensor, nullptr) << name << ": " << tensor_name;
      EXPECT_EQ(tensor->dtype, dtypes.at(expected[0].get<std::string>())) << tensor_name;
      EXPECT_EQ(tensor->shape, expected[1].get<std::vector<std::int64_t>>()) << tensor_name;
      ++tensors;
    }
    EXPECT_EQ(parse_json(file.metadata().at("config"), name), entry["config"]) << name;
    ++entries;
  }
  EXPECT_GT(entries, 0);
  fmt::print("safetensors fixtures: {} entries, {} tensors compared, 0 skipped\n", entries,
             tensors);
}

TEST(SafetensorsFixtures, OpenEveryOtherFile) {
  const auto folder = fixtures_folder();
  if (!folder) {
    GTEST_SKIP() << "no HYENA_FIXTURES and no ../shared/fixtures: 0 files opened";
  }
  int files = 0;
  for (const auto& item : std::filesystem::recursive_directory_iterator(*folder)) {
    if (item.path().extension() == ".safetensors") {
      EXPECT_GT(SafetensorsFile(item.path()).tensors().size(), 0U) << item.path();
      ++files;
    }
  }
  fmt::print("safetensors fixtures: {} files opened\n", files);
}

}  // namespace
}  // namespace hyena::io
