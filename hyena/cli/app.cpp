#include "hyena/cli/app.h"

#include <csignal>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "hyena/base/error.h"
#include "hyena/base/log.h"
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
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) {  // --help, --version
        return app.exit(error);
      }
      return fail(fmt::format("{} (see --help)", error.what()), kUserMistake);
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
