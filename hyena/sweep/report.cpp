#include "hyena/sweep/report.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "hyena/base/text.h"
#include "hyena/io/atomic_file.h"
#include "hyena/io/mapped_file.h"
#include "hyena/sweep/svg.h"

namespace hyena::sweep {
namespace fs = std::filesystem;
namespace {

/// Values of an axis in the order of the cells, each once.
std::vector<std::int64_t> values_of(const Grid& grid, bool of_length) {
  std::vector<std::int64_t> values;
  for (const Cell& cell : grid.cells) {
    const auto& task = cell.task.synthetic;
    const std::int64_t value = of_length ? task.length : task.vocab_size;
    if (std::find(values.begin(), values.end(), value) == values.end()) {
      values.push_back(value);
    }
  }
  return values;
}

struct View {
  explicit View(const Grid& grid)
      : by_length(grid.columns == "length"),
        columns(values_of(grid, by_length)),
        panels(values_of(grid, !by_length)) {}

  [[nodiscard]] std::string title(std::int64_t panel) const {
    return fmt::format("{} {}", by_length ? "vocabulary" : "length", panel);
  }
  [[nodiscard]] const char* column_name() const { return by_length ? "length" : "vocabulary"; }
  /// Whether a thing of this length and vocabulary stands there.
  [[nodiscard]] bool is_at(std::int64_t length, std::int64_t vocab_size, std::int64_t panel,
                           std::int64_t column) const {
    return (by_length ? length : vocab_size) == column &&
           (by_length ? vocab_size : length) == panel;
  }

  bool by_length;
  std::vector<std::int64_t> columns;
  std::vector<std::int64_t> panels;
};

struct Entry {
  int seeds = 0;
  double accuracy = 0.0;  // mean, per cent
  bool is_cut = false;
  bool is_diverged = false;
};

Entry entry_at(const View& view, const std::vector<io::Json>& results, const std::string& variant,
               std::int64_t panel, std::int64_t column) {
  Entry entry;
  for (const io::Json& result : results) {
    if (result["variant"] != variant ||
        !view.is_at(result["length"], result["vocab_size"], panel, column)) {
      continue;
    }
    entry.is_cut |= result["status"] == "budget";
    if (!result.contains("test_accuracy")) {
      entry.is_diverged = true;
      continue;
    }
    entry.accuracy += 100.0 * result["test_accuracy"].get<double>();
    ++entry.seeds;
  }
  entry.accuracy /= std::max(1, entry.seeds);
  return entry;
}

std::optional<double> paper_at(const Grid& grid, const View& view, const std::string& variant,
                               std::int64_t panel, std::int64_t column) {
  for (const PaperNumber& number : grid.paper) {
    if (number.variant == variant && view.is_at(number.length, number.vocab_size, panel, column)) {
      return number.accuracy;
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<io::Json> collect_results(const Grid& grid, const fs::path& folder) {
  std::vector<io::Json> results;
  for (const Cell& cell : grid.cells) {
    const fs::path file = folder / "cells" / cell.name / "result.json";
    if (fs::exists(file)) {
      results.push_back(io::read_json(file));
    }
  }
  return results;
}

std::string markdown_table(const Grid& grid, const std::vector<io::Json>& results) {
  const View view(grid);
  std::string text = fmt::format("# {}\n", grid.title);
  bool has_cut = false;
  for (const std::int64_t panel : view.panels) {
    text += fmt::format("\n{}: test accuracy in per cent (in brackets: the paper)\n\n| {} |",
                        view.title(panel), view.column_name());
    std::string rule = "|---|";
    for (const std::int64_t column : view.columns) {
      text += fmt::format(" {} |", column);
      rule += "---|";
    }
    text += "\n" + rule + "\n";
    for (const Variant& variant : grid.variants) {
      text += fmt::format("| {} |", variant.label);
      for (const std::int64_t column : view.columns) {
        const Entry entry = entry_at(view, results, variant.key, panel, column);
        const auto paper = paper_at(grid, view, variant.key, panel, column);
        has_cut |= entry.is_cut;
        text += entry.seeds > 0 ? fmt::format(" {:.1f}{}", entry.accuracy, entry.is_cut ? "*" : "")
                                : (entry.is_diverged ? " diverged" : " -");
        text += paper ? fmt::format(" ({:g}) |", *paper) : " |";
      }
      text += "\n";
    }
  }
  if (has_cut) {
    text += "\n\\* the token budget of the cell ended before its epochs\n";
  }
  text +=
      "\n| cell | status | test | valid | epochs | steps | tokens | tokens/s | time | device |\n"
      "|---|---|---|---|---|---|---|---|---|---|\n";
  for (const io::Json& r : results) {
    const auto percent = [&](const char* key) {
      return r.contains(key) ? fmt::format("{:.1f}", 100.0 * r[key].get<double>())
                             : std::string("-");
    };
    text += fmt::format(
        "| {} | {} | {} | {} | {:.1f} | {} | {} | {} | {} | {} |\n", r["cell"].get<std::string>(),
        r["status"].get<std::string>(), percent("test_accuracy"), percent("valid_accuracy"),
        r["epochs"].get<double>(), r["steps"].get<std::int64_t>(),
        human_count(r["tokens"].get<double>()), human_count(r["tokens_per_s"].get<double>()),
        human_duration(r["seconds"].get<double>()), r["device"].get<std::string>());
  }
  return text;
}

std::string accuracy_svg(const Grid& grid, const std::vector<io::Json>& results) {
  const View view(grid);
  Chart chart{.title = grid.title,
              .x_label = view.column_name(),
              .y_label = "test accuracy (%)",
              .x_axis = view.by_length ? Axis::kLog2 : Axis::kLinear,
              .panels = {}};
  for (const std::int64_t panel : view.panels) {
    Panel& drawn = chart.panels.emplace_back();
    drawn.title = view.title(panel);
    for (std::size_t v = 0; v < grid.variants.size(); ++v) {
      const Variant& variant = grid.variants[v];
      Series ours{.label = variant.label, .x = {}, .y = {}, .color = v};
      Series paper{.label = variant.label, .x = {}, .y = {}, .color = v, .is_dashed = true};
      for (const std::int64_t column : view.columns) {
        const auto x = static_cast<double>(column);
        const Entry entry = entry_at(view, results, variant.key, panel, column);
        if (entry.seeds > 0) {
          ours.x.push_back(x);
          ours.y.push_back(entry.accuracy);
        }
        if (const auto number = paper_at(grid, view, variant.key, panel, column)) {
          paper.x.push_back(x);
          paper.y.push_back(*number);
        }
      }
      drawn.series.push_back(ours);
      drawn.series.push_back(paper);
    }
  }
  return draw(chart);
}

std::string curves_svg(const Grid& grid, const fs::path& folder) {
  const View view(grid);
  Chart chart{.title = grid.title + ": learning curves",
              .x_label = "epoch",
              .y_label = "validation accuracy (%)",
              .panels = {}};
  for (const std::int64_t panel : view.panels) {
    for (const std::int64_t column : view.columns) {
      Panel drawn{.title = fmt::format("{}, {} {}", view.title(panel), view.column_name(), column),
                  .series = {}};
      for (const Cell& cell : grid.cells) {
        const auto& task = cell.task.synthetic;
        const fs::path file = folder / "cells" / cell.name / "metrics.jsonl";
        if (!view.is_at(task.length, task.vocab_size, panel, column) || !fs::exists(file)) {
          continue;
        }
        const auto variant =
            std::find_if(grid.variants.begin(), grid.variants.end(),
                         [&](const Variant& candidate) { return candidate.key == cell.variant; });
        Series series{.label = variant->label,
                      .x = {},
                      .y = {},
                      .color = static_cast<std::size_t>(variant - grid.variants.begin())};
        std::string_view text;
        const io::MappedFile mapped(file);
        for (text = mapped.text(); !text.empty();) {
          const std::size_t end = std::min(text.find('\n'), text.size() - 1);
          const io::Json line = io::Json::parse(text.substr(0, end + 1), nullptr, false);
          text.remove_prefix(end + 1);
          if (line.is_object()) {
            series.x.push_back(line.value("epoch", 0.0));
            series.y.push_back(100.0 * line.value("valid_accuracy", 0.0));
          }
        }
        drawn.series.push_back(series);
      }
      if (!drawn.series.empty()) {
        chart.panels.push_back(drawn);
      }
    }
  }
  return draw(chart);
}

void write_report(const Grid& grid, const fs::path& folder) {
  const std::vector<io::Json> results = collect_results(grid, folder);
  std::string lines;
  for (const io::Json& result : results) {
    lines += result.dump() + "\n";
  }
  io::write_file_atomically(folder / "results.jsonl", lines);
  io::write_file_atomically(folder / "table.md", markdown_table(grid, results));
  io::write_file_atomically(folder / "accuracy.svg", accuracy_svg(grid, results));
  io::write_file_atomically(folder / "curves.svg", curves_svg(grid, folder));
}

}  // namespace hyena::sweep
