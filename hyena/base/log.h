// Progress and logs go to stderr; stdout is for results (DESIGN section 5).
#pragma once

#include <spdlog/spdlog.h>

namespace hyena::log {

/// Points spdlog's default logger at stderr with the house's format. Call once, from main.
void to_stderr();

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

}  // namespace hyena::log
