#include "hyena/nn/operators/activation.h"

#include <algorithm>

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"

namespace hyena::nn {

const std::vector<std::string>& activation_names() {
  static const std::vector<std::string> names{"id",        "tanh", "relu",    "gelu",
                                              "gelu_tanh", "silu", "sigmoid", "sqrelu"};
  return names;
}

void check_activation(std::string_view name) {
  const auto& names = activation_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw user_error("activation: expected one of {}, got '{}'{}", fmt::join(names, ", "), name,
                     did_you_mean(name, names));
  }
}

at::Tensor activate(std::string_view name, const at::Tensor& x) {
  if (name == "id") return x;
  if (name == "tanh") return at::tanh(x);
  if (name == "relu") return at::relu(x);
  if (name == "gelu") return at::gelu(x);
  if (name == "gelu_tanh") return at::gelu(x, "tanh");
  if (name == "silu") return at::silu(x);
  if (name == "sigmoid") return at::sigmoid(x);
  return at::square(at::relu(x));
}

}  // namespace hyena::nn
