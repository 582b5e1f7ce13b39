// safetensors entries as tensors, and back.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "hyena/io/safetensors.h"

namespace hyena::models {

/// A tensor of its own (a copy, on the CPU). @throws UserError for a dtype LibTorch does not have.
[[nodiscard]] at::Tensor to_tensor(const io::TensorView& view);

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

/// Writes tensors of any device and stride; atomic. @throws RunError if writing fails.
void write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                   const io::Metadata& metadata = {});

}  // namespace hyena::models
