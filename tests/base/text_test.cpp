#include "hyena/base/text.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "hyena/base/error.h"

namespace hyena {
namespace {

TEST(Nearest, FindsTheTypoAndRefusesTheStranger) {
  const std::vector<std::string> known{"model.preset", "model.max_length", "train.seed"};
  EXPECT_EQ(nearest("model.prest", known), "model.preset");
  EXPECT_EQ(nearest("train.sede", known), "train.seed");
  EXPECT_EQ(nearest("banana", known), std::nullopt);
  EXPECT_EQ(did_you_mean("train.seeed", known), ", did you mean 'train.seed'?");
  EXPECT_EQ(did_you_mean("zzz", known), "");
}

TEST(Human, CountsAndDurations) {
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(1234567), "1.23M");
  EXPECT_EQ(human_count(999999), "1M");
  EXPECT_EQ(human_bytes(950), "950B");
  EXPECT_EQ(human_bytes(25.3e9), "25.3GB");
  EXPECT_EQ(human_duration(59.4), "59s");
  EXPECT_EQ(human_duration(200), "3m 20s");
  EXPECT_EQ(human_duration(7500), "2h 05m");
}

TEST(Utf8, AcceptsTheEdgesAndRefusesWhatIsBeyond) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("plain"));
  EXPECT_TRUE(is_utf8("\xC2\x80 \xE0\xA0\x80 \xED\x9F\xBF \xF0\x90\x80\x80 \xF4\x8F\xBF\xBF"));
  for (const char* bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xC2", "\xE2\x82", "\xFF"}) {
    EXPECT_FALSE(is_utf8(bad)) << static_cast<int>(static_cast<unsigned char>(bad[0]));
  }
}

TEST(OneLine, KeepsAMessageOnOneLineAndCutsBetweenCharacters) {
  EXPECT_EQ(one_line("a\nb\tc"), "a b c");
  EXPECT_EQ(one_line("12345", 3), "123...");
  EXPECT_EQ(one_line("a\xC3\xA9z", 2), "a...");
}

}  // namespace
}  // namespace hyena
