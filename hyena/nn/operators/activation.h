// Activations by name, as the published configs spell them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

namespace hyena::nn {

/// id, tanh, relu, gelu (erf), gelu_tanh, silu, sigmoid, sqrelu.
[[nodiscard]] const std::vector<std::string>& activation_names();

/// @throws UserError for a name that is not in activation_names().
void check_activation(std::string_view name);

[[nodiscard]] at::Tensor activate(std::string_view name, const at::Tensor& x);

}  // namespace hyena::nn
