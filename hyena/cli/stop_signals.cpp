#include "hyena/cli/stop_signals.h"

#include <array>
#include <csignal>

namespace hyena::cli {
namespace {

volatile std::sig_atomic_t received_signal = 0;
constexpr std::array<int, 2> kSignals{SIGINT, SIGTERM};

void note_signal(int signal) {
  received_signal = signal;
}

}  // namespace

StopSignals::StopSignals() {
  received_signal = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  for (const int signal : kSignals) {
    ::sigaction(signal, &action, nullptr);
  }
  (void)std::signal(SIGPIPE, SIG_IGN);  // whoever read the output went away: no reason to lose work
}

StopSignals::~StopSignals() {
  for (const int signal : kSignals) {
    (void)std::signal(signal, SIG_DFL);
  }
  (void)std::signal(SIGPIPE, SIG_DFL);
}

int StopSignals::received() {
  return received_signal;
}

}  // namespace hyena::cli
