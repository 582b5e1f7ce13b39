// What was built, for `hyena info` and the head of every results file.
#pragma once

#include <string_view>

namespace hyena {

[[nodiscard]] std::string_view version();     ///< "0.1.0"
[[nodiscard]] std::string_view build_type();  ///< "Release"
[[nodiscard]] std::string_view compiler();    ///< "GNU 12.2.0"

}  // namespace hyena
