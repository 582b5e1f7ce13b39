// Layouts of activations: which rows are padded, and that outputs follow their input.
#include "hyena/ops/layout.h"

#include <cstdint>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace hyena::ops {
namespace {

std::int64_t row(std::int64_t L) {
  return padded_row(L).expect_int();
}
/// (2, 3, L) with rows `stride` apart.
at::Tensor in_rows_of(std::int64_t stride, std::int64_t L) {
  return at::arange(6 * stride).view({2, 3, stride}).narrow(2, 0, L);
}

TEST(Layout, RowsOfMultiplesOfEightAreNotPadded) {
  for (const std::int64_t L : {8, 16, 24, 1024, 1032, 1040, 131080})
    EXPECT_EQ(row(L), L);
}

TEST(Layout, OtherRowsEndOnSixteen) {
  const std::vector<std::pair<std::int64_t, std::int64_t>> cases{
      {1, 16},  {7, 16},      {9, 16},      {17, 32},        {23, 32},
      {25, 32}, {1026, 1040}, {1033, 1040}, {131074, 131088}};
  for (const auto& [L, expected] : cases)
    EXPECT_EQ(row(L), expected) << L;
}

TEST(Layout, PaddedRowsAreKnownByTheirStride) {
  EXPECT_TRUE(has_padded_rows(in_rows_of(32, 17)));
  EXPECT_FALSE(has_padded_rows(in_rows_of(17, 17)));  // contiguous
  EXPECT_FALSE(has_padded_rows(in_rows_of(24, 17)));  // of another length
  EXPECT_FALSE(has_padded_rows(in_rows_of(32, 24)));  // which needs no padding
  EXPECT_FALSE(has_padded_rows(at::zeros({2, 17, 3}).transpose(1, 2)));
}

TEST(Layout, OutputsFollowTheirInput) {
  const at::Tensor contiguous = in_rows_of(17, 17);
  const at::Tensor padded = in_rows_of(32, 17);
  const at::Tensor last = at::arange(102).view({2, 17, 3}).transpose(1, 2);
  for (const at::Tensor& like : {contiguous, padded, last}) {
    for (const at::Tensor& x : {contiguous, padded, last}) {
      const at::Tensor y = in_layout_of(like, x);
      EXPECT_EQ(y.strides(), like.strides());
      // No copy of what is right.
      EXPECT_EQ(y.const_data_ptr() == x.const_data_ptr(), like.is_same(x));
      EXPECT_TRUE(at::equal(y, x));
    }
    EXPECT_EQ(empty_in_layout_of(like, 3).strides(), like.strides());
  }
}

}  // namespace
}  // namespace hyena::ops
