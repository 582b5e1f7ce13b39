#include "hyena/ops/hyena_matrix.h"

#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/ops/short_conv.h"
#include "tests/ops/mixer_case.h"
#include "tests/support/tensors.h"

namespace hyena::ops {
namespace {

using namespace testing_support;  // NOLINT: the whole file speaks it

struct Setup {
  MixerCase c;
  MixerInputs in;
  at::Tensor q_BCL;  // after the short convolution
  at::Tensor H_BDLL;
};

std::vector<Setup> setups() {
  std::vector<Setup> all;
  for (const MixerMode mode : {MixerMode::kSafari, MixerMode::kPaper}) {
    for (std::int64_t order = mode == MixerMode::kSafari ? 2 : 1; order <= 4; ++order) {
      for (const bool skip : {true, false}) {
        const MixerCase c{.L = 13,
                          .K = skip ? 13 : 8,
                          .order = order,
                          .mode = mode,
                          .has_skip = skip,
                          .type = at::kDouble};
        const MixerInputs in = mixer_inputs(c, 91);
        const at::Tensor q = composed::short_conv(in.p_BCL, in.short_weight_CT, in.short_bias_C);
        all.push_back({c, in, q, hyena_matrix(q, in.h_MDK, in.skip_MD, mode)});
      }
    }
  }
  return all;
}

TEST(HyenaMatrix, TimesVIsTheOperator) {
  for (const auto& [c, in, q, H] : setups()) {
    SCOPED_TRACE(c.text());
    const at::Tensor v = q.narrow(1, c.order * c.D, c.D);
    const at::Tensor y =
        hyena_mixer(in.p_BCL, in.short_weight_CT, in.short_bias_C, in.h_MDK, in.skip_MD, c.mode);
    EXPECT_EQ(H.sizes(), at::IntArrayRef({c.B, c.D, c.L, c.L}));
    EXPECT_LT(relative_error(H.matmul(v.unsqueeze(-1)).squeeze(-1), y), 1e-13);
  }
}

/// Column s is what the oracle's recurrence makes of an impulse at s.
TEST(HyenaMatrix, ColumnsAreResponsesToImpulses) {
  for (const auto& [c, in, q, H] : setups()) {
    SCOPED_TRACE(c.text());
    const Rows rows(q);
    for (std::int64_t b = 0; b < c.B; ++b) {
      for (std::int64_t d = 0; d < c.D; ++d) {
        oracle::MixerChannel channel = mixer_channel(c, in, b, d);
        channel.rounding = oracle::Rounding::kDirect;
        std::vector<oracle::BoundedRow> chunks;
        for (std::int64_t i = 0; i <= c.order; ++i) {
          chunks.push_back(oracle::exact(rows[b * c.channels() + i * c.D + d]));
        }
        for (std::int64_t s = 0; s < c.L; ++s) {
          std::vector<double> impulse(static_cast<std::size_t>(c.L));
          impulse[static_cast<std::size_t>(s)] = 1.0;
          chunks.back() = oracle::exact(impulse);
          const auto response = oracle::recurrence(channel, chunks, arithmetic_of(at::kDouble));
          // The matrix sums L products where the impulse leaves one: L times the bound.
          std::vector<double> expected;
          std::vector<double> bound;
          double largest = 0.0;
          for (const oracle::Bounded& x : response) {
            expected.push_back(x.value);
            largest = std::max(largest, std::abs(x.value));
          }
          bound.assign(expected.size(), static_cast<double>(c.L) * 0x1p-52 * (1.0 + largest));
          EXPECT_TRUE(within_bound(expected, values(H[b][d].select(1, s)), bound));
        }
      }
    }
  }
}

TEST(HyenaMatrix, IsLowerTriangularBitForBit) {
  for (const auto& [c, in, q, H] : setups()) {
    SCOPED_TRACE(c.text());
    EXPECT_EQ(H.triu(1).abs().max().item<double>(), 0.0);
    EXPECT_GT(H.diagonal(0, 2, 3).abs().max().item<double>(), 0.0);
  }
}

TEST(ToeplitzMatrix, PutsLagZeroOnTheDiagonal) {
  const at::Tensor h = torch::tensor({{2.0, 3.0}}, at::kDouble);
  EXPECT_EQ(values(toeplitz_matrix(h, 3)), (std::vector<double>{2, 0, 0, 3, 2, 0, 0, 3, 2}));
}

}  // namespace
}  // namespace hyena::ops
