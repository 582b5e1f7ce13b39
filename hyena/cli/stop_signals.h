// Ctrl-C and kill, asked for politely.
#pragma once

namespace hyena::cli {

/// While it lives, the first SIGINT or SIGTERM is only noted; a second one ends the program at
/// once, as usual. A reader of the output that goes away ends no work either: writes fail instead.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The number of the signal that came, or 0.
  [[nodiscard]] static int received();
};

}  // namespace hyena::cli
