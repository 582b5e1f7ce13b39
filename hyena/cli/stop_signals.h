// Ctrl-C and kill, asked for politely.
#pragma once

namespace hyena::cli {

/// While it lives, the first SIGINT or SIGTERM is only noted; a second one ends the program at
/// once, as usual.
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
