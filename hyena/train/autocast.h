// Mixed precision for the length of a scope.
#pragma once

#include <string>

#include <ATen/autocast_mode.h>
#include <c10/core/Device.h>

namespace hyena::train {

/// Runs the enclosed code under autocast to bfloat16 on `device`, if `precision` is "bfloat16", or
/// "auto" and the device is a GPU. Leaving the scope restores what was and drops the cached casts
/// of the weights: they would be stale after the optimizer step, and grow without bound in a loop
/// without gradients.
class Autocast {
 public:
  Autocast(const std::string& precision, at::Device device)
      : type_(device.type()),
        was_enabled_(at::autocast::is_autocast_enabled(type_)),
        previous_(at::autocast::get_autocast_dtype(type_)) {
    const bool enabled = precision == "bfloat16" || (precision == "auto" && device.is_cuda());
    at::autocast::set_autocast_enabled(type_, enabled);
    at::autocast::set_autocast_dtype(type_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (at::autocast::decrement_nesting() == 0) {
      at::autocast::clear_cache();
    }
    at::autocast::set_autocast_enabled(type_, was_enabled_);
    at::autocast::set_autocast_dtype(type_, previous_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  at::DeviceType type_;
  bool was_enabled_;
  at::ScalarType previous_;
};

}  // namespace hyena::train
