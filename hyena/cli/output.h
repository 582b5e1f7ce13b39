// Results on stdout, progress on stderr.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hyena/io/json.h"

namespace hyena::cli {

/// @throws RunError if stdout cannot be written (full disk, closed): a result that did not arrive
///   is no success.
void print(std::string_view text);
/// One object, one line; bytes that are not UTF-8 become U+FFFD.
void print_json(const io::Json& object);
void flush_stdout();

/// @throws UserError if `out` is one of the files that are read: it would be lost.
void refuse_overwriting(const std::string& out, const std::vector<std::string>& inputs);

/// A line on stderr, where it can be written.
void note(std::string_view text);

/// Progress on stderr: one line that is drawn over on a terminal; elsewhere whole lines, at most
/// one in five seconds.
class Progress {
 public:
  /// `text` beside a bar of `done` of `total`. Draws at most ten times a second.
  void update(std::int64_t done, std::int64_t total, std::string_view text);

 private:
  std::chrono::steady_clock::time_point last_{};
  bool has_drawn_ = false;
};

/// Leaves the progress line, if one is being drawn, so that other output starts on a line of its
/// own.
void end_progress_line();

/// Whether stderr is a terminal.
[[nodiscard]] bool is_terminal();

}  // namespace hyena::cli
