#include "hyena/cli/app.h"

#include <csignal>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "hyena/base/error.h"
#include "hyena/base/log.h"
#include "hyena/base/text.h"
#include "hyena/base/version.h"
#include "hyena/cli/commands.h"
#include "hyena/cli/output.h"

namespace hyena::cli {
namespace {

int fail(std::string_view message, ExitCode code) {
  note(fmt::format("error: {}", one_line(message, 1000)));
  return code;
}

template <typename App>
auto subcommands_of(App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

/// Only a prompt may be empty. Elsewhere "" is what a shell makes of an unset variable, and the
/// parser would take it for an option that was not given, or for 0.
void refuse_empty_values(CLI::App& app) {
  const CLI::Validator not_empty(
      [](const std::string& value) {
        return value.empty() ? std::string("expected a value, got an empty one") : std::string();
      },
      "");
  for (CLI::Option* option : app.get_options()) {
    if (!option->check_lname("prompt")) {
      option->check(not_empty);
    }
  }
  for (CLI::App* command : subcommands_of(app)) {
    refuse_empty_values(*command);
  }
}

/// What to say of the first word that should be a subcommand and is none; the parser names none.
std::optional<std::string> unknown_subcommand(const CLI::App& app,
                                              std::span<const char* const> words) {
  const auto commands = subcommands_of(app);
  if (words.empty() || commands.empty() || std::string_view(words[0]).starts_with("-")) {
    return std::nullopt;
  }
  std::vector<std::string> names;
  for (const CLI::App* command : commands) {
    if (command->get_name() == words[0]) {
      return unknown_subcommand(*command, words.subspan(1));
    }
    names.push_back(command->get_name());
  }
  return fmt::format("unknown subcommand '{}'{}", words[0], did_you_mean(words[0], names));
}

int run_parsed(const Command& chosen) {
  try {
    const int code = chosen();
    flush_stdout();
    return code;
  } catch (const UserError& error) {
    return fail(error.what(), kUserMistake);
  } catch (const c10::ValueError& error) {
    return fail(error.what_without_backtrace(), kUserMistake);
  } catch (const c10::Error& error) {
    const std::string_view message = error.what_without_backtrace();
    const bool is_memory = message.find("can't allocate memory") != std::string_view::npos ||
                           message.find("out of memory") != std::string_view::npos ||
                           message.starts_with("Storage size calculation overflowed");
    return fail(is_memory ? fmt::format("out of memory: {}", message) : std::string(message),
                kRunFailed);
  } catch (const std::bad_alloc&) {
    return fail("out of memory", kRunFailed);
  } catch (const std::exception& error) {
    return fail(error.what(), kRunFailed);
  } catch (...) {
    return fail("unknown failure", kRunFailed);
  }
}

}  // namespace

int run(int argc, const char* const* argv) noexcept {
  try {
    CLI::App app(
        "Hyena: long-convolution language models. Results go to stdout, progress to stderr.",
        "hyena");
    app.set_version_flag("--version", std::string(version()));
    app.require_subcommand(1);
    Command chosen;
    add_train(app, chosen);
    add_eval(app, chosen);
    add_generate(app, chosen);
    add_logits(app, chosen);
    add_tokenize(app, chosen);
    add_info(app, chosen);
    add_bench(app, chosen);
    add_sweep(app, chosen);
    refuse_empty_values(app);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      const std::span<const char* const> words(argv, static_cast<std::size_t>(argc));
      const auto unknown = unknown_subcommand(app, words.subspan(argc > 0 ? 1 : 0));
      if (!unknown && error.get_exit_code() == 0) {  // --help, --version
        return app.exit(error);
      }
      return fail(fmt::format("{} (see --help)", unknown.value_or(error.what())), kUserMistake);
    }
    log::to_stderr();
    // Beyond a file-size limit (ulimit -f) a write then fails like any other, with a message.
    (void)std::signal(SIGXFSZ, SIG_IGN);
    return run_parsed(chosen);
  } catch (const std::exception& error) {
    return fail(error.what(), kRunFailed);
  } catch (...) {
    return fail("unknown failure", kRunFailed);
  }
}

}  // namespace hyena::cli
