// A mixer of given sizes: its random inputs, and what the oracle says about them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <torch/torch.h>

#include "hyena/ops/hyena_mixer.h"
#include "tests/oracle/hyena_mixer_oracle.h"
#include "tests/support/tensors.h"

namespace hyena::testing_support {

struct MixerCase {
  std::int64_t B = 2;
  std::int64_t D = 3;
  std::int64_t L = 17;
  std::int64_t K = 17;
  std::int64_t T = 3;
  std::int64_t order = 2;
  ops::MixerMode mode = ops::MixerMode::kSafari;
  bool has_bias = true;
  bool has_skip = true;
  at::ScalarType type = at::kFloat;

  [[nodiscard]] bool safari() const { return mode == ops::MixerMode::kSafari; }
  [[nodiscard]] std::int64_t filters() const { return safari() ? order - 1 : order; }
  [[nodiscard]] std::int64_t channels() const { return (order + 1) * D; }
  [[nodiscard]] std::string text() const {
    return fmt::format("{} order {} B {} D {} L {} K {} T {} bias {} skip {} {}",
                       ops::to_string(mode), order, B, D, L, K, T, has_bias, has_skip,
                       c10::toString(type));
  }
};

struct MixerInputs {
  at::Tensor p_BCL;
  at::Tensor short_weight_CT;
  std::optional<at::Tensor> short_bias_C;
  at::Tensor h_MDK;
  std::optional<at::Tensor> skip_MD;
  at::Tensor dy_BDL;

  /// All differentiable arguments that are there.
  [[nodiscard]] std::vector<at::Tensor> arguments() const {
    std::vector<at::Tensor> all{p_BCL, short_weight_CT, h_MDK};
    if (short_bias_C) all.push_back(*short_bias_C);
    if (skip_MD) all.push_back(*skip_MD);
    return all;
  }
};

/// Filters do not decay, so that a lag lost at the far end shows; their sum of magnitudes stays
/// near one, so that the bound of several in a row still says something.
inline MixerInputs mixer_inputs(const MixerCase& c, std::uint64_t seed) {
  const bool half = c.type == at::kBFloat16 || c.type == at::kHalf;
  const at::ScalarType parameter = half ? at::kFloat : c.type;
  const double scale = 1.5 / static_cast<double>(std::max<std::int64_t>(c.K, 1));
  return {.p_BCL = normal({c.B, c.channels(), c.L}, seed, c.type),
          .short_weight_CT = normal({c.channels(), c.T}, seed + 1, parameter),
          .short_bias_C = c.has_bias ? std::optional(normal({c.channels()}, seed + 2, parameter))
                                     : std::nullopt,
          .h_MDK = (normal({c.filters(), c.D, c.K}, seed + 3) * scale).to(parameter),
          .skip_MD = c.has_skip ? std::optional(normal({c.filters(), c.D}, seed + 4, parameter))
                                : std::nullopt,
          .dy_BDL = normal({c.B, c.D, c.L}, seed + 5, c.type)};
}

/// Rows of a tensor by its last axis.
class Rows {
 public:
  explicit Rows(const at::Tensor& x)
      : values_(values(x)), width_(static_cast<std::size_t>(x.size(-1))) {}
  [[nodiscard]] std::vector<double> operator[](std::int64_t row) const {
    const auto begin = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row) * width_);
    return {values_.begin() + begin, values_.begin() + begin + static_cast<std::ptrdiff_t>(width_)};
  }

 private:
  std::vector<double> values_;
  std::size_t width_;
};

inline oracle::MixerChannel mixer_channel(const MixerCase& c, const MixerInputs& in, std::int64_t b,
                                          std::int64_t d) {
  const Rows p(in.p_BCL);
  const Rows taps(in.short_weight_CT);
  const Rows h(in.h_MDK);
  oracle::MixerChannel channel;
  channel.safari = c.safari();
  for (std::int64_t i = 0; i <= c.order; ++i) {
    channel.p.push_back(p[b * c.channels() + i * c.D + d]);
    channel.taps.push_back(taps[i * c.D + d]);
    channel.bias.push_back(in.short_bias_C ? (*in.short_bias_C)[i * c.D + d].item<double>() : 0.0);
  }
  for (std::int64_t o = 0; o < c.filters(); ++o) {
    channel.h.push_back(h[o * c.D + d]);
    channel.skip.push_back(in.skip_MD ? (*in.skip_MD)[o][d].item<double>() : 0.0);
  }
  return channel;
}

/// Expectations in the memory order of the contiguous tensors.
struct MixerExpectation {
  oracle::BoundedRow y;
  oracle::BoundedRow dp;
  oracle::BoundedRow dshort_weight;
  oracle::BoundedRow dshort_bias;
  oracle::BoundedRow dh;
  oracle::BoundedRow dskip;
};

/// Gradients of parameters: the sum over the batch of what the oracle says row by row.
inline MixerExpectation mixer_expectation(const MixerCase& c, const MixerInputs& in) {
  const oracle::Arithmetic arithmetic = arithmetic_of(c.type);
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const auto put = [&](oracle::BoundedRow& all, std::int64_t row, const oracle::BoundedRow& part) {
    std::copy(part.begin(), part.end(),
              all.begin() + static_cast<std::ptrdiff_t>(size(row) * part.size()));
  };
  std::vector<oracle::Sum> dweight(size(c.channels() * c.T));
  std::vector<oracle::Sum> dbias(size(c.channels()));
  std::vector<oracle::Sum> dh(size(c.filters() * c.D * c.K));
  std::vector<oracle::Sum> dskip(size(c.filters() * c.D));
  const auto accumulate = [&](std::vector<oracle::Sum>& all, std::int64_t row,
                              const oracle::BoundedRow& part) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      all[size(row) * part.size() + i].add(part[i]);
    }
  };
  MixerExpectation e{.y = oracle::BoundedRow(size(c.B * c.D * c.L)),
                     .dp = oracle::BoundedRow(size(c.B * c.channels() * c.L)),
                     .dshort_weight = {},
                     .dshort_bias = {},
                     .dh = {},
                     .dskip = {}};
  const Rows dy(in.dy_BDL);
  for (std::int64_t b = 0; b < c.B; ++b) {
    for (std::int64_t d = 0; d < c.D; ++d) {
      const oracle::MixerChannel channel = mixer_channel(c, in, b, d);
      put(e.y, b * c.D + d, oracle::mixer(channel, arithmetic));
      const auto g = oracle::mixer_backward(channel, dy[b * c.D + d], arithmetic);
      for (std::int64_t i = 0; i <= c.order; ++i) {
        put(e.dp, b * c.channels() + i * c.D + d, g.p[size(i)]);
        accumulate(dweight, i * c.D + d, g.taps[size(i)]);
        accumulate(dbias, i * c.D + d, {g.bias[size(i)]});
      }
      for (std::int64_t o = 0; o < c.filters(); ++o) {
        accumulate(dh, o * c.D + d, g.h[size(o)]);
        accumulate(dskip, o * c.D + d, {g.skip[size(o)]});
      }
    }
  }
  const auto totals = [&](const std::vector<oracle::Sum>& sums) {
    oracle::BoundedRow row;
    for (const oracle::Sum& sum : sums) {
      row.push_back(sum.result(arithmetic));
    }
    return row;
  };
  e.dshort_weight = totals(dweight);
  e.dshort_bias = totals(dbias);
  e.dh = totals(dh);
  e.dskip = totals(dskip);
  return e;
}

}  // namespace hyena::testing_support
