#include "hyena/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace hyena::log {

void to_stderr() {
  auto logger = spdlog::stderr_color_mt("hyena");
  logger->set_pattern("%^%l%$ %v");
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace hyena::log
