// hyena sweep: the grid itself is hyena/sweep; here are its options and what it says.
#include <chrono>
#include <memory>

#include <fmt/format.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/cli/app.h"
#include "hyena/cli/commands.h"
#include "hyena/cli/compute.h"
#include "hyena/cli/output.h"
#include "hyena/cli/stop_signals.h"
#include "hyena/io/atomic_file.h"
#include "hyena/io/toml.h"
#include "hyena/sweep/cell.h"
#include "hyena/sweep/grid.h"
#include "hyena/sweep/report.h"

namespace hyena::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string grid;
  std::vector<std::string> overrides;
  std::string out;
  std::string only;
  double max_minutes = 0.0;
  bool json = false;
  ComputeOptions compute;
};

class Deadline {
 public:
  explicit Deadline(double minutes) : minutes_(minutes) {}
  [[nodiscard]] bool is_over() const {
    const std::chrono::duration<double, std::ratio<60>> passed =
        std::chrono::steady_clock::now() - start_;
    return StopSignals::received() != 0 || (minutes_ > 0.0 && passed.count() >= minutes_);
  }

 private:
  double minutes_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// --only; empty chooses every cell.
bool is_chosen(const sweep::Cell& cell, const std::string& only) {
  return cell.name.find(only) != std::string::npos;
}

/// Before anything is written: that --only names a cell, and that what the folder holds of the
/// chosen ones is of this grid.
void check_cells(const sweep::Grid& grid, const std::string& only, const fs::path& folder) {
  bool any = false;
  for (const sweep::Cell& cell : grid.cells) {
    if (is_chosen(cell, only)) {
      any = true;
      sweep::check_configuration(cell, folder / "cells" / cell.name);
    }
  }
  if (!any) {
    throw user_error("--only: expected part of a cell's name, such as {}, got {}",
                     grid.cells.front().name, only);
  }
}

int run_sweep(const Options& options) {
  if (!(options.max_minutes >= 0.0)) {  // not-a-number too
    throw user_error("--max-minutes: expected a number of at least 0, got {}", options.max_minutes);
  }
  keep_freed_memory();
  const at::Device device = prepare(options.compute);
  io::Json source = io::read_toml(options.grid);
  for (const std::string& assignment : options.overrides) {
    io::apply_override(source, assignment);
  }
  const sweep::Grid grid = sweep::read_grid(source);
  const fs::path folder =
      options.out.empty() ? fs::path("runs") / grid.name : fs::path(options.out);
  check_cells(grid, options.only, folder);
  io::make_directories(folder / "cells");
  io::write_file_atomically(folder / "grid.toml", io::write_toml(source));

  const StopSignals signals;
  const Deadline deadline(options.max_minutes);
  std::size_t missing = 0;
  for (std::size_t i = 0; i < grid.cells.size(); ++i) {
    const sweep::Cell& cell = grid.cells[i];
    if (!is_chosen(cell, options.only)) {
      continue;
    }
    if (deadline.is_over()) {
      ++missing;
      continue;
    }
    Progress progress;
    const std::string place = fmt::format("[{}/{}] {}", i + 1, grid.cells.size(), cell.name);
    const auto result =
        sweep::run_cell(cell, folder / "cells" / cell.name, device,
                        {.on_progress =
                             [&](std::int64_t step, std::int64_t steps, const std::string& text) {
                               progress.update(step, steps, fmt::format("{}  {}", place, text));
                             },
                         .stop_requested = [&] { return deadline.is_over(); }});
    end_progress_line();
    if (!result) {
      ++missing;
      note(fmt::format(
          "{}: {}", place,
          deadline.is_over() ? "stopped, its state is saved" : "another process is at it"));
      continue;
    }
    sweep::write_report(grid, folder);
    if (options.json) {
      print_json(*result);
    } else {
      const auto accuracy = result->find("test_accuracy");
      print(fmt::format("{}: {} after {} epochs, {}, test accuracy {}\n", place,
                        (*result)["status"].get<std::string>(),
                        fmt::format("{:.1f}", (*result)["epochs"].get<double>()),
                        human_duration((*result)["seconds"].get<double>()),
                        accuracy == result->end()
                            ? "-"
                            : fmt::format("{:.1f} %", 100.0 * accuracy->get<double>())));
    }
  }
  sweep::write_report(grid, folder);
  note(fmt::format("{}/{{results.jsonl, table.md, accuracy.svg, curves.svg}}", folder.string()));
  if (missing > 0) {
    note(fmt::format("{} cells have not ended; the same command goes on with them", missing));
  }
  const int signal = StopSignals::received();
  return signal != 0 ? kInterrupted + signal : kSuccess;
}

}  // namespace

void add_sweep(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "sweep", "Run a grid of experiments (experiments/mechanistic); the same command resumes it");
  command->add_option("grid", options->grid, "TOML file of the grid")->required();
  command->add_option("--set", options->overrides, "Override a setting: --set train.epochs=10")
      ->allow_extra_args(false)
      ->take_all();
  command->add_option("--out", options->out, "Folder of the results (default: runs/NAME)");
  command->add_option("--only", options->only, "Only cells whose name contains this text");
  command->add_option("--max-minutes", options->max_minutes,
                      "Save and stop after so many minutes (0: no limit)");
  command->add_flag("--json", options->json, "Print every result as a JSON object");
  add_compute_options(*command, options->compute);
  command->callback([options, &chosen] { chosen = [options] { return run_sweep(*options); }; });
}

}  // namespace hyena::cli
