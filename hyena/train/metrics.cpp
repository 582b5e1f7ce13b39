#include "hyena/train/metrics.h"

#include <string>
#include <string_view>

#include "hyena/base/error.h"
#include "hyena/io/atomic_file.h"
#include "hyena/io/mapped_file.h"

namespace hyena::train {
namespace {

/// Cuts the file to what is to be kept, and returns it.
std::filesystem::path prepared(const std::filesystem::path& path, std::int64_t step) {
  std::string kept;
  if (step > 0 && std::filesystem::exists(path)) {
    kept = lines_until(io::MappedFile(path).text(), step);
  }
  io::write_file_atomically(path, kept);
  return path;
}

}  // namespace

std::string lines_until(std::string_view text, std::int64_t step) {
  std::string kept;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      break;  // torn
    }
    const std::string_view line = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    const io::Json entry = io::Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (entry.is_object() && entry.contains("step") && entry["step"].is_number_integer() &&
        entry["step"].get<std::int64_t>() <= step) {
      kept += line;
    }
  }
  return kept;
}

Metrics::Metrics(const std::filesystem::path& folder, std::int64_t step)
    : lines_(prepared(folder / "metrics.jsonl", step), io::FileWriter::Open::kAppend),
      events_(folder) {}

void Metrics::write(const io::Json& line) {
  lines_.write(line.dump() + "\n");
  lines_.flush();
  const auto step = line.at("step").get<std::int64_t>();
  for (const auto& [key, value] : line.items()) {
    if (key != "step" && value.is_number()) {
      events_.add_scalar(key, step, value.get<double>());
    }
  }
}

}  // namespace hyena::train
