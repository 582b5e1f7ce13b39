#include "hyena/nn/affine.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/train/autocast.h"

namespace hyena::nn {
namespace {

struct Results {
  at::Tensor y, dx, dweight, dbias;
};

template <typename Function>
Results results_of(torch::nn::Linear& layer, const at::Tensor& x, const at::Tensor& dy,
                   Function function) {
  const at::Tensor leaf = x.detach().requires_grad_(true);
  layer->zero_grad();
  const at::Tensor y = function(leaf);
  y.backward(dy.to(y.scalar_type()));
  return {y.detach(), leaf.grad(), layer->weight.grad().clone(), layer->bias.grad().clone()};
}

void expect_close(const Results& a, const Results& b, double bound) {
  const auto check = [&](const char* name, const at::Tensor& x, const at::Tensor& y) {
    ASSERT_EQ(x.sizes(), y.sizes()) << name;
    ASSERT_EQ(x.scalar_type(), y.scalar_type()) << name;
    EXPECT_LE((x - y).norm().item<double>(), bound * y.norm().item<double>()) << name;
  };
  check("y", a.y, b.y);
  check("dx", a.dx, b.dx);
  check("dweight", a.dweight, b.dweight);
  check("dbias", a.dbias, b.dbias);
}

TEST(Affine, IsTheLinearLayerInEveryLayout) {
  torch::manual_seed(1);
  torch::nn::Linear layer(5, 7);
  layer->to(at::kDouble);
  const at::Tensor dense = at::randn({3, 4, 5}, at::kDouble);
  for (const at::Tensor& x : {dense, at::randn({3, 5, 4}, at::kDouble).transpose(1, 2), dense[0]}) {
    auto shape = x.sizes().vec();
    shape.back() = 7;
    const at::Tensor dy = at::randn(shape, at::kDouble);
    expect_close(results_of(layer, x, dy, [&](const at::Tensor& v) { return affine(layer, v); }),
                 results_of(layer, x, dy, [&](const at::Tensor& v) { return layer(v); }), 1e-13);
  }
}

TEST(Affine, UnderAutocastIsTheLinearLayerWithinItsRounding) {
  torch::manual_seed(2);
  torch::nn::Linear layer(16, 8);
  const at::Tensor x = at::randn({4, 32, 16});
  const at::Tensor dy = at::randn({4, 32, 8});
  const train::Autocast autocast("bfloat16", at::kCPU);
  const Results ours =
      results_of(layer, x, dy, [&](const at::Tensor& v) { return affine(layer, v); });
  EXPECT_EQ(ours.y.scalar_type(), at::kBFloat16);
  EXPECT_EQ(ours.dweight.scalar_type(), at::kFloat);
  expect_close(ours, results_of(layer, x, dy, [&](const at::Tensor& v) { return layer(v); }),
               0x1p-7);
}

TEST(Affine, RowsAreTheLinearLayerTransposed) {
  torch::manual_seed(3);
  torch::nn::Linear layer(5, 7);
  layer->to(at::kDouble);
  for (const std::int64_t L : {1, 8, 11}) {
    SCOPED_TRACE(L);
    const at::Tensor dy = at::randn({3, L, 7}, at::kDouble);
    const auto linear = [&](const at::Tensor& v) { return layer(v); };
    const at::Tensor x = at::randn({3, L, 5}, at::kDouble);
    const Results to = results_of(layer, x, dy, [&](const at::Tensor& v) {
      const at::Tensor y_BOL = affine_to_rows(layer, v);
      EXPECT_EQ(y_BOL.stride(2), 1);
      EXPECT_EQ(y_BOL.stride(1) % 8, 0);
      return y_BOL.transpose(1, 2);
    });
    expect_close(to, results_of(layer, x, dy, linear), 1e-13);
    const Results from = results_of(layer, x, dy, [&](const at::Tensor& v) {
      return affine_from_rows(layer, v.transpose(1, 2).contiguous());
    });
    expect_close(from, results_of(layer, x, dy, linear), 1e-13);
  }
}

TEST(Affine, RowsUnderAutocastAreTheLinearLayerWithinItsRounding) {
  torch::manual_seed(4);
  torch::nn::Linear layer(16, 8);
  const at::Tensor x = at::randn({4, 32, 16});
  const at::Tensor dy = at::randn({4, 32, 8});
  const train::Autocast autocast("bfloat16", at::kCPU);
  const Results expected = results_of(layer, x, dy, [&](const at::Tensor& v) { return layer(v); });
  // Partial sums of the weight's gradient are rounded, too.
  expect_close(
      results_of(layer, x, dy,
                 [&](const at::Tensor& v) { return affine_to_rows(layer, v).transpose(1, 2); }),
      expected, 0x1p-6);
  expect_close(results_of(layer, x, dy,
                          [&](const at::Tensor& v) {
                            return affine_from_rows(layer, v.transpose(1, 2).contiguous());
                          }),
               expected, 0x1p-6);
}

TEST(Affine, NoRowsGiveNoRows) {
  const torch::nn::Linear layer(5, 7);
  EXPECT_EQ(affine(layer, at::zeros({2, 0, 5})).sizes(), at::IntArrayRef({2, 0, 7}));
}

}  // namespace
}  // namespace hyena::nn
