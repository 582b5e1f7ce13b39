#include "hyena/data/gpt2_pieces.h"

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#ifdef HYENA_TEST_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

namespace hyena::data {
namespace {

std::vector<std::string> pieces(std::string_view text) {
  std::vector<std::string> list;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = piece_end(text, begin);
    if (end <= begin || end > text.size()) {
      ADD_FAILURE() << "piece [" << begin << ", " << end << ") of " << text.size();
      return list;
    }
    list.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return list;
}

using Pieces = std::vector<std::string>;

TEST(Gpt2Pieces, CutsByHand) {
  EXPECT_EQ(pieces(""), Pieces{});
  EXPECT_EQ(pieces("Hello, world!"), (Pieces{"Hello", ",", " world", "!"}));
  EXPECT_EQ(pieces("it's we'll I'M 'same"),
            (Pieces{"it", "'s", " we", "'ll", " I", "'", "M", " '", "same"}));
  EXPECT_EQ(pieces("'same'"), (Pieces{"'s", "ame", "'"}));
  EXPECT_EQ(pieces("!'s"), (Pieces{"!'", "s"}));
  EXPECT_EQ(pieces("a   b"), (Pieces{"a", "  ", " b"}));
  EXPECT_EQ(pieces("a \n b"), (Pieces{"a", " \n", " b"}));
  EXPECT_EQ(pieces("a\n\nb"), (Pieces{"a", "\n", "\n", "b"}));
  EXPECT_EQ(pieces("a  "), (Pieces{"a", "  "}));
  EXPECT_EQ(pieces("x1y 22"), (Pieces{"x", "1", "y", " 22"}));
  EXPECT_EQ(pieces("\xC2\xA0\xC2\xA0z"), (Pieces{"\xC2\xA0", "\xC2\xA0", "z"}));  // no-break spaces
  EXPECT_EQ(pieces(" \xC3\xA9t\xC3\xA9"), (Pieces{" \xC3\xA9t\xC3\xA9"}));
}

TEST(Gpt2Pieces, InvalidBytesAreAloneAndTogether) {
  EXPECT_EQ(pieces("ab\xFF\xFE"
                   "c"),
            (Pieces{"ab", "\xFF\xFE", "c"}));
  EXPECT_EQ(pieces("!\x80!"), (Pieces{"!", "\x80", "!"}));
  EXPECT_EQ(pieces("  \xFF"), (Pieces{" ", " ", "\xFF"}));
  EXPECT_EQ(pieces("\xE2\x82"), (Pieces{"\xE2\x82"}));          // cut character
  EXPECT_EQ(pieces("\xED\xA0\x80"), (Pieces{"\xED\xA0\x80"}));  // surrogate
  EXPECT_EQ(pieces("\xC0\x80"
                   "a"),
            (Pieces{"\xC0\x80", "a"}));                                 // overlong
  EXPECT_EQ(pieces("\xF4\x90\x80\x80"), (Pieces{"\xF4\x90\x80\x80"}));  // above U+10FFFF
}

TEST(Gpt2Pieces, RandomBytesAreCutWithoutLoss) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string text;
    for (std::uint_fast32_t i = random() % 40; i > 0; --i) {
      text += static_cast<char>(static_cast<unsigned char>(random()));
    }
    std::string joined;
    for (const std::string& piece : pieces(text)) {
      joined += piece;
    }
    ASSERT_EQ(joined, text);
  }
}

#ifdef HYENA_TEST_PCRE2

/// The expression itself, run by PCRE2.
class Pcre2 {
 public:
  explicit Pcre2(const char* pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
    match_ = pcre2_match_data_create_from_pattern(code_, nullptr);
  }
  ~Pcre2() {
    pcre2_match_data_free(match_);
    pcre2_code_free(code_);
  }
  Pcre2(const Pcre2&) = delete;
  Pcre2& operator=(const Pcre2&) = delete;

  /// End of the match at `begin`, or 0.
  std::size_t match_end(std::string_view text, std::size_t begin) {
    const int found = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                  begin, PCRE2_ANCHORED, match_, nullptr);
    return found > 0 ? pcre2_get_ovector_pointer(match_)[1] : 0;
  }

 private:
  pcre2_code* code_;
  pcre2_match_data* match_;
};

std::string utf8(std::uint32_t code) {
  const auto tail = [&](unsigned shift) {
    return static_cast<char>(0x80U | ((code >> shift) & 0x3FU));
  };
  if (code < 0x80) {
    return {static_cast<char>(code)};
  }
  if (code < 0x800) {
    return {static_cast<char>(0xC0U | code >> 6U), tail(0)};
  }
  if (code < 0x10000) {
    return {static_cast<char>(0xE0U | code >> 12U), tail(6), tail(0)};
  }
  return {static_cast<char>(0xF0U | code >> 18U), tail(12), tail(6), tail(0)};
}

/// The class of one character as the cutting shows it: which of three companions it joins.
char class_by_cutting(const std::string& c) {
  return pieces("a" + c).size() == 1   ? 'L'
         : pieces("1" + c).size() == 1 ? 'N'
         : pieces("!" + c).size() == 1 ? 'O'
                                       : 'S';
}

TEST(Gpt2Pieces, ClassesAgreeWithPcre2OnEveryAssignedCharacter) {
  Pcre2 letter("\\p{L}");
  Pcre2 number("\\p{N}");
  Pcre2 space("\\s");
  Pcre2 unassigned("\\p{Cn}");
  int compared = 0;
  int newer = 0;
  for (std::uint32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) {
      continue;
    }
    const std::string c = utf8(code);
    if (unassigned.match_end(c, 0) > 0) {
      ++newer;  // PCRE2's Unicode may be older than ours
      continue;
    }
    const bool is_mongolian_separator = code == 0x180E;  // left White_Space in Unicode 6.3
    const char expected = letter.match_end(c, 0) > 0                             ? 'L'
                          : number.match_end(c, 0) > 0                           ? 'N'
                          : space.match_end(c, 0) > 0 && !is_mongolian_separator ? 'S'
                                                                                 : 'O';
    ASSERT_EQ(class_by_cutting(c), expected) << fmt::format("U+{:04X}", code);
    ++compared;
  }
  fmt::print("gpt2 pieces: {} characters compared with PCRE2, {} not assigned there\n", compared,
             newer);
  EXPECT_GT(compared, 140'000);
}

TEST(Gpt2Pieces, RandomTextIsCutAsPcre2Cuts) {
  Pcre2 expression(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)");
  const std::vector<std::string> alphabet{" ",
                                          " ",
                                          " ",
                                          "\n",
                                          "\t",
                                          "\r",
                                          "'",
                                          "'",
                                          "s",
                                          "t",
                                          "re",
                                          "l",
                                          "m",
                                          "d",
                                          "ve",
                                          "S",
                                          "a",
                                          "Z",
                                          "0",
                                          "9",
                                          "!",
                                          ".",
                                          "\xC3\xA9",
                                          "\xC2\xA0",
                                          "_",
                                          "\v",
                                          "\xC2\x85",
                                          "\"",
                                          "\xE4\xB8\xAD",
                                          "\xF0\x9F\x98\x80",
                                          "\xE3\x80\x80",
                                          "\xC2\xBD",
                                          "\xD9\xA3",
                                          "\x1c",
                                          "\xCC\x81",
                                          "\xE2\x80\xA8"};
  std::mt19937 random(7);
  int count = 0;
  for (int trial = 0; trial < 50'000; ++trial) {
    std::string text;
    for (std::uint_fast32_t i = random() % 24; i > 0; --i) {
      text += alphabet[random() % alphabet.size()];
    }
    for (std::size_t begin = 0; begin < text.size(); ++count) {
      const std::size_t expected = expression.match_end(text, begin);
      ASSERT_EQ(piece_end(text, begin), expected) << "at " << begin << " of '" << text << "'";
      begin = expected;
    }
  }
  fmt::print("gpt2 pieces: {} pieces compared with PCRE2\n", count);
}

#endif

}  // namespace
}  // namespace hyena::data
