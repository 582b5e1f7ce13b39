// Small hash functions with fixed results: they decide what is stored in files and which batch
// comes next, so they must never change.
#pragma once

#include <cstdint>
#include <string_view>

namespace hyena::data {

/// FNV-1a, 64 bits; `state` continues an earlier hash.
[[nodiscard]] constexpr std::uint64_t fnv1a(std::string_view bytes,
                                            std::uint64_t state = 0xcbf29ce484222325U) {
  for (const char byte : bytes) {
    state = (state ^ static_cast<unsigned char>(byte)) * 0x100000001b3U;
  }
  return state;
}

/// The finaliser of SplitMix64: a bijection of 64-bit words in which every input bit flips about
/// half of the output.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

}  // namespace hyena::data
