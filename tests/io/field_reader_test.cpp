#include "hyena/io/field_reader.h"

#include <gtest/gtest.h>

#include "hyena/io/toml.h"
#include "tests/io/temporary_folder.h"

namespace hyena::io {
namespace {

using testing_support::message_of;

/// The error of reading key `k` of section "train" from "k = <value>" into a T.
template <typename T, typename... Range>
std::string error_of(const std::string& value, Range... range) {
  const Json config = parse_toml("k = " + value, "f");
  FieldReader reader(config, "train");
  T out{};
  return message_of<UserError>([&] { reader.read("k", out, range...); });
}

TEST(FieldReader, ReadsEveryKindAndLeavesDefaults) {
  const Json config = parse_toml(
      "b = true\ni = -3\nd = 2.5\nd_from_int = 2\ns = 'x'\nli = [1, 2]\nld = [1, 0.5]\n"
      "ls = ['a', 'b']\nls_single = 'a'\nmode = 'safari'\n[sub]\nx = 1\n",
      "f");
  FieldReader reader(config, "");
  bool b = false;
  std::int64_t i = 0;
  double d = 0;
  double d_from_int = 0;
  double absent = 7;
  std::string s;
  std::vector<std::int64_t> li;
  std::vector<double> ld;
  std::vector<std::string> ls;
  std::vector<std::string> ls_single;
  std::string mode;
  std::optional<double> some;
  EXPECT_TRUE(reader.read("b", b));
  EXPECT_TRUE(reader.read("i", i));
  EXPECT_TRUE(reader.read("d", d));
  EXPECT_TRUE(reader.read("d_from_int", d_from_int));
  EXPECT_FALSE(reader.read("absent", absent));
  EXPECT_TRUE(reader.read("s", s));
  EXPECT_TRUE(reader.read("li", li));
  EXPECT_TRUE(reader.read("ld", ld));
  EXPECT_TRUE(reader.read("ls", ls));
  EXPECT_TRUE(reader.read("ls_single", ls_single));
  EXPECT_TRUE(reader.read_choice("mode", mode, std::vector<std::string>{"paper", "safari"}));
  EXPECT_FALSE(reader.read("none", some, kPositive));
  EXPECT_FALSE(some.has_value());
  FieldReader sub = reader.section("sub");
  EXPECT_TRUE(sub.read("x", some, kPositive));
  EXPECT_EQ(some, 1.0);
  sub.finish();
  reader.section("absent_section").finish();
  reader.finish();
  EXPECT_TRUE(b);
  EXPECT_EQ(i, -3);
  EXPECT_EQ(d, 2.5);
  EXPECT_EQ(d_from_int, 2.0);
  EXPECT_EQ(absent, 7.0);
  EXPECT_EQ(s, "x");
  EXPECT_EQ(li, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(ld, (std::vector<double>{1.0, 0.5}));
  EXPECT_EQ(ls, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(ls_single, (std::vector<std::string>{"a"}));
  EXPECT_EQ(mode, "safari");
}

TEST(FieldReader, NullClearsAnOptional) {
  const Json config{{"k", nullptr}};
  FieldReader reader(config, "");
  std::optional<std::int64_t> value = 3;
  EXPECT_TRUE(reader.read("k", value));
  EXPECT_FALSE(value.has_value());
}

TEST(FieldReader, WrongTypesNameKeyExpectationAndValue) {
  EXPECT_EQ(error_of<double>("'x'"), "train.k: expected a number, got string 'x'");
  EXPECT_EQ(error_of<double>("true"), "train.k: expected a number, got true");
  EXPECT_EQ(error_of<double>("nan"), "train.k: expected a number, got nan");
  EXPECT_EQ(error_of<double>("inf", kPositive), "train.k: expected a number above 0, got inf");
  EXPECT_EQ(error_of<std::int64_t>("3.0"), "train.k: expected an integer, got 3.0");
  EXPECT_EQ(error_of<std::int64_t>("[3]"), "train.k: expected an integer, got a list");
  EXPECT_EQ(error_of<bool>("1"), "train.k: expected true or false, got 1");
  EXPECT_EQ(error_of<std::string>("1"), "train.k: expected a string, got 1");
  EXPECT_EQ(error_of<std::vector<std::string>>("{a = 1}"),
            "train.k: expected a list of strings, got a table");
  EXPECT_EQ(error_of<std::vector<std::string>>("['a', 2]"), "train.k[1]: expected a string, got 2");
  EXPECT_EQ(error_of<std::vector<std::int64_t>>("[1, 0]", kAtLeastOne),
            "train.k[1]: expected an integer of at least 1, got 0");
  EXPECT_EQ(error_of<std::optional<double>>("'x'"), "train.k: expected a number, got string 'x'");
  const Json beyond{{"k", UINT64_MAX}};
  FieldReader reader(beyond, "");
  std::int64_t value = 0;
  EXPECT_EQ(message_of<UserError>([&] { reader.read("k", value); }),
            "k: expected an integer, got 18446744073709551615");
}

TEST(FieldReader, RangesAreClosed) {
  EXPECT_EQ(error_of<std::int64_t>("0", kAtLeastOne),
            "train.k: expected an integer of at least 1, got 0");
  EXPECT_EQ(error_of<std::int64_t>("9", IntegerRange{.min = 2, .max = 8}),
            "train.k: expected an integer from 2 to 8, got 9");
  EXPECT_EQ(error_of<double>("0", kPositive), "train.k: expected a number above 0, got 0");
  EXPECT_EQ(error_of<double>("1.5", kFraction), "train.k: expected a number from 0 to 1, got 1.5");
  EXPECT_EQ(error_of<double>("-1", NumberRange{.min = 0}),
            "train.k: expected a number of at least 0, got -1");
  const Json config = parse_toml("lo = 2\nhi = 8\none = 1.0", "f");
  FieldReader reader(config, "");
  std::int64_t value = 0;
  double number = 0;
  EXPECT_TRUE(reader.read("lo", value, IntegerRange{.min = 2, .max = 8}));
  EXPECT_TRUE(reader.read("hi", value, IntegerRange{.min = 2, .max = 8}));
  EXPECT_TRUE(reader.read("one", number, kFraction));
}

TEST(FieldReader, UnknownKeysNameTheNearest) {
  const Json config = parse_toml("[train]\nbacth_size = 3\n[modl]\n", "f");
  FieldReader root(config, "");
  FieldReader train = root.section("train");
  FieldReader model = root.section("model");
  std::int64_t batch_size = 1;
  train.read("batch_size", batch_size);
  EXPECT_EQ(message_of<UserError>([&] { train.finish(); }),
            "unknown key 'train.bacth_size', did you mean 'train.batch_size'?");
  EXPECT_EQ(message_of<UserError>([&] { root.finish(); }),
            "unknown key 'modl', did you mean 'model'?");
  train.ignore("bacth_size");
  train.finish();
}

TEST(FieldReader, ChoicesAreListed) {
  const Json config{{"mode", "safar"}};
  FieldReader reader(config, "model");
  std::string mode;
  EXPECT_EQ(message_of<UserError>([&] {
              reader.read_choice("mode", mode, std::vector<std::string>{"paper", "safari"});
            }),
            "model.mode: expected one of paper, safari, got 'safar', did you mean 'safari'?");
}

TEST(FieldReader, ASectionMustBeATable) {
  const Json config = parse_toml("train = 3", "f");
  FieldReader root(config, "");
  EXPECT_EQ(message_of<UserError>([&] { (void)root.section("train"); }),
            "train: expected a table, got 3");
  const Json list = Json::array();
  EXPECT_EQ(message_of<UserError>([&] { FieldReader(list, ""); }),
            "configuration: expected a table, got a list");
}

}  // namespace
}  // namespace hyena::io
