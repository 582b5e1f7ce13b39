// What the targets of short_conv.cpp share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hyena/kernels/short_conv.h"

namespace hyena::kernels::cpu {

/// Items [begin, end) of the forward (q set) or the backward (dq set). No items only count sizes.
struct ShortCall {
  const ShortConvShape& shape;
  const Factor& x;
  const Array* q;
  const ConstArray* dq;
  const FactorGradient& dx;
  std::int64_t begin;
  std::int64_t end;
};

struct ShortSizes {
  std::int64_t items;
  std::size_t workspace_bytes;
};

}  // namespace hyena::kernels::cpu
