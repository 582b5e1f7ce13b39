// How GPT-2 cuts text into pieces before it merges bytes.
#pragma once

#include <cstddef>
#include <string_view>

namespace hyena::data {

/// The end of the piece that starts at `begin` < text.size(): the first match of
///
///     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// at that place, with the classes of current Unicode (unicode_ranges.inc). The expression is
/// defined on characters; here a byte that belongs to no valid UTF-8 character is in none of its
/// classes, and a maximal run of such bytes is a piece of its own. So every byte string is cut
/// without loss, and valid text exactly as the original does. Cost: O(length of the piece), plus
/// one character.
[[nodiscard]] std::size_t piece_end(std::string_view text, std::size_t begin);

}  // namespace hyena::data
