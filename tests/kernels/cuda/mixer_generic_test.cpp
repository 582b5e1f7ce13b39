// The generic CUDA mixer against float64: lengths, element types, taps, strides, filters, slices.
#include <cstdio>
#include <string>

#include <gtest/gtest.h>

#include "hyena/base/error.h"
#include "hyena/kernels/mixer_cuda_generic.h"
#include "tests/kernels/cuda/mixer_generic_case.h"

namespace {

using hyena::kernels::CudaElement;
using hyena::kernels::CudaMixerShape;
using hyena::testing_support::GenericCase;
using hyena::testing_support::GenericErrors;

constexpr CudaElement kAllTypes[] = {CudaElement::kFloat32, CudaElement::kBFloat16,
                                     CudaElement::kFloat16};

const char* name(CudaElement type) {
  switch (type) {
    case CudaElement::kBFloat16:
      return "bf16";
    case CudaElement::kFloat16:
      return "fp16";
    default:
      return "fp32";
  }
}

CudaMixerShape shape(std::int64_t batch, std::int64_t channels, std::int64_t length,
                     CudaElement type = CudaElement::kFloat32, std::int64_t filter_length = 0,
                     std::int64_t stride = 0, int taps = 3) {
  return {batch,
          channels,
          length,
          filter_length != 0 ? filter_length : length,
          stride != 0 ? stride : length,
          taps,
          type};
}

class GenericMixer : public testing::Test {
 protected:
  void SetUp() override {
    if (!hyena::kernels::hyena_mixer_cuda_generic_supports(shape(1, 1, 8), 0))
      GTEST_SKIP() << "no CUDA device of capability 8.0 here: run scripts/gpu_kernels on one";
  }

  static GenericErrors check(GenericCase& c) {
    c.run();
    std::vector<std::int64_t> channels;
    for (std::int64_t d = 0; d < c.s.channels; d += std::max<std::int64_t>(1, c.s.channels / 6))
      channels.push_back(d);
    const GenericErrors e = c.compare(channels);
    const std::string what =
        std::string(name(c.s.type)) + " B " + std::to_string(c.s.batch) + " D " +
        std::to_string(c.s.channels) + " L " + std::to_string(c.s.length) + " K " +
        std::to_string(c.s.filter_length) + " stride " + std::to_string(c.s.row_stride) + " taps " +
        std::to_string(c.s.taps) + (c.has_reverse ? " both ways" : "");
    // Short rows have few values to average over, and their sums may cancel: the bounds are those
    // of the largest partial sum there.
    const double few = c.s.length < 1000 ? 4.0 : 1.0;
    const double exact = hyena::testing_support::promised_float32(c.s.length);
    const double rounded = exact + hyena::testing_support::output_rounding(c.s.type);
    EXPECT_TRUE(c.guards) << what << ": wrote outside of a buffer or into the padding of a row";
    EXPECT_LE(e.y, few * rounded) << what;
    EXPECT_LE(e.y_row, few * 2.0 * rounded) << what;
    EXPECT_LE(e.dp, few * rounded) << what;
    EXPECT_LE(e.dp_row, few * 2.0 * rounded) << what;
    EXPECT_LE(e.dh, few * exact) << what;
    EXPECT_LE(e.dreverse, few * exact) << what;
    EXPECT_LE(e.dskip, few * 4.0 * exact) << what;  // one value per channel
    EXPECT_LE(e.dweight, few * 1e-5) << what;       // long sums that may cancel
    EXPECT_LE(e.dbias, few * 1e-5) << what;
    std::printf(
        "  %s: y %.2e (row %.2e) dp %.2e (row %.2e) dh %.2e dr %.2e dskip %.2e dw %.2e db %.2e\n",
        what.c_str(), e.y, e.y_row, e.dp, e.dp_row, e.dh, e.dreverse, e.dskip, e.dweight, e.dbias);
    return e;
  }
  static void check(const CudaMixerShape& s, bool biased = true, bool skipped = true,
                    bool both_ways = false) {
    GenericCase c(s, static_cast<std::uint32_t>(s.length + s.taps), biased, skipped, both_ways);
    check(c);
  }
  static void check_both_ways(const CudaMixerShape& s, bool skipped = true) {
    check(s, true, skipped, true);
  }
};

TEST_F(GenericMixer, ShortRows) {
  for (const auto type : kAllTypes)
    for (const std::int64_t length :
         {1, 2, 3, 7, 64, 100, 256, 257, 500, 1000, 1024, 1025, 2000, 4096})
      check(shape(5, 4, length, type));
}

TEST_F(GenericMixer, RowsThatTheBackwardCuts) {
  for (const auto type : kAllTypes)
    for (const std::int64_t length : {4097, 8192})
      check(shape(3, 3, length, type));
}

TEST_F(GenericMixer, LongRows) {
  for (const auto type : kAllTypes)
    for (const std::int64_t length : {8193, 16384, 50000, 65536, 131072})
      check(shape(2, 3, length, type));
}

TEST_F(GenericMixer, LongerRows) {
  check(shape(1, 2, 200000));
  check(shape(1, 1, 300000, CudaElement::kBFloat16));
  check(shape(1, 2, (1 << 20) - 1, CudaElement::kFloat16));
  check(shape(1, 2, (1 << 20) + 3));
}

TEST_F(GenericMixer, TheLongestRow) {
  check(shape(1, 1, std::int64_t{1} << 22));
}

TEST_F(GenericMixer, ShortFilters) {
  for (const std::int64_t length : {300, 4096, 8192, 20000})
    for (const std::int64_t taps : {std::int64_t{1}, std::int64_t{17}, length - 1})
      check(shape(3, 4, length, CudaElement::kFloat32, taps));
}

TEST_F(GenericMixer, OneToEightTaps) {
  for (const auto type : kAllTypes)
    for (int taps = 1; taps <= 8; ++taps)
      for (const std::int64_t length : {5, 600, 5000, 16385})
        check(shape(3, 3, length, type, 0, 0, taps));
}

TEST_F(GenericMixer, AnyStrideAndAlignment) {
  for (const auto type : kAllTypes)
    for (const std::int64_t length : {7, 1024, 4099, 8192, 20001}) {
      check(shape(2, 3, length, type, 0, length + 1));
      GenericCase straight(shape(2, 3, length, type, 0, length + 12), 3);
      GenericCase shifted = straight;
      straight.run();
      shifted.run(0, hyena::testing_support::element_bytes(type));
      EXPECT_TRUE(shifted.guards);
      EXPECT_TRUE(straight.equal_bits(shifted)) << name(type) << " " << length;
    }
}

TEST_F(GenericMixer, WithoutBiasAndSkip) {
  for (const std::int64_t length : {1000, 9000}) {
    check(shape(3, 3, length), false, true);
    check(shape(3, 3, length), true, false);
    check(shape(3, 3, length), false, false);
  }
}

TEST_F(GenericMixer, FiltersBothWays) {
  for (const auto type : kAllTypes)
    for (const std::int64_t length : {1, 2, 7, 100, 256, 1000, 4097, 8192, 16384, 50000})
      check_both_ways(shape(3, 3, length, type));
  check_both_ways(shape(2, 3, 1024), /*skipped=*/false);
  check_both_ways(shape(2, 3, 131072), /*skipped=*/false);
  check_both_ways(shape(1, 1, std::int64_t{1} << 20));
}

// One tap, and so many that both filters have taps at the same points of the transform.
TEST_F(GenericMixer, ShortFiltersBothWays) {
  for (const std::int64_t length : {7, 300, 4096, 8192, 20000})
    for (const std::int64_t taps :
         {std::int64_t{1}, std::int64_t{2}, length / 2, length / 2 + 1, length - 1})
      check_both_ways(shape(3, 4, length, CudaElement::kFloat32, taps));
}

// Slices of whole channels: the gradients of the second slice's filters.
TEST_F(GenericMixer, SlicesOfChannelsBothWays) {
  check_both_ways(shape(1, 2100, 8193, CudaElement::kFloat32, 5000));
}

// Neither filter sees what is not its own: impulses at the ends of a row that is zero elsewhere.
TEST_F(GenericMixer, FarTapsComeToTheirEnds) {
  for (const std::int64_t length : {256, 1000, 8192, 16384}) {
    GenericCase c(shape(1, 1, length, CudaElement::kFloat32, 0, 0, 1), 4, false, false, true);
    std::fill(c.weight.begin(), c.weight.end(), 1.F);
    std::fill(c.p.bytes.begin(), c.p.bytes.end(), static_cast<unsigned char>(0));
    const auto L = GenericCase::index(length);
    for (std::size_t n = 0; n < L; ++n)
      c.p.set(n, 1.0);
    for (std::size_t part = 1; part < 3; ++part) {
      c.p.set(part * L, 1.0);
      c.p.set(part * L + L - 1, 1.0);
    }
    c.run();
    const auto at = [](const std::vector<float>& x, std::size_t i) {
      return static_cast<double>(x[i]);
    };
    for (std::size_t n = 0; n < L; ++n) {
      double expected = at(c.h, n) + at(c.reverse, L - 1 - n);
      if (n == 0) expected += at(c.reverse, 0);
      if (n == L - 1) expected += at(c.h, 0);
      ASSERT_NEAR(c.y.at(n), expected, 1e-6) << length << " " << n;
    }
  }
}

// More channels than a device runs at once; few channels, so that blocks share a batch.
TEST_F(GenericMixer, ManyRows) {
  check(shape(7, 1100, 300));
  check(shape(1, 700, 4096));
  check(shape(130, 5, 1000, CudaElement::kBFloat16));
  check(shape(37, 1, 4096));
  check(shape(21, 2, 8192));
}

TEST_F(GenericMixer, EqualInputsGiveEqualBits) {
  for (const std::int64_t length : {100, 4096, 8192, 16384, 131072}) {
    for (const bool both_ways : {false, true}) {
      GenericCase a(shape(9, 3, length), 5, true, true, both_ways);
      GenericCase b = a;
      a.run();
      for (int repeat = 0; repeat < 3; ++repeat) {
        b.run();
        EXPECT_TRUE(a.equal_bits(b)) << length << " " << both_ways;
      }
    }
  }
}

TEST_F(GenericMixer, RunsInsideACudaGraph) {
  for (const std::int64_t length : {1000, 8192, 40000}) {
    GenericCase direct(shape(2, 3, length), 11, true, true, /*both_ways=*/true);
    GenericCase captured = direct;
    direct.run();
    captured.run(3);
    EXPECT_TRUE(direct.equal_bits(captured)) << length;
  }
}

// A copy of row 0 among rows of any size has the same bits.
TEST_F(GenericMixer, ARowDoesNotSeeItsNeighbours) {
  for (const std::int64_t length : {1000, 8192, 20000}) {
    GenericCase c(shape(9, 3, length), 6);
    const std::size_t width = GenericCase::index(3 * c.s.channels * length);
    for (std::size_t b = 1; b < 9; ++b)
      for (std::size_t i = 0; i < width; ++i)
        c.p.set(
            b * width + i,
            b == 7 ? c.p.at(i) : std::ldexp(c.p.at(b * width + i), static_cast<int>(b) * 7 - 40));
    for (std::size_t i = 0; i < width / 3; ++i)
      c.dy.set(7 * (width / 3) + i, c.dy.at(i));
    c.run();
    for (std::size_t i = 0; i < width / 3; ++i)
      ASSERT_EQ(c.y.at(i), c.y.at(7 * (width / 3) + i)) << length << " " << i;
    for (std::size_t i = 0; i < width; ++i)
      ASSERT_EQ(c.dp.at(i), c.dp.at(7 * width + i)) << length << " " << i;
  }
}

TEST_F(GenericMixer, ZeroRowsGiveZero) {
  for (const std::int64_t length : {1000, 8192, 20000}) {
    GenericCase c(shape(2, 3, length), 9, false);
    std::fill(c.p.bytes.begin(), c.p.bytes.end(), static_cast<unsigned char>(0));
    c.run();
    for (std::size_t i = 0; i < c.y.size(); ++i)
      ASSERT_EQ(c.y.at(i), 0.0) << length;
    for (const float v : c.dh)
      ASSERT_EQ(v, 0.F) << length;
  }
}

/// Rows [from, from + count) of a case of one channel.
GenericCase part(const GenericCase& whole, std::int64_t from, std::int64_t count) {
  CudaMixerShape s = whole.s;
  s.batch = count;
  GenericCase c(s, 1);
  c.weight = whole.weight;
  c.bias = whole.bias;
  c.skip = whole.skip;
  c.h = whole.h;
  const auto copy = [&](auto& to, const auto& of, std::int64_t parts) {
    const auto row = parts * whole.s.row_stride * 4;
    std::copy_n(of.bytes.begin() + from * row, count * row, to.bytes.begin());
  };
  copy(c.p, whole.p, 3);
  copy(c.dy, whole.dy, 1);
  return c;
}

// More batch rows than a slice takes, forward and backward: the same rows in two calls.
TEST_F(GenericMixer, SlicesOfABatch) {
  const std::int64_t length = 8193;
  GenericCase whole(shape(2100, 1, length), 21);
  ASSERT_LT(hyena::kernels::hyena_mixer_cuda_generic_forward_workspace(whole.s), 2100U * 8 * 16384);
  GenericCase first = part(whole, 0, 1500);
  GenericCase second = part(whole, 1500, 600);
  whole.run();
  first.run();
  second.run();
  EXPECT_TRUE(whole.guards);
  const auto expect_equal = [&](const auto& all, const auto& a, const auto& b) {
    ASSERT_EQ(all.bytes.size(), a.bytes.size() + b.bytes.size());
    EXPECT_TRUE(std::equal(a.bytes.begin(), a.bytes.end(), all.bytes.begin()));
    EXPECT_TRUE(std::equal(b.bytes.rbegin(), b.bytes.rend(), all.bytes.rbegin()));
  };
  expect_equal(whole.y, first.y, second.y);
  expect_equal(whole.dp, first.dp, second.dp);
  const auto expect_sum = [&](const auto& all, const auto& a, const auto& b, double bound) {
    hyena::testing_support::RelativeError e;
    for (std::size_t i = 0; i < all.size(); ++i)
      e.add(static_cast<double>(all[i]), static_cast<double>(a[i]) + static_cast<double>(b[i]));
    EXPECT_LE(e.value(), bound);
  };
  expect_sum(whole.dh, first.dh, second.dh, 3e-6);
  expect_sum(whole.dweight, first.dweight, second.dweight, 1e-5);
  expect_sum(whole.dbias, first.dbias, second.dbias, 3e-5);
}

// More channels than a slice takes.
TEST_F(GenericMixer, SlicesOfChannels) {
  check(shape(1, 2100, 8193));
}

TEST_F(GenericMixer, RefusesWhatItCannotDo) {
  using hyena::kernels::hyena_mixer_cuda_generic_supports;
  const auto fp32 = CudaElement::kFloat32;
  EXPECT_TRUE(hyena_mixer_cuda_generic_supports(shape(1, 1, 7, fp32, 7, 9, 8), 0));
  EXPECT_TRUE(hyena_mixer_cuda_generic_supports(shape(1, 1, std::int64_t{1} << 22), 0));
  EXPECT_FALSE(hyena_mixer_cuda_generic_supports(shape(1, 1, (std::int64_t{1} << 22) + 1), 0));
  EXPECT_FALSE(hyena_mixer_cuda_generic_supports(shape(1, 1, 8, fp32, 9), 0)) << "long filter";
  EXPECT_FALSE(hyena_mixer_cuda_generic_supports(shape(1, 1, 8, fp32, 8, 7), 0)) << "stride";
  EXPECT_FALSE(hyena_mixer_cuda_generic_supports(shape(1, 1, 8, fp32, 8, 8, 9), 0)) << "nine taps";
  EXPECT_FALSE(hyena_mixer_cuda_generic_supports(shape(0, 1, 8), 0)) << "no rows";
  EXPECT_FALSE(hyena_mixer_cuda_generic_supports(shape(1, 1, 8), 99)) << "no such device";
  EXPECT_THROW(static_cast<void>(hyena::kernels::hyena_mixer_cuda_generic_spectrum_bytes(
                   shape(1, 1, 8, fp32, 8, 8, 9))),
               hyena::UserError);
}

}  // namespace
