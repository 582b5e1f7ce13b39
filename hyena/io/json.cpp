#include "hyena/io/json.h"

#include <algorithm>

#include <fmt/format.h>

#include "hyena/io/json_guard.h"
#include "hyena/io/mapped_file.h"

namespace hyena::io {

std::string line_and_column(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 == 0
  return fmt::format("{}:{}", line, before.size() - line_start + 1);
}

Json parse_json(std::string_view text, std::string_view what) {
  return parse_guarded<Json>(text, what);
}

Json read_json(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse_json(file.text(), path.string());
}

}  // namespace hyena::io
