#include "hyena/ops/layout.h"

#include <ATen/ATen.h>

namespace hyena::ops {

bool is_channels_last(const at::Tensor& x_BCL) {
  // A single channel or a single step is contiguous in both readings; call it contiguous.
  return !x_BCL.is_contiguous() && x_BCL.transpose(1, 2).is_contiguous();
}

at::Tensor in_layout_of(const at::Tensor& like_BCL, const at::Tensor& x_BCL) {
  if (is_channels_last(like_BCL)) {
    return x_BCL.transpose(1, 2).contiguous().transpose(1, 2);
  }
  return x_BCL.contiguous();
}

at::Tensor empty_in_layout_of(const at::Tensor& like_BCL, const c10::SymInt& channels) {
  const c10::SymInt batch = like_BCL.sym_size(0);
  const c10::SymInt length = like_BCL.sym_size(2);
  if (is_channels_last(like_BCL)) {
    return like_BCL.new_empty_symint({batch, length, channels}).transpose(1, 2);
  }
  return like_BCL.new_empty_symint({batch, channels, length});
}

}  // namespace hyena::ops
