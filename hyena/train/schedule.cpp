#include "hyena/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace hyena::train {

const std::vector<std::string>& schedule_kinds() {
  static const std::vector<std::string> kinds{"cosine", "linear", "constant"};
  return kinds;
}

double learning_rate(const ScheduleOptions& options, std::int64_t t, double base) {
  const auto now = static_cast<double>(t);
  const auto warmup = static_cast<double>(options.warmup_steps);
  const auto end = static_cast<double>(options.decay_steps);
  const bool is_cosine = options.kind == "cosine";
  if (t < options.warmup_steps) {
    const double start = is_cosine ? options.initial_lr : 0.0;
    return start + now * (base - start) / warmup;
  }
  if (is_cosine) {
    const double phase = std::min(now / end, 1.0);
    return options.min_lr +
           0.5 * (base - options.min_lr) * (1.0 + std::cos(std::numbers::pi * phase));
  }
  if (options.kind == "linear") {
    return t < options.decay_steps ? base * (end - now) / (end - warmup) : 0.0;
  }
  return base;
}

}  // namespace hyena::train
