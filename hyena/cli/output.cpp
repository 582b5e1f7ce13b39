#include "hyena/cli/output.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include "hyena/base/error.h"

namespace hyena::cli {
namespace {

bool progress_line_is_open = false;

/// A closed or full stderr ends no run: there is nobody to tell.
void write_stderr(std::string_view text) {
  (void)std::fwrite(text.data(), 1, text.size(), stderr);
}

[[noreturn]] void stdout_failed() {
  const int error = errno;
  throw run_error("cannot write to standard output: {}", errno_text(error));
}

}  // namespace

void print(std::string_view text) {
  end_progress_line();
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    stdout_failed();
  }
}

void print_json(const io::Json& object) {
  print(object.dump(-1, ' ', /*ensure_ascii=*/false, io::Json::error_handler_t::replace) + "\n");
  flush_stdout();
}

void flush_stdout() {
  if (std::fflush(stdout) != 0) {
    stdout_failed();
  }
}

void note(std::string_view text) {
  end_progress_line();
  write_stderr(fmt::format("{}\n", text));
}

void refuse_overwriting(const std::string& out, const std::vector<std::string>& inputs) {
  for (const std::string& input : inputs) {
    std::error_code error;  // one that does not exist is not the other
    if (std::filesystem::equivalent(out, input, error)) {
      throw user_error("--out: {} is also read: choose another name", out);
    }
  }
}

bool is_terminal() {
  static const bool terminal = ::isatty(STDERR_FILENO) == 1;
  return terminal;
}

void end_progress_line() {
  if (progress_line_is_open) {
    write_stderr("\n");
    progress_line_is_open = false;
  }
}

void Progress::update(std::int64_t done, std::int64_t total, std::string_view text) {
  using std::chrono::milliseconds;
  const auto now = std::chrono::steady_clock::now();
  const milliseconds pause = is_terminal() ? milliseconds(100) : milliseconds(5000);
  if (has_drawn_ && now - last_ < pause && done < total) {
    return;
  }
  last_ = now;
  has_drawn_ = true;
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
  if (!is_terminal()) {
    write_stderr(fmt::format("{}/{} {:3.0f}%  {}\n", done, total, 100.0 * share, text));
    return;
  }
  constexpr int kWidth = 24;
  const int filled = static_cast<int>(share * kWidth);
  write_stderr(fmt::format("\r\x1b[K[{:=<{}}{: <{}}] {}/{}  {}", "", filled, "", kWidth - filled,
                           done, total, text));
  std::fflush(stderr);
  progress_line_is_open = true;
}

}  // namespace hyena::cli
