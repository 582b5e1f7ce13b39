#include "hyena/models/tensor_file.h"

#include <array>
#include <cstring>
#include <utility>

#include <torch/torch.h>

#include "hyena/base/error.h"

namespace hyena::models {
namespace {

using io::DType;
constexpr std::array<std::pair<DType, at::ScalarType>, 10> kTypes{{{DType::kF32, at::kFloat},
                                                                   {DType::kF64, at::kDouble},
                                                                   {DType::kF16, at::kHalf},
                                                                   {DType::kBF16, at::kBFloat16},
                                                                   {DType::kI64, at::kLong},
                                                                   {DType::kI32, at::kInt},
                                                                   {DType::kI16, at::kShort},
                                                                   {DType::kI8, at::kChar},
                                                                   {DType::kU8, at::kByte},
                                                                   {DType::kBool, at::kBool}}};

}  // namespace

at::Tensor to_tensor(const io::TensorView& view) {
  for (const auto& [dtype, type] : kTypes) {
    if (dtype == view.dtype) {
      at::Tensor tensor = at::empty(view.shape, type);
      if (!view.data.empty()) {
        std::memcpy(tensor.mutable_data_ptr(), view.data.data(), view.data.size());
      }
      return tensor;
    }
  }
  throw user_error("tensor '{}': dtype {} has no counterpart here", view.name,
                   io::dtype_name(view.dtype));
}

void write_tensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                   const io::Metadata& metadata) {
  std::vector<at::Tensor> kept;  // the views below point into these
  std::vector<io::TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor& local = kept.emplace_back(tensor.detach().cpu().contiguous());
    io::TensorView view{
        .name = name, .dtype = DType::kF32, .shape = local.sizes().vec(), .data = {}};
    bool found = false;
    for (const auto& [dtype, type] : kTypes) {
      if (type == local.scalar_type()) {
        view.dtype = dtype;
        found = true;
      }
    }
    TORCH_CHECK(found, "no safetensors dtype for ", local.scalar_type());
    view.data = {static_cast<const std::byte*>(local.const_data_ptr()), local.nbytes()};
    views.push_back(std::move(view));
  }
  io::write_safetensors(path, views, metadata);
}

}  // namespace hyena::models
