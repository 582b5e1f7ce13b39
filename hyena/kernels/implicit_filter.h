// What the implicit filter computes between its matrix products, on blocks that stay in a cache:
// rows are channels, columns are consecutive time steps n.
//
//     sine               a[w,n]     = sin(freq[w] x[w,n]),  x = product + bias[w]
//     its backward       dx[w,n]    = da[w,n] cos(freq[w] x[w,n]) freq[w]
//                        dfreq[w]  += sum_n da cos(freq x) x          dbias[w] += sum_n dx
//     window             h[n]       = m[c,n] (exp(-t[n] |delta[c]|) + shift)
//     its backward       dm[c,n]    = dh[n] (exp(-t[n] |delta[c]|) + shift)
//                        ddelta[c] += -sign(delta[c]) sum_n dh m exp(-t |delta|) t
//
// where h is row (c mod M) D + c div M of (C, K) filters, M = interleaved, C = M D.
//
// Shapes    blocks: `channels` rows of `steps` floats, `stride` apart; sums: (channels)
// Method    float32, vectors along time, each step a few tens of instructions per vector
// Numerics  sine and cosine: |error| <= 2^-23 for every finite argument: in vectors for |x| <=
//           12800 (docs/math/implicit_filter.md derives it), by the C++ library beyond.
//           exponential: one unit in the last place, barring underflow. Sums over n in float32, in
//           as many partial sums as a vector has lanes. Equal inputs give equal bits on one target.
// Bounds    any number of steps; nothing is read or written outside the rows, no alignment needed
// Tested by tests/kernels/implicit_filter_test.cpp
#pragma once

#include <cstdint>

namespace hyena::kernels {

struct FilterBlock {
  std::int64_t channels = 0;
  std::int64_t steps = 0;
  std::int64_t stride = 0;
};

struct FilterSine {
  const float* freq;  // (channels)
  const float* bias;  // (channels)
};

/// Writes `a` from the product; both are blocks.
void filter_sine(const FilterBlock& block, const FilterSine& sine, const float* product, float* a);

/// Turns the block `da` into dx; adds to dfreq and dbias.
void filter_sine_backward(const FilterBlock& block, const FilterSine& sine, const float* product,
                          float* da, float* dfreq, float* dbias);

struct FilterWindowBlock {
  const float* t = nullptr;       // of the block's steps
  const float* deltas = nullptr;  // (channels); null: no window, h = m
  float shift = 0.0F;
  std::int64_t interleaved = 1;    // M where filters of one channel stand side by side, else 1
  std::int64_t filter_stride = 0;  // K: floats from row to row of h
};

/// Writes the block's steps of every row of h; `h` is the first step of the first row.
void filter_window(const FilterBlock& block, const FilterWindowBlock& window, const float* m,
                   float* h);

/// Turns the block `m` into dm; adds to ddeltas where there is a window.
void filter_window_backward(const FilterBlock& block, const FilterWindowBlock& window,
                            const float* dh, float* m, float* ddeltas);

}  // namespace hyena::kernels
