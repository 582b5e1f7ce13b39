#include "hyena/cli/app.h"

#include <algorithm>
#include <csignal>
#include <exception>
#include <new>
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
  end_progress_line();
  fmt::print(stderr, "error: {}\n", one_line(message, 1000));
  return code;
}

/// The parser's message; it does not name a subcommand that it does not know.
std::string parse_failure(const CLI::App& app, const CLI::ParseError& error, const char* first) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  const std::string word = first == nullptr ? "" : first;
  const bool is_unknown = !word.empty() && !word.starts_with("-") &&
                          std::find(names.begin(), names.end(), word) == names.end();
  return is_unknown ? fmt::format("unknown subcommand '{}'{}", word, did_you_mean(word, names))
                    : std::string(error.what());
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
                           message.find("out of memory") != std::string_view::npos;
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
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) {  // --help, --version
        return app.exit(error);
      }
      return fail(
          fmt::format("{} (see --help)", parse_failure(app, error, argc > 1 ? argv[1] : nullptr)),
          kUserMistake);
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
