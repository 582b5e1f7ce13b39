// Depthwise causal short convolution, alone.
//
//     q[b,c,t] = bias[c] + sum_{j<T} weight[c,j] x[b,c,t-(T-1)+j]        conv1d order, x = 0 before
//     0
//
// Shapes    x, q: (B, C, L)   weight: (C, T)   bias: (C)
// Cost      2 B C L T FLOP; reads x once, writes q once
// Numerics  |error of q| <= (T + 1) eps (|bias| + |weight| * |x|); dweight and dbias are summed in
//           float64 every 256 steps
// Items     tiles of channels with all their rows: one order of summation, any number of threads
// Tested by tests/kernels/short_conv_test.cpp
#pragma once

#include <cstddef>
#include <cstdint>

#include "hyena/kernels/gated_conv.h"

namespace hyena::kernels {

struct ShortConvShape {
  std::int64_t batch = 0;              // B
  std::int64_t channels = 0;           // C
  std::int64_t length = 0;             // L
  std::int64_t taps = 0;               // T >= 1
  DataType type = DataType::kFloat32;  // of x and q; weight and bias are float64 iff this is
};

[[nodiscard]] std::int64_t short_conv_items(const ShortConvShape& shape);
/// Scratch of each thread inside a call, on a 64-byte boundary for speed.
[[nodiscard]] std::size_t short_conv_workspace_bytes(const ShortConvShape& shape);

/// Writes items [begin, end) of q, which may not overlap x.
void short_conv_forward(const ShortConvShape& shape, const Factor& x, const Array& q,
                        std::int64_t begin, std::int64_t end, void* workspace);

/// Writes items [begin, end) of dx, dweight and dbias from dq.
void short_conv_backward(const ShortConvShape& shape, const Factor& x, const ConstArray& dq,
                         const FactorGradient& dx, std::int64_t begin, std::int64_t end,
                         void* workspace);

}  // namespace hyena::kernels
