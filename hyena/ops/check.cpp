#include "hyena/ops/check.h"

#include <cstddef>
#include <string>

#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace hyena::ops {

void check_shape(std::string_view op, std::string_view name, const at::Tensor& tensor,
                 std::initializer_list<Dim> dims) {
  std::string expected;
  for (const Dim& dim : dims) {
    expected += expected.empty() ? "" : ", ";
    expected += dim.size == kAny ? std::string(dim.name) : fmt::format("{}={}", dim.name, dim.size);
  }
  TORCH_CHECK_VALUE(tensor.defined(), "[", op, "] ", name, ": expected shape (", expected,
                    "), got an undefined tensor.");
  const auto sizes = tensor.sizes();
  std::string differs;
  if (sizes.size() != dims.size()) {
    differs = "rank";
  } else {
    std::size_t axis = 0;
    for (const Dim& dim : dims) {
      if (dim.size != kAny && sizes[axis] != dim.size) {
        differs += differs.empty() ? "" : ", ";
        differs += dim.name;
      }
      ++axis;
    }
  }
  TORCH_CHECK_VALUE(differs.empty(), "[", op, "] ", name, ": expected shape (", expected,
                    "), got (", fmt::format("{}", fmt::join(sizes.begin(), sizes.end(), ", ")),
                    "): ", differs, " differs.");
}

void check_floating(std::string_view op, std::string_view name, const at::Tensor& tensor) {
  const auto type = tensor.scalar_type();
  TORCH_CHECK_VALUE(
      type == at::kFloat || type == at::kDouble || type == at::kBFloat16 || type == at::kHalf, "[",
      op, "] ", name, ": expected float32, float64, bfloat16 or float16, got ", type, ".");
}

void check_parameter(std::string_view op, std::string_view name, const at::Tensor& tensor,
                     const at::Tensor& reference) {
  TORCH_CHECK_VALUE(tensor.device() == reference.device(), "[", op, "] ", name,
                    ": expected a tensor on ", reference.device(), " like the input, got one on ",
                    tensor.device(), ".");
  const auto type = reference.scalar_type();
  const bool half = type == at::kBFloat16 || type == at::kHalf;
  TORCH_CHECK_VALUE(tensor.scalar_type() == type || (half && tensor.scalar_type() == at::kFloat),
                    "[", op, "] ", name, ": expected ", type, half ? " or Float" : "",
                    " for an input of ", type, ", got ", tensor.scalar_type(), ".");
}

void check_gradient(std::string_view op, std::string_view name, const at::Tensor& gradient,
                    const at::Tensor& reference, std::initializer_list<Dim> dims) {
  check_shape(op, name, gradient, dims);
  check_parameter(op, name, gradient, reference);
}

}  // namespace hyena::ops
