// The subcommands. Each adds its options to the program and, where it is chosen, sets `chosen` to
// what is to be done; that returns the exit code and throws as base/error.h says.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

namespace hyena::cli {

using Command = std::function<int()>;

void add_train(CLI::App& app, Command& chosen);
void add_eval(CLI::App& app, Command& chosen);
void add_generate(CLI::App& app, Command& chosen);
void add_logits(CLI::App& app, Command& chosen);
void add_tokenize(CLI::App& app, Command& chosen);
void add_info(CLI::App& app, Command& chosen);
void add_bench(CLI::App& app, Command& chosen);
void add_sweep(CLI::App& app, Command& chosen);

}  // namespace hyena::cli
