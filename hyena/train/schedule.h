// Learning rates over time; PAPER section 5.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hyena::train {

/// With t optimizer steps done, T_w = warmup_steps, T = decay_steps, base = the group's own rate:
///
///     cosine     t < T_w : initial + t (base - initial) / T_w
///                t < T   : minimum + (base - minimum) (1 + cos(pi t / T)) / 2
///                else    : minimum
///     linear     t < T_w : base t / T_w,  then  base max(0, (T - t) / (T - T_w))
///     constant   t < T_w : base t / T_w,  then  base
///
/// The cosine is the published one: it is not shifted by T_w, so that the rate makes a small jump
/// where the warm-up ends. initial and minimum are absolute, equal for all groups.
struct ScheduleOptions {
  std::string kind = "cosine";
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 1;
  double initial_lr = 1e-6;
  double min_lr = 0.0;
};

[[nodiscard]] const std::vector<std::string>& schedule_kinds();

/// The rate of the optimizer step that follows `t` done ones.
[[nodiscard]] double learning_rate(const ScheduleOptions& options, std::int64_t t, double base);

}  // namespace hyena::train
