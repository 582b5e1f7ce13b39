#include "hyena/ops/layout.h"

#include <ATen/ATen.h>

namespace hyena::ops {

bool is_channels_last(const at::Tensor& x_BCL) {
  // A single channel or a single step is contiguous in both readings; call it contiguous.
  return !x_BCL.is_contiguous() && x_BCL.transpose(1, 2).is_contiguous();
}

c10::SymInt padded_row(const c10::SymInt& L) {
  const c10::SymInt eights = (L + 7) / 8;
  const c10::SymInt padded = (eights * 8 - L + 7) / 8;  // 0 or 1; L may be symbolic: no branch
  return (eights + padded * (eights % 2)) * 8;
}

bool has_padded_rows(const at::Tensor& x_BCL) {
  const c10::SymInt row = padded_row(x_BCL.sym_size(2));
  return x_BCL.sym_size(2) != row && x_BCL.sym_stride(2) == 1 && x_BCL.sym_stride(1) == row &&
         x_BCL.sym_stride(0) == x_BCL.sym_size(1) * row;
}

at::Tensor in_layout_of(const at::Tensor& like_BCL, const at::Tensor& x_BCL) {
  if (is_channels_last(like_BCL)) {
    return x_BCL.transpose(1, 2).contiguous().transpose(1, 2);
  }
  if (!has_padded_rows(like_BCL)) {
    return x_BCL.contiguous();
  }
  return has_padded_rows(x_BCL) ? x_BCL : empty_in_layout_of(like_BCL, x_BCL.size(1)).copy_(x_BCL);
}

at::Tensor empty_in_layout_of(const at::Tensor& like_BCL, const c10::SymInt& channels) {
  const c10::SymInt batch = like_BCL.sym_size(0);
  const c10::SymInt length = like_BCL.sym_size(2);
  if (is_channels_last(like_BCL)) {
    return like_BCL.new_empty_symint({batch, length, channels}).transpose(1, 2);
  }
  if (has_padded_rows(like_BCL)) {
    return like_BCL.new_empty_symint({batch, channels, padded_row(length)})
        .narrow_symint(2, 0, length);
  }
  return like_BCL.new_empty_symint({batch, channels, length});
}

}  // namespace hyena::ops
