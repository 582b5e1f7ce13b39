// JSON as this project holds it: objects keep the order of their keys.
#pragma once

#include <filesystem>
#include <string_view>

#include <nlohmann/json.hpp>

namespace hyena::io {

using Json = nlohmann::ordered_json;

/// Parses `text`; `what` names it in errors ("runs/a/config.json").
/// @throws UserError "<what>:<line>:<column>: ..." if it is not JSON, and "<what>: ..." if an
/// object
///   repeats a key (which of the two was meant nobody can know) or is nested deeper than 100.
[[nodiscard]] Json parse_json(std::string_view text, std::string_view what);

/// Reads and parses a JSON file.
[[nodiscard]] Json read_json(const std::filesystem::path& path);

}  // namespace hyena::io
