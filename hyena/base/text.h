// Small text helpers of messages and tables.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace hyena {

/// The member of `known` with the smallest edit distance to `word`, if that distance is at most
/// a third of the longer word's length (at least 1): "unknown key 'modle', did you mean 'model'?".
[[nodiscard]] std::optional<std::string> nearest(std::string_view word,
                                                 std::span<const std::string> known);

/// ", did you mean 'x'?" or "" : the tail of an error about an unknown name.
[[nodiscard]] std::string did_you_mean(std::string_view word, std::span<const std::string> known);

/// 1234567 -> "1.23M"; three significant digits.
[[nodiscard]] std::string human_count(double count);
/// "950B", "1.23MB": powers of 1000.
[[nodiscard]] std::string human_bytes(double bytes);

/// Seconds as "42s", "3m 20s", "2h 05m".
[[nodiscard]] std::string human_duration(double seconds);

/// True iff `text` is valid UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
[[nodiscard]] bool is_utf8(std::string_view text);

}  // namespace hyena
