#include "hyena/base/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <vector>

#include <fmt/format.h>

namespace hyena {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row.back();
}

}  // namespace

std::optional<std::string> nearest(std::string_view word, std::span<const std::string> known) {
  std::optional<std::string> best;
  std::size_t best_distance = 0;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(word, candidate);
    const std::size_t limit = std::max<std::size_t>(1, std::max(word.size(), candidate.size()) / 3);
    if (distance <= limit && (!best || distance < best_distance)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string> known) {
  const auto best = nearest(word, known);
  return best ? fmt::format(", did you mean '{}'?", *best) : std::string();
}

namespace {

std::string with_unit(double count, const std::array<const char*, 5>& units) {
  std::size_t unit = 0;
  while (std::abs(count) >= 999.5 && unit + 1 < units.size()) {
    count /= 1000.0;
    ++unit;
  }
  return fmt::format("{:.3g}{}", count, units.at(unit));
}

}  // namespace

std::string human_count(double count) {
  return with_unit(count, {"", "K", "M", "B", "T"});
}

std::string human_bytes(double bytes) {
  return with_unit(bytes, {"B", "KB", "MB", "GB", "TB"});
}

std::string human_duration(double seconds) {
  if (!std::isfinite(seconds)) {
    return "?";
  }
  const std::int64_t total = std::lround(std::max(seconds, 0.0));
  if (total < 60) {
    return fmt::format("{}s", total);
  }
  if (total < 3600) {
    return fmt::format("{}m {:02}s", total / 60, total % 60);
  }
  return fmt::format("{}h {:02}m", total / 3600, total / 60 % 60);
}

bool is_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned lead = byte(i);
    const std::size_t size = lead < 0x80   ? 1
                             : lead < 0xC2 ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
    if (size == 0 || i + size > text.size()) {
      return false;
    }
    for (std::size_t k = 1; k < size; ++k) {
      if ((byte(i + k) & 0xC0U) != 0x80U) {
        return false;
      }
    }
    const bool bad_second = size > 1 && ((lead == 0xE0 && byte(i + 1) < 0xA0) ||  // overlong
                                         (lead == 0xED && byte(i + 1) > 0x9F) ||  // surrogate
                                         (lead == 0xF0 && byte(i + 1) < 0x90) ||  // overlong
                                         (lead == 0xF4 && byte(i + 1) > 0x8F));   // > U+10FFFF
    if (bad_second) {
      return false;
    }
    i += size;
  }
  return true;
}

}  // namespace hyena
