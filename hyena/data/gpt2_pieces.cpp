#include "hyena/data/gpt2_pieces.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <span>

namespace hyena::data {
namespace {

struct CodeRange {
  std::uint32_t first;
  std::uint32_t last;
};

#include "hyena/data/unicode_ranges.inc"

enum class CharClass : std::uint8_t { kOther, kLetter, kNumber, kSpace, kInvalid };

bool is_in(std::span<const CodeRange> ranges, std::uint32_t code) {
  const auto after = std::upper_bound(
      ranges.begin(), ranges.end(), code,
      [](std::uint32_t value, const CodeRange& range) { return value < range.first; });
  return after != ranges.begin() && code <= std::prev(after)->last;
}

CharClass class_of(std::uint32_t code) {
  return is_in(kLetters, code)   ? CharClass::kLetter
         : is_in(kNumbers, code) ? CharClass::kNumber
         : is_in(kSpaces, code)  ? CharClass::kSpace
                                 : CharClass::kOther;
}

const std::array<CharClass, 128> kAsciiClasses = [] {
  std::array<CharClass, 128> classes{};
  for (std::uint32_t code = 0; code < 128; ++code) {
    classes.at(code) = class_of(code);
  }
  return classes;
}();

struct Char {
  CharClass kind;
  std::size_t bytes;
};

/// The character at `at` if it is not ASCII. Ill-formed: one byte of class kInvalid.
Char decode(std::string_view text, std::size_t at) {
  constexpr Char kBad{CharClass::kInvalid, 1};
  const auto byte = [&](std::size_t i) -> std::uint32_t {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0U;
  };
  const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const std::uint32_t lead = byte(0);
  if (lead < 0xC2 || lead > 0xF4 || !follows(1)) {
    return kBad;
  }
  std::uint32_t code = byte(1) & 0x3FU;
  if (lead < 0xE0) {
    return {class_of((lead & 0x1FU) << 6U | code), 2};
  }
  if (!follows(2)) {
    return kBad;
  }
  code = code << 6U | (byte(2) & 0x3FU);
  if (lead < 0xF0) {
    code |= (lead & 0x0FU) << 12U;
    const bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
    return code < 0x800 || is_surrogate ? kBad : Char{class_of(code), 3};
  }
  if (!follows(3)) {
    return kBad;
  }
  code = (lead & 0x07U) << 18U | code << 6U | (byte(3) & 0x3FU);
  return code < 0x10000 || code > 0x10FFFF ? kBad : Char{class_of(code), 4};
}

inline Char char_at(std::string_view text, std::size_t at) {
  const auto byte = static_cast<unsigned char>(text[at]);
  return byte < 128 ? Char{kAsciiClasses[byte], 1} : decode(text, at);
}

std::size_t run_end(std::string_view text, std::size_t at, CharClass kind) {
  while (at < text.size()) {
    const Char c = char_at(text, at);
    if (c.kind != kind) {
      break;
    }
    at += c.bytes;
  }
  return at;
}

/// Length of the contraction that `text` begins with, or 0.
std::size_t contraction_length(std::string_view text) {
  for (const std::string_view contraction : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
    if (text.starts_with(contraction)) {
      return contraction.size();
    }
  }
  return 0;
}

}  // namespace

std::size_t piece_end(std::string_view text, std::size_t begin) {
  if (text[begin] == '\'') {
    if (const std::size_t length = contraction_length(text.substr(begin)); length > 0) {
      return begin + length;
    }
  }
  const Char first = char_at(text, begin);
  if (first.kind != CharClass::kSpace) {
    return run_end(text, begin, first.kind);
  }
  if (text[begin] == ' ' && begin + 1 < text.size()) {
    const Char second = char_at(text, begin + 1);
    if (second.kind != CharClass::kSpace && second.kind != CharClass::kInvalid) {
      return run_end(text, begin + 1, second.kind);
    }
  }
  // White space up to the next word, to which \s+(?!\S) leaves the last character.
  std::size_t last = begin;
  std::size_t end = begin + first.bytes;
  while (end < text.size()) {
    const Char c = char_at(text, end);
    if (c.kind != CharClass::kSpace) {
      return last == begin ? end : last;
    }
    last = end;
    end += c.bytes;
  }
  return end;
}

}  // namespace hyena::data
