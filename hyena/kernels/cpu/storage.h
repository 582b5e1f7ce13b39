// Copies between arrays of any storage type and strides and packed rows of the arithmetic type.
// Plain code: channels-last float rows never come here.
#pragma once

#include <cstdint>
#include <cstring>

#include "hyena/kernels/array.h"

namespace hyena::kernels::cpu {

/// bfloat16 as its bits.
struct BFloat16 {
  std::uint16_t bits;
};

template <class T>
inline T from_storage(T x) {
  return x;
}
inline float from_storage(BFloat16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class S, class T>
inline S to_storage(T x) {
  if constexpr (sizeof(S) == 2) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {  // rounding could turn a not-a-number into infinity
      return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
    }
    bits += 0x7FFFU + ((bits >> 16) & 1U);  // to nearest, ties to even
    return {static_cast<std::uint16_t>(bits >> 16)};
  } else {
    return x;
  }
}

/// Steps x channels of one row of an array.
struct Patch {
  std::int64_t begin;  // first step
  std::int64_t steps;
  std::int64_t channels;
  std::int64_t width;  // scalars from one packed row to the next; channels <= width
};

/// rows[t * width + c] <- element (begin + t, c); zero where c >= channels or begin + t < 0.
template <class S, class T>
void gather(const S* x, const Strides& strides, const Patch& patch, T* rows) {
  for (std::int64_t t = 0; t < patch.steps; ++t) {
    const std::int64_t step = patch.begin + t;
    T* row = rows + t * patch.width;
    const std::int64_t channels = step < 0 ? 0 : patch.channels;
    const S* source = x + (step < 0 ? 0 : step * strides.time);
    if (strides.channel == 1) {
      for (std::int64_t c = 0; c < channels; ++c) {
        row[c] = from_storage(source[c]);
      }
    } else {
      for (std::int64_t c = 0; c < channels; ++c) {
        row[c] = from_storage(source[c * strides.channel]);
      }
    }
    for (std::int64_t c = channels; c < patch.width; ++c) {
      row[c] = 0;
    }
  }
}

/// The inverse of gather; steps before 0 and channels beyond `channels` are dropped.
template <class S, class T>
void scatter(const T* rows, const Patch& patch, const Strides& strides, S* x) {
  for (std::int64_t t = patch.begin < 0 ? -patch.begin : 0; t < patch.steps; ++t) {
    const T* row = rows + t * patch.width;
    S* target = x + (patch.begin + t) * strides.time;
    if (strides.channel == 1) {
      for (std::int64_t c = 0; c < patch.channels; ++c) {
        target[c] = to_storage<S>(row[c]);
      }
    } else {
      for (std::int64_t c = 0; c < patch.channels; ++c) {
        target[c * strides.channel] = to_storage<S>(row[c]);
      }
    }
  }
}

}  // namespace hyena::kernels::cpu
