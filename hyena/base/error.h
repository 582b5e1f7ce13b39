// The two kinds of failure this library reports, and what a program makes of them.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace hyena {

/// The user's mistake: a bad flag, file, shape or value. The program prints the message in one
/// line and exits with 2. The message names the thing, what was expected, what came, and what to
/// do where that is not obvious.
class UserError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The run failed although the request was sound: disk full, device lost, diverged training.
/// The program prints the message in one line and exits with 1.
class RunError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// throw user_error("{}: expected {}, got {}", ...) with fmt's syntax.
template <typename... Args>
[[nodiscard]] UserError user_error(fmt::format_string<Args...> format, Args&&... args) {
  return UserError(fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
[[nodiscard]] RunError run_error(fmt::format_string<Args...> format, Args&&... args) {
  return RunError(fmt::format(format, std::forward<Args>(args)...));
}

/// The text of errno value `error`, for "cannot open x: No such file or directory".
[[nodiscard]] std::string errno_text(int error);

/// `message` without line breaks and control characters, at most `limit` bytes: what an error
/// may print of a text that somebody else wrote.
[[nodiscard]] std::string one_line(std::string_view message, std::size_t limit = 400);

}  // namespace hyena
