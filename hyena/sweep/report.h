// What a sweep leaves for readers: results.jsonl, a Markdown table, two plots.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "hyena/io/json.h"
#include "hyena/sweep/grid.h"

namespace hyena::sweep {

/// The results that lie in `folder`/cells, in the order of the grid's cells.
[[nodiscard]] std::vector<io::Json> collect_results(const Grid& grid,
                                                    const std::filesystem::path& folder);

/// A table for every value of the axis that is not the columns: rows are variants, cells the test
/// accuracy in per cent, the mean where several seeds ran, with the paper's number in brackets. "-"
/// is a cell that has not ended yet; a "*" was cut short by its token budget.
[[nodiscard]] std::string markdown_table(const Grid& grid, const std::vector<io::Json>& results);

/// Test accuracy over the columns, a line per variant, the paper's dashed.
[[nodiscard]] std::string accuracy_svg(const Grid& grid, const std::vector<io::Json>& results);

/// Validation accuracy over epochs of every cell that has metrics, a panel per column.
[[nodiscard]] std::string curves_svg(const Grid& grid, const std::filesystem::path& folder);

/// Writes results.jsonl, table.md, accuracy.svg and curves.svg into `folder`, each whole.
void write_report(const Grid& grid, const std::filesystem::path& folder);

}  // namespace hyena::sweep
