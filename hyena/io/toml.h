// TOML as JSON: configuration is read from TOML, everything behind it sees io::Json.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "hyena/io/json.h"

namespace hyena::io {

/// Parses TOML 1.0. Tables become objects (keys in the order of the text), arrays arrays; numbers
/// keep their kind (1 is an integer, 1.0 a float).
/// @throws UserError "<what>:<line>:<column>: ..."; dates and times are refused too, as no setting
///   takes one.
[[nodiscard]] Json parse_toml(std::string_view text, std::string_view what);
[[nodiscard]] Json read_toml(const std::filesystem::path& path);

/// Sets `config.a.b` from "a.b=value", making missing tables. The value is read as TOML ("1e-3",
/// "true", "[1, 2]", "'x'"); what is not TOML is taken as a string, so that --set data.train=a.txt
/// needs no second pair of quotes.
/// @throws UserError without '=', with an empty key part, or if `a` holds something else than a
///   table.
void apply_override(Json& config, std::string_view assignment);

/// The TOML text of a JSON object: parse_toml(write_toml(c)) == c. Null members are left out.
/// Plain values come before tables. @throws UserError for null in an array.
[[nodiscard]] std::string write_toml(const Json& config);

}  // namespace hyena::io
