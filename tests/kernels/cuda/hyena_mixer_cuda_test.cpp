// The CUDA mixer against float64, on every path: lengths, alignments, batches, taps, element types.
#include "hyena/kernels/hyena_mixer_cuda.h"

#include <cstdio>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

#include "hyena/base/error.h"
#include "tests/kernels/cuda/mixer_case.h"

namespace {

using hyena::kernels::CudaElement;
using hyena::kernels::CudaMixerShape;
using hyena::testing_support::MixerCase;
using hyena::testing_support::MixerErrors;
using hyena::testing_support::promised_y;

CudaMixerShape shape(std::int64_t batch, std::int64_t channels, std::int64_t length,
                     std::int64_t filter_length = 0, std::int64_t stride = 0, int taps = 3,
                     CudaElement type = CudaElement::kBFloat16) {
  return {batch,
          channels,
          length,
          filter_length != 0 ? filter_length : length,
          stride != 0 ? stride : length,
          taps,
          type};
}

/// A row and its filter; 0 taps: as long as the row. Short filters take other kernels.
struct Row {
  std::int64_t length;
  std::int64_t taps = 0;
};

class HyenaMixerCuda : public testing::TestWithParam<CudaMixerShape> {
 protected:
  void SetUp() override {
    if (!hyena::kernels::hyena_mixer_cuda_supports(shape(1, 1, 8), 0))
      GTEST_SKIP() << "no CUDA device of capability 9.0 here: run scripts/gpu_kernels on one";
  }
};

/// The promises of the header. Short rows have few values to average over and bias gradients may
/// cancel, so the bounds are those of the largest partial sum there: four times.
void expect_promised(const MixerCase& c, const MixerErrors& e) {
  const double few = c.s.length < 1000 ? 4.0 : 1.0;
  EXPECT_TRUE(c.guards) << "wrote outside of a buffer or into the padding of a row";
  const double y = promised_y(c.s);
  const bool bf16 = c.s.type == CudaElement::kBFloat16;
  EXPECT_LE(e.y, few * y);
  // The squares of y, a product of three normal numbers, vary so much that the error of one row of
  // 1000 times has a spread of 8 %: three of these.
  EXPECT_LE(e.y_row, few * 1.25 * y);
  EXPECT_LE(e.dp, few * 3e-3);
  EXPECT_LE(e.dp_row, few * 4.5e-3);
  EXPECT_LE(e.edge, few * 1.8e-2);  // eight standard deviations of y's and dp's errors
  EXPECT_LE(e.dh, few * 1.5e-3);
  EXPECT_LE(e.dh_tail, 1e-3);  // float32 sums of few products
  EXPECT_LE(e.dweight, few * 1.5e-3);
  EXPECT_LE(e.dbias, few * 2.5e-3);
  EXPECT_LE(e.dskip, few * 4.5e-3);  // one value per channel: three standard deviations
  std::printf(
      "  B %lld D %lld L %lld K %lld stride %lld taps %d %s: y %.2e (row %.2e) dp %.2e (row %.2e) "
      "dh "
      "%.2e dw "
      "%.2e "
      "db %.2e dskip %.2e edge %.2e tail %.2e\n",
      static_cast<long long>(c.s.batch), static_cast<long long>(c.s.channels),
      static_cast<long long>(c.s.length), static_cast<long long>(c.s.filter_length),
      static_cast<long long>(c.s.row_stride), c.s.taps, bf16 ? "bf16" : "fp16", e.y, e.y_row, e.dp,
      e.dp_row, e.dh, e.dweight, e.dbias, e.dskip, e.edge, e.dh_tail);
}

TEST_P(HyenaMixerCuda, IsTheOracle) {
  MixerCase c(GetParam(), 17);
  c.run();
  std::vector<std::int64_t> channels;
  for (std::int64_t d = 0; d < c.s.channels && d < 8; ++d)
    channels.push_back(d * (c.s.channels - 1) /
                       std::max<std::int64_t>(1, std::min<std::int64_t>(c.s.channels, 8) - 1));
  const MixerErrors e = c.compare(channels);
  expect_promised(c, e);
}

INSTANTIATE_TEST_SUITE_P(Whole, HyenaMixerCuda,
                         testing::Values(shape(9, 5, 1024), shape(5, 5, 2048), shape(3, 6, 4096),
                                         shape(2, 7, 8192), shape(1, 1, 8192), shape(16, 140, 1024),
                                         shape(3, 3, 8192, 100), shape(2, 3, 2048, 1),
                                         shape(4, 3, 4096, 0, 4104), shape(3, 4, 8192, 0, 0, 1),
                                         shape(3, 4, 4096, 0, 0, 2),
                                         shape(3, 4, 8192, 0, 0, 3, CudaElement::kFloat16),
                                         shape(9, 4, 1024, 0, 0, 3, CudaElement::kFloat16)));
INSTANTIATE_TEST_SUITE_P(Ragged, HyenaMixerCuda,
                         testing::Values(shape(2, 3, 1, 0, 2), shape(3, 3, 2), shape(3, 3, 3, 0, 8),
                                         shape(9, 3, 31, 0, 32), shape(5, 3, 255, 200, 256),
                                         shape(9, 3, 1000), shape(3, 3, 1026),
                                         shape(5, 3, 1026, 0, 1032), shape(3, 3, 2047, 0, 2048),
                                         shape(2, 3, 4099, 0, 4100), shape(2, 3, 8190),
                                         shape(2, 3, 8191, 8000, 8192), shape(3, 3, 6000, 0, 6000),
                                         shape(2, 3, 4098, 0, 4098, 3, CudaElement::kFloat16)));

// Rows a little longer than a power of two: every kernel, one to eight times more, filters that end
// before, at and behind it, tensors that the copy engine can and cannot fetch, few taps.
INSTANTIATE_TEST_SUITE_P(
    Tail, HyenaMixerCuda,
    testing::Values(shape(9, 8, 1026, 0, 1032), shape(9, 8, 1026), shape(5, 3, 2050, 0, 2056),
                    shape(3, 4, 4097, 0, 4104), shape(3, 3, 4104, 4096, 4104),
                    shape(2, 5, 8194, 0, 8200), shape(3, 8, 8194), shape(2, 3, 8200, 5000, 8200),
                    shape(2, 3, 8195, 0, 8200, 1), shape(2, 3, 16386, 0, 16392),
                    shape(2, 3, 16391, 0, 16392), shape(2, 3, 32770, 0, 32776),
                    shape(2, 8, 32770, 32769, 32770), shape(1, 3, 65538, 0, 65544),
                    shape(2, 2, 65540, 300, 65544), shape(2, 2, 131074, 0, 131080),
                    shape(1, 2, 131074, 0, 131074, 2),
                    shape(2, 3, 8194, 0, 8200, 3, CudaElement::kFloat16),
                    shape(2, 3, 16386, 0, 16392, 3, CudaElement::kFloat16)));

// Clusters of 2, 4 and 8 blocks, rows of 256 rho points with rho = 1 to 16, whole and ragged; more
// rows than a grid holds, and fewer.
INSTANTIATE_TEST_SUITE_P(
    Long, HyenaMixerCuda,
    testing::Values(shape(2, 3, 16384), shape(3, 8, 8194), shape(1, 2, 131072), shape(1, 3, 65536),
                    shape(2, 3, 32768), shape(50, 3, 16384), shape(2, 70, 16386),
                    shape(1, 133, 65536), shape(2, 67, 24580, 20000, 24584), shape(1, 5, 24576),
                    shape(2, 3, 16384, 300), shape(1, 3, 8193, 0, 8200),
                    shape(2, 3, 16387, 9000, 16392), shape(1, 2, 40000), shape(1, 140, 16384),
                    shape(1, 2, 131074), shape(1, 2, 98304, 0, 0, 2), shape(3, 5, 131072),
                    shape(1, 2, 32768, 0, 0, 3, CudaElement::kFloat16),
                    shape(2, 6, 262144, 0, 0, 3, CudaElement::kFloat16),
                    shape(1, 6, 400001, 0, 400002), shape(1, 4, 1000002),
                    shape(1, 2, 1048576, 5000)));

// Short filters, as Toeplitz products: every tile (rows up to 256, up to 512, longer), one and two
// pieces of halo, filters around multiples of 16 and of 128, rows that end in, at and behind a
// tile, that only 4-byte accesses can reach, few taps.
INSTANTIATE_TEST_SUITE_P(
    Direct, HyenaMixerCuda,
    testing::Values(shape(3, 5, 1, 1, 2), shape(9, 3, 5, 3, 6), shape(2, 3, 17, 17, 18),
                    shape(2, 4, 100, 64), shape(5, 3, 130, 129), shape(3, 4, 256, 256),
                    shape(3, 4, 256, 128), shape(2, 3, 258, 256), shape(3, 3, 512, 3),
                    shape(3, 3, 500, 130, 500), shape(3, 3, 514, 127), shape(2, 3, 514, 256),
                    shape(2, 3, 1000, 128), shape(2, 3, 1200, 256), shape(2, 3, 1282, 256, 1282),
                    shape(3, 3, 1025, 2, 1032), shape(5, 3, 2048, 16), shape(40, 9, 2048, 128),
                    shape(2, 2, 4097, 100, 4098), shape(2, 2, 4098, 113, 4104),
                    shape(3, 4, 4096, 114), shape(1, 2, 70000, 128), shape(1, 3, 8193, 255, 8194),
                    shape(300, 2, 64, 33), shape(1, 300, 1024, 100), shape(3, 4, 2048, 128, 0, 1),
                    shape(3, 4, 1537, 200, 1538, 2), shape(3, 4, 250, 70, 252, 2),
                    shape(3, 4, 2048, 128, 0, 3, CudaElement::kFloat16),
                    shape(3, 4, 300, 256, 302, 3, CudaElement::kFloat16)));

TEST_F(HyenaMixerCuda, EqualInputsGiveEqualBits) {
  for (const auto [length, taps] : {Row{1024}, Row{8192}, Row{16384}, Row{131072}, Row{200, 64},
                                    Row{2048, 128}, Row{5000, 256}}) {
    MixerCase a(shape(length > 16384 ? 1 : 9, 15, length, taps), 5);
    MixerCase b = a;
    a.run();
    for (int repeat = 0; repeat < 100; ++repeat) {
      b.run();
      ASSERT_EQ(a.y, b.y) << repeat;
      ASSERT_EQ(a.dp, b.dp) << repeat;
      ASSERT_EQ(a.dh, b.dh) << repeat;
      ASSERT_EQ(a.dweight, b.dweight) << repeat;
      ASSERT_EQ(a.dbias, b.dbias) << repeat;
      ASSERT_EQ(a.dskip, b.dskip) << repeat;
    }
  }
}

TEST_F(HyenaMixerCuda, RunsInsideACudaGraph) {
  for (const auto [length, taps] :
       {Row{2048}, Row{8192}, Row{16384}, Row{65536}, Row{131072}, Row{2048, 128}}) {
    MixerCase direct(shape(2, 3, length, taps), 11);
    MixerCase captured = direct;
    direct.run();
    captured.run(3);
    EXPECT_EQ(direct.y, captured.y) << length;
    EXPECT_EQ(direct.dp, captured.dp) << length;
    EXPECT_EQ(direct.dh, captured.dh) << length;
    EXPECT_EQ(direct.dweight, captured.dweight) << length;
  }
}

TEST_F(HyenaMixerCuda, OneHundredRepeatsGiveEqualBits) {
  MixerCase c(shape(5, 40, 4096), 12);
  c.run();
  const MixerCase first = c;
  c.run(100);
  EXPECT_EQ(first.y, c.y);
  EXPECT_EQ(first.dp, c.dp);
  EXPECT_EQ(first.dh, c.dh);
  EXPECT_EQ(first.dbias, c.dbias);
}

// Rows that only 4-byte accesses can reach take the other loads and stores; the values are the
// same.
TEST_F(HyenaMixerCuda, MisalignedTensors) {
  for (const auto [length, taps] :
       {Row{1024}, Row{8192}, Row{16384}, Row{256, 100}, Row{2048, 128}}) {
    MixerCase aligned(shape(2, 3, length, taps), 13);
    MixerCase shifted = aligned;
    aligned.run();
    shifted.run(0, 4);
    EXPECT_TRUE(shifted.guards);
    EXPECT_EQ(aligned.y, shifted.y) << length;
    EXPECT_EQ(aligned.dp, shifted.dp) << length;
    EXPECT_EQ(aligned.dh, shifted.dh) << length;
    EXPECT_THROW(shifted.run(0, 2), hyena::UserError);
  }
}

// The scale of a row must come from that row: a copy of row 0 among rows of any size, elsewhere in
// its tile, has the same bits.
TEST_F(HyenaMixerCuda, ARowDoesNotSeeItsNeighbours) {
  for (const auto [length, taps] :
       {Row{1024}, Row{2048}, Row{8192}, Row{16384}, Row{128, 128}, Row{1500, 200}}) {
    MixerCase c(shape(11, 3, length, taps), 6);
    const auto width = static_cast<std::size_t>(3 * c.s.channels * length);
    for (std::size_t b = 1; b < 11; ++b)
      for (std::size_t i = 0; i < width; ++i) {
        const double size = std::ldexp(1.0, static_cast<int>(b) * 7 - 40);
        c.p[b * width + i] =
            b == 7 ? c.p[i]
                   : hyena::testing_support::to_bits(
                         size * hyena::testing_support::from_bits(c.p[b * width + i], c.s.type),
                         c.s.type);
      }
    const std::size_t out = width / 3;
    std::copy(c.dy.begin(), c.dy.begin() + static_cast<std::ptrdiff_t>(out),
              c.dy.begin() + static_cast<std::ptrdiff_t>(7 * out));
    c.run();
    for (std::size_t i = 0; i < out; ++i)
      ASSERT_EQ(c.y[i], c.y[7 * out + i]) << length << " " << i;
    for (std::size_t i = 0; i < width; ++i)
      ASSERT_EQ(c.dp[i], c.dp[7 * width + i]) << length << " " << i;
  }
}

// Sizes far outside fp16: the row scale brings them back.
TEST_F(HyenaMixerCuda, AnySizeOfInput) {
  for (const double size : {1e-9, 3e4})
    for (const auto [length, taps] : {Row{1024}, Row{8192}, Row{32768}, Row{4096, 128}}) {
      MixerCase c(shape(4, 6, length, taps), 8, size, 1e-12 / size);
      std::fill(c.bias.begin(), c.bias.end(), 0.F);
      c.run();
      expect_promised(c, c.compare({0, 1, 2, 3, 4, 5}));
    }
}

TEST_F(HyenaMixerCuda, ZeroRowsGiveZero) {
  for (const auto [length, taps] : {Row{2048}, Row{16384}, Row{131072}, Row{2048, 128}}) {
    MixerCase c(shape(3, 3, length, taps), 9, 0.0);
    std::fill(c.bias.begin(), c.bias.end(), 0.F);
    c.run();
    for (const auto v : c.y)
      ASSERT_EQ(v & 0x7fff, 0) << length;
    for (const auto v : c.dp)
      ASSERT_EQ(v & 0x7fff, 0) << length;
    for (const auto v : c.dh)
      ASSERT_EQ(v, 0.F) << length;
  }
}

TEST_F(HyenaMixerCuda, RefusesWhatItCannotDo) {
  using hyena::kernels::hyena_mixer_cuda_supports;
  EXPECT_FALSE(hyena_mixer_cuda_supports(shape(1, 1, 7), 0)) << "odd row stride";
  EXPECT_FALSE(hyena_mixer_cuda_supports(shape(1, 1, 8, 9), 0)) << "filter longer than the row";
  EXPECT_FALSE(hyena_mixer_cuda_supports(shape(1, 1, 8, 8, 8, 4), 0)) << "four taps";
  EXPECT_FALSE(hyena_mixer_cuda_supports(shape(0, 1, 8), 0)) << "no rows";
  EXPECT_FALSE(hyena_mixer_cuda_supports(shape(1, 1, 8), 99)) << "no such device";
  EXPECT_THROW(
      static_cast<void>(hyena::kernels::hyena_mixer_cuda_spectrum_bytes(shape(1, 1, 8, 8, 8, 4))),
      hyena::UserError);
}

}  // namespace
