// Tokenizer files for tests: the published ones where they exist, and a small one made here.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/io/temporary_folder.h"

namespace hyena::testing_support {

/// A folder named by the environment or found beside the checkout.
inline std::optional<std::filesystem::path> shared_folder(const char* variable,
                                                          const char* fallback) {
  const char* named = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe): no setenv here
  const std::filesystem::path folder = named != nullptr ? named : fallback;
  return std::filesystem::exists(folder) ? std::optional(folder) : std::nullopt;
}

inline std::optional<std::filesystem::path> data_folder() {
  return shared_folder("HYENA_DATA", "../shared/data");
}

/// How the files spell a byte, written down from the format's description.
inline std::string spelled(unsigned byte) {
  unsigned code = byte;
  const auto stands_for_itself = [](unsigned b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  if (!stands_for_itself(byte)) {
    code = 256;
    for (unsigned b = 0; b < byte; ++b) {
      code += stands_for_itself(b) ? 0U : 1U;
    }
  }
  if (code < 128) {
    return {static_cast<char>(code)};
  }
  return {static_cast<char>(0xC0U | code >> 6U), static_cast<char>(0x80U | (code & 0x3FU))};
}

inline std::string spelled(const std::string& bytes) {
  std::string spelling;
  for (const char byte : bytes) {
    spelling += spelled(static_cast<unsigned char>(byte));
  }
  return spelling;
}

/// Writes vocab.json and merges.txt: the 256 bytes, one token per merge, end-of-text.
inline void write_gpt2_files(const std::filesystem::path& folder,
                             const std::vector<std::pair<std::string, std::string>>& merges) {
  nlohmann::json vocabulary;
  std::string lines = "#version: 0.2\n";
  for (unsigned byte = 0; byte < 256; ++byte) {
    vocabulary[spelled(byte)] = byte;
  }
  for (const auto& [left, right] : merges) {
    vocabulary[spelled(left + right)] = vocabulary.size();
    lines += spelled(left) + " " + spelled(right) + "\n";
  }
  vocabulary["<|endoftext|>"] = vocabulary.size();
  std::filesystem::create_directories(folder);
  write_text(folder / "vocab.json", vocabulary.dump());
  write_text(folder / "merges.txt", lines);
}

}  // namespace hyena::testing_support
