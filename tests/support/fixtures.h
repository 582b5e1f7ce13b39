// Outputs and gradients of the published code, where they are: the folder named by HYENA_FIXTURES,
// or ../shared/fixtures. Its index.json drives every test that uses them.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/io/json.h"
#include "hyena/io/safetensors.h"
#include "hyena/models/tensor_file.h"

namespace hyena::testing_support {

/// nullopt where nobody named a folder and there is none beside the checkout. A named folder
/// without an index is an error of whoever named it.
inline std::optional<std::filesystem::path> fixtures_folder() {
  const char* named = std::getenv("HYENA_FIXTURES");  // NOLINT(concurrency-mt-unsafe): no setenv
  std::filesystem::path folder = named != nullptr ? named : "../shared/fixtures";
  if (named == nullptr && !std::filesystem::exists(folder)) {
    return std::nullopt;
  }
  return folder;
}

enum class FixtureKind { kOperator, kFftconv, kLanguageModel, kHyenaDna, kUnknown };

inline FixtureKind kind_of(std::string_view entry) {
  if (entry.starts_with("operator_")) return FixtureKind::kOperator;
  if (entry == "fftconv") return FixtureKind::kFftconv;
  if (entry.starts_with("lm_") && entry.ends_with("_io")) return FixtureKind::kLanguageModel;
  if (entry == "hyenadna_io") return FixtureKind::kHyenaDna;
  return FixtureKind::kUnknown;
}

/// One entry of the index and its file.
class Fixture {
 public:
  Fixture(const std::filesystem::path& folder, std::string entry, io::Json config)
      : folder_(folder),
        entry_(std::move(entry)),
        config_(std::move(config)),
        file_(folder / (entry_ + ".safetensors")) {}

  [[nodiscard]] const std::string& entry() const { return entry_; }
  [[nodiscard]] const io::Json& config() const { return config_; }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  [[nodiscard]] at::Tensor tensor(const std::string& name) const {
    const io::TensorView* view = file_.find(name);
    EXPECT_NE(view, nullptr) << entry_ << " has no tensor " << name;
    return models::to_tensor(*view);
  }
  /// Tensors whose names begin with `prefix`, by the rest of the name.
  [[nodiscard]] std::map<std::string, at::Tensor> with_prefix(const std::string& prefix) const {
    std::map<std::string, at::Tensor> found;
    for (const io::TensorView& view : file_.tensors()) {
      if (view.name.starts_with(prefix)) {
        found.emplace(view.name.substr(prefix.size()), models::to_tensor(view));
      }
    }
    return found;
  }

 private:
  std::filesystem::path folder_;
  std::string entry_;
  io::Json config_;
  io::SafetensorsFile file_;
};

/// All entries of one kind, in the order of the index.
inline std::vector<Fixture> fixtures(const std::filesystem::path& folder, FixtureKind kind) {
  std::vector<Fixture> all;
  const io::Json index = io::read_json(folder / "index.json");
  for (const auto& [entry, content] : index.items()) {
    if (kind_of(entry) == kind) {
      all.emplace_back(folder, entry, content["config"]);
    }
  }
  return all;
}

}  // namespace hyena::testing_support
