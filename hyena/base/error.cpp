#include "hyena/base/error.h"

#include <system_error>

namespace hyena {

std::string errno_text(int error) {
  return std::generic_category().message(error);
}

std::string one_line(std::string_view message, std::size_t limit) {
  std::string line;
  for (const char c : message.substr(0, limit)) {
    const auto code = static_cast<unsigned char>(c);
    line += code < 0x20 || code == 0x7f ? ' ' : c;
  }
  if (message.size() > limit) {
    // Do not end inside a UTF-8 sequence: drop its started bytes.
    while (!line.empty() && (static_cast<unsigned char>(line.back()) & 0xC0U) == 0x80U) {
      line.pop_back();
    }
    if (!line.empty() && static_cast<unsigned char>(line.back()) >= 0xC0U) {
      line.pop_back();
    }
    line += "...";
  }
  return line;
}

}  // namespace hyena
