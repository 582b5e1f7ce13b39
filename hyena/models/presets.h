// The architectures of the paper (Table A.4) and the GPT baselines, by name.
#pragma once

#include <string>
#include <vector>

#include "hyena/models/config.h"

namespace hyena::models {

/// hyena-125m, hyena-125m-slim (order 3), hyena-153m, hyena-355m, hyena-1.3b (order 2), gpt-125m,
/// gpt-355m: GPT-2 vocabulary padded to 50264, l_max 2048.
[[nodiscard]] const std::vector<std::string>& preset_names();

/// @throws UserError for an unknown name.
[[nodiscard]] ModelConfig preset(const std::string& name);

}  // namespace hyena::models
