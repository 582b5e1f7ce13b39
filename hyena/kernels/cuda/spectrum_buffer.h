// The spectrum buffer of filters of at most 8192 points: tables, one scale per channel, the
// spectra.
//
// It carries the constants of the transform too and is written by hyena_mixer_cuda_spectrum, so
// nothing static has to be initialised, and stream order is all the order there is.
#pragma once

#include <cstddef>
#include <cstdint>

#include <vector_types.h>

namespace hyena::kernels::cuda {

constexpr int kTileRows = 32;
constexpr int kTilePoints = 256 * kTileRows;
constexpr int kRowVectors = 64;  // uint4 of the spectrum of 256 points

struct Tables {
  // First twiddle with the right-angle twist, [k1][re, im][lane]; of N1 < 32 the part that depends
  // on n3, times the 256-point twiddle.
  uint4 twist[kTileRows * 2 * 32];
  uint4 radix[2 * 2 * 32];    // radix N1, k1 < 16, A fragments: [re, im][column half][lane]
  uint4 radix_t[2 * 2 * 32];  // transposed: [re, im][row half][lane]
  uint4 wgmma_b[160];         // DFT16 / 4 as wgmma operand: blocks -im, re, im, re, -im
  uint4 row[5 * 32];          // DFT16 / 4: re, im, -im as A or B; 256-point twiddle re, im: [lane]
  // N1 < 32 only. DFT16 / 4 times the part of the first twiddle that depends on n2: [k1][re, im]
  // [lane]; radix_t with the same part: [n2][re, im][lane].
  uint4 first[kTileRows / 2 * 2 * 32];
  uint4 radix_t_of[16 * 2 * 32];
};
/// Vectors of the tables that rows of N1 x 256 points need.
__host__ __device__ constexpr int table_vectors(int log_n1) {
  return (log_n1 == 5 ? offsetof(Tables, first) : sizeof(Tables)) / 16;
}

/// The parts of a spectrum buffer.
struct SpectrumView {
  const Tables* tables;
  const float* scale;     // [channels]: the spectrum is scale * what is stored
  const uint4* spectrum;  // [channels][N1][kRowVectors]

  static constexpr std::size_t scale_bytes(std::size_t channels) {
    return (4 * channels + 255) / 256 * 256;
  }
  static constexpr std::size_t bytes(std::size_t channels, int log_n1) {
    return (sizeof(Tables) + 255) / 256 * 256 + scale_bytes(channels) +
           (channels << log_n1) * kRowVectors * sizeof(uint4);
  }
  static SpectrumView of(const void* buffer, std::size_t channels) {
    const char* p = static_cast<const char*>(buffer);
    const char* scale = p + (sizeof(Tables) + 255) / 256 * 256;
    return {reinterpret_cast<const Tables*>(p), reinterpret_cast<const float*>(scale),
            reinterpret_cast<const uint4*>(scale + scale_bytes(channels))};
  }
};

}  // namespace hyena::kernels::cuda
