// The program `hyena`: one line in, an exit code out.
#pragma once

namespace hyena::cli {

/// Exit codes of the program.
enum ExitCode : int {
  kSuccess = 0,
  kRunFailed = 1,      ///< disk full, device lost, diverged training, out of memory
  kUserMistake = 2,    ///< bad flag, file, shape or value
  kInterrupted = 128,  ///< plus the signal's number: training was stopped, its state is saved
};

/// Runs `argv` and returns the exit code. Results go to stdout, everything else to stderr; a
/// failure is one line "error: ..." there. Never throws.
[[nodiscard]] int run(int argc, const char* const* argv) noexcept;

}  // namespace hyena::cli
