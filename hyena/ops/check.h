// Argument checks that say what was expected and what came.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include <ATen/core/Tensor.h>

namespace hyena::ops {

struct Dim {
  std::string_view name;  // the letter the docs use: B, D, L, ...
  std::int64_t size;      // kAny: every size will do
};
inline constexpr std::int64_t kAny = -1;

/// Throws c10::ValueError unless `tensor` is defined and has exactly the sizes in `dims`:
///   [long_conv] h: expected shape (D=768, K), got (512, 768): D differs.
void check_shape(std::string_view op, std::string_view name, const at::Tensor& tensor,
                 std::initializer_list<Dim> dims);

/// Throws c10::ValueError unless `tensor` lives where `reference` lives and has a floating dtype:
/// the dtype of `reference`, or float32 where the reference is bfloat16 or float16 (parameters and
/// filters keep float32 under mixed precision).
void check_parameter(std::string_view op, std::string_view name, const at::Tensor& tensor,
                     const at::Tensor& reference);

/// Throws c10::ValueError unless `tensor` is float32, float64, bfloat16 or float16.
void check_floating(std::string_view op, std::string_view name, const at::Tensor& tensor);

/// check_shape and check_parameter, for the gradient of what an op made of `reference`.
void check_gradient(std::string_view op, std::string_view name, const at::Tensor& gradient,
                    const at::Tensor& reference, std::initializer_list<Dim> dims);

}  // namespace hyena::ops
