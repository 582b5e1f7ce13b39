// The implicit filter between its matrix products, compiled for every CPU target. Contract:
// hyena/kernels/implicit_filter.h.
#include "hyena/kernels/implicit_filter.h"

#include <cmath>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "hyena/kernels/cpu/implicit_filter.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once per target
#include <hwy/highway.h>         // must follow foreach_target.h

#include "hwy/contrib/math/math-inl.h"
#include "hyena/kernels/cpu/sine-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

using Floats = hn::ScalableTag<float>;
using V = hn::Vec<Floats>;

/// The first `count` lanes from x, zero in the others.
HWY_INLINE V load(const float* x, std::int64_t count) {
  const Floats tag;
  if (HWY_LIKELY(count == static_cast<std::int64_t>(hn::Lanes(tag)))) {
    return hn::LoadU(tag, x);
  }
  HWY_ALIGN float lanes[hn::MaxLanes(tag)] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    lanes[i] = x[i];
  }
  return hn::Load(tag, lanes);
}

HWY_INLINE void store(V v, float* x, std::int64_t count) {
  const Floats tag;
  if (HWY_LIKELY(count == static_cast<std::int64_t>(hn::Lanes(tag)))) {
    hn::StoreU(v, tag, x);
    return;
  }
  HWY_ALIGN float lanes[hn::MaxLanes(tag)];
  hn::Store(v, tag, lanes);
  for (std::int64_t i = 0; i < count; ++i) {
    x[i] = lanes[i];
  }
}

/// Calls body(n, count) for vectors of `count` steps from n on.
template <class Body>
HWY_INLINE void for_vectors(std::int64_t steps, const Body& body) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Floats()));
  std::int64_t n = 0;
  for (; n + lanes <= steps; n += lanes) {
    body(n, lanes);
  }
  if (n < steps) {
    body(n, steps - n);
  }
}

HWY_INLINE float sum_of_lanes(V v) {
  return hn::GetLane(hn::SumOfLanes(Floats(), v));
}

void sine(const FilterBlock& block, const FilterSine& sine, const float* product, float* a) {
  const Floats tag;
  for (std::int64_t w = 0; w < block.channels; ++w) {
    const V freq = hn::Set(tag, sine.freq[w]);
    const V bias = hn::Set(tag, sine.bias[w]);
    const float* row = product + w * block.stride;
    float* result = a + w * block.stride;
    for_vectors(block.steps, [&](std::int64_t n, std::int64_t count) HWY_ATTR {
      const V x = hn::Add(load(row + n, count), bias);
      store(sin_cos(tag, hn::Mul(freq, x)).sin, result + n, count);
    });
  }
}

void sine_backward(const FilterBlock& block, const FilterSine& sine, const float* product,
                   float* da, float* dfreq, float* dbias) {
  const Floats tag;
  for (std::int64_t w = 0; w < block.channels; ++w) {
    const V freq = hn::Set(tag, sine.freq[w]);
    const V bias = hn::Set(tag, sine.bias[w]);
    const float* row = product + w * block.stride;
    float* d = da + w * block.stride;
    V sum_freq = hn::Zero(tag);
    V sum_bias = hn::Zero(tag);
    for_vectors(block.steps, [&](std::int64_t n, std::int64_t count) HWY_ATTR {
      const V x = hn::Add(load(row + n, count), bias);
      // Zero beyond the last step, so the sums need no mask.
      const V dphase = hn::Mul(load(d + n, count), sin_cos(tag, hn::Mul(freq, x)).cos);
      const V dx = hn::Mul(dphase, freq);
      sum_freq = hn::MulAdd(dphase, x, sum_freq);
      sum_bias = hn::Add(sum_bias, dx);
      store(dx, d + n, count);
    });
    dfreq[w] += sum_of_lanes(sum_freq);
    dbias[w] += sum_of_lanes(sum_bias);
  }
}

/// First step of the filter that channel c serves.
HWY_INLINE std::int64_t filter_of(const FilterBlock& block, const FilterWindowBlock& window,
                                  std::int64_t c) {
  const std::int64_t M = window.interleaved;
  return (c % M * (block.channels / M) + c / M) * window.filter_stride;
}

/// exp(-t |delta|) with `slope` = -|delta|.
HWY_INLINE V decay(V slope, const float* t, std::int64_t count) {
  return hn::Exp(Floats(), hn::Mul(slope, load(t, count)));
}

HWY_INLINE float magnitude(float x) {
  return x < 0.0F ? -x : x;
}

void window(const FilterBlock& block, const FilterWindowBlock& window, const float* m, float* h) {
  const Floats tag;
  const V shift = hn::Set(tag, window.shift);
  for (std::int64_t c = 0; c < block.channels; ++c) {
    const float* row = m + c * block.stride;
    float* result = h + filter_of(block, window, c);
    if (window.deltas == nullptr) {
      for_vectors(block.steps, [&](std::int64_t n, std::int64_t count)
                                   HWY_ATTR { store(load(row + n, count), result + n, count); });
      continue;
    }
    const V slope = hn::Set(tag, -magnitude(window.deltas[c]));
    for_vectors(block.steps, [&](std::int64_t n, std::int64_t count) HWY_ATTR {
      const V factor = hn::Add(decay(slope, window.t + n, count), shift);
      store(hn::Mul(load(row + n, count), factor), result + n, count);
    });
  }
}

void window_backward(const FilterBlock& block, const FilterWindowBlock& window, const float* dh,
                     float* m, float* ddeltas) {
  const Floats tag;
  const V shift = hn::Set(tag, window.shift);
  for (std::int64_t c = 0; c < block.channels; ++c) {
    float* row = m + c * block.stride;
    const float* d = dh + filter_of(block, window, c);
    if (window.deltas == nullptr) {
      for_vectors(block.steps, [&](std::int64_t n, std::int64_t count)
                                   HWY_ATTR { store(load(d + n, count), row + n, count); });
      continue;
    }
    const float delta = window.deltas[c];
    const V slope = hn::Set(tag, -magnitude(delta));
    V sum = hn::Zero(tag);
    for_vectors(block.steps, [&](std::int64_t n, std::int64_t count) HWY_ATTR {
      const V e = decay(slope, window.t + n, count);
      const V g = load(d + n, count);
      const V gt = hn::Mul(g, load(window.t + n, count));
      sum = hn::MulAdd(hn::Mul(gt, load(row + n, count)), e, sum);
      store(hn::Mul(g, hn::Add(e, shift)), row + n, count);
    });
    const float sign = delta > 0.0F ? 1.0F : (delta < 0.0F ? -1.0F : 0.0F);
    ddeltas[c] -= sign * sum_of_lanes(sum);
  }
}

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hyena::kernels {
namespace cpu {

HWY_EXPORT(sine);
HWY_EXPORT(sine_backward);
HWY_EXPORT(window);
HWY_EXPORT(window_backward);

void library_sine(const float* x, std::int64_t count, float* sin, float* cos) {
  for (std::int64_t i = 0; i < count; ++i) {
    sin[i] = static_cast<float>(std::sin(static_cast<double>(x[i])));
    cos[i] = static_cast<float>(std::cos(static_cast<double>(x[i])));
  }
}

namespace {

// Here, because a build for a single target dispatches by name within this namespace.
void dispatch_sine(const FilterBlock& block, const FilterSine& s, const float* product, float* a) {
  HWY_DYNAMIC_DISPATCH(sine)(block, s, product, a);
}
void dispatch_sine_backward(const FilterBlock& block, const FilterSine& s, const float* product,
                            float* da, float* dfreq, float* dbias) {
  HWY_DYNAMIC_DISPATCH(sine_backward)(block, s, product, da, dfreq, dbias);
}
void dispatch_window(const FilterBlock& block, const FilterWindowBlock& w, const float* m,
                     float* h) {
  HWY_DYNAMIC_DISPATCH(window)(block, w, m, h);
}
void dispatch_window_backward(const FilterBlock& block, const FilterWindowBlock& w, const float* dh,
                              float* m, float* ddeltas) {
  HWY_DYNAMIC_DISPATCH(window_backward)(block, w, dh, m, ddeltas);
}

}  // namespace
}  // namespace cpu

void filter_sine(const FilterBlock& block, const FilterSine& sine, const float* product, float* a) {
  cpu::dispatch_sine(block, sine, product, a);
}

void filter_sine_backward(const FilterBlock& block, const FilterSine& sine, const float* product,
                          float* da, float* dfreq, float* dbias) {
  cpu::dispatch_sine_backward(block, sine, product, da, dfreq, dbias);
}

void filter_window(const FilterBlock& block, const FilterWindowBlock& window, const float* m,
                   float* h) {
  cpu::dispatch_window(block, window, m, h);
}

void filter_window_backward(const FilterBlock& block, const FilterWindowBlock& window,
                            const float* dh, float* m, float* ddeltas) {
  cpu::dispatch_window_backward(block, window, dh, m, ddeltas);
}

}  // namespace hyena::kernels
#endif  // HWY_ONCE
