#include "hyena/io/toml.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "tests/io/temporary_folder.h"

namespace hyena::io {
namespace {

using testing_support::message_of;
using testing_support::TemporaryFolder;
using testing_support::write_text;

TEST(Toml, KeepsOrderAndKindsOfNumbers) {
  const Json config = parse_toml(
      "z = 1\na = 1.0\n[train]\nlr = 6e-4\nname = 'x'\non = true\n"
      "list = [1, 2.5, 'a']\n[train.deep]\nk = 0x10\n",
      "f.toml");
  EXPECT_EQ(config.dump(), R"({"z":1,"a":1.0,"train":{"lr":0.0006,"name":"x","on":true,)"
                           R"("list":[1,2.5,"a"],"deep":{"k":16}}})");
  EXPECT_TRUE(config["z"].is_number_integer());
  EXPECT_TRUE(config["a"].is_number_float());
}

TEST(Toml, ErrorsNameFileLineAndColumn) {
  const TemporaryFolder folder;
  write_text(folder / "bad.toml", "[train]\nlr = = 3\n");
  const std::string message = message_of<UserError>([&] { (void)read_toml(folder / "bad.toml"); });
  EXPECT_TRUE(message.starts_with((folder / "bad.toml").string() + ":2:6: ")) << message;
  EXPECT_EQ(message_of<UserError>([] { (void)parse_toml("a = 1\na = 2\n", "f"); }),
            "f:2:5: Error while parsing key-value pair: cannot redefine existing integer 'a'");
  EXPECT_EQ(message_of<UserError>([] { (void)parse_toml("a = 1\nd = 2024-01-01\n", "f"); }),
            "f:2:5: dates and times are not used here; write a string in quotes");
  EXPECT_EQ(message_of<UserError>([] { (void)read_toml("/no/such.toml"); }),
            "cannot open /no/such.toml: No such file or directory");
  message_of<UserError>([] { (void)parse_toml("a = \"\xff\"", "f"); });
  message_of<UserError>([] { (void)parse_toml("a = " + std::string(100'000, '['), "f"); });
}

Json overridden(std::string_view assignment) {
  Json config = Json::object();
  apply_override(config, assignment);
  return config;
}

TEST(ApplyOverride, ReadsTomlValuesAndBareWords) {
  EXPECT_EQ(overridden("train.lr=1e-3").dump(), R"({"train":{"lr":0.001}})");
  EXPECT_EQ(overridden("n=8").dump(), R"({"n":8})");
  EXPECT_EQ(overridden("b=true").dump(), R"({"b":true})");
  EXPECT_EQ(overridden("s='true'").dump(), R"({"s":"true"})");
  EXPECT_EQ(overridden("l=[1, 2]").dump(), R"({"l":[1,2]})");
  EXPECT_EQ(overridden("data.train=books/*.txt").dump(), R"({"data":{"train":"books/*.txt"}})");
  EXPECT_EQ(overridden("a=").dump(), R"({"a":""})");
  EXPECT_EQ(overridden("a=b=c").dump(), R"({"a":"b=c"})");
  EXPECT_EQ(overridden("a=1\nb = 2").dump(), R"({"a":"1\nb = 2"})");  // one key, not two
  EXPECT_EQ(overridden("a=2024-01-01").dump(), R"({"a":"2024-01-01"})");
}

TEST(ApplyOverride, ReplacesInPlace) {
  Json config = parse_toml("a = 1\n[t]\nx = 1\ny = 2\n", "f");
  apply_override(config, "t.x=5");
  apply_override(config, "t.new.z=6");
  EXPECT_EQ(config.dump(), R"({"a":1,"t":{"x":5,"y":2,"new":{"z":6}}})");
  EXPECT_EQ(message_of<UserError>([&] { apply_override(config, "t.x.y=1"); }),
            "'t.x.y=1': t.x is a value, not a table");
}

TEST(ApplyOverride, RefusesWhatIsNoAssignment) {
  for (const char* bad : {"", "=", "=1", "a", "a.=1", ".a=1", "a..b=1"}) {
    EXPECT_EQ(message_of<UserError>([&] { (void)overridden(bad); }),
              std::string("'") + bad + "': expected key=value, such as train.batch_size=8");
  }
  EXPECT_EQ(message_of<UserError>([] { (void)overridden("a=[1, "); }),
            "'a=[1, ': '[1, ' is not a TOML value");
}

TEST(WriteToml, RoundTrips) {
  Json config;
  config["text"] = "quote \" backslash \\ tab \t line \n del \x7f \xC3\xA9";
  config["int"] = std::numeric_limits<std::int64_t>::min();
  config["one"] = 1.0;
  config["big"] = 1e300;
  config["third"] = 1.0 / 3.0;
  config["tiny"] = 5e-324;
  config["infinite"] = -std::numeric_limits<double>::infinity();
  config["off"] = false;
  config["list"] = Json::array({1, 2.0, "x", Json::array(), Json::object()});
  config["odd key \"x\""] = 3;
  config["train"]["lr"] = 6e-4;
  config["train"]["sub.table"]["k"] = Json::array({Json{{"a", 1}}});
  config["empty"] = Json::object();
  const std::string text = write_toml(config);
  EXPECT_EQ(parse_toml(text, "f"), config) << text;
  EXPECT_TRUE(parse_toml(text, "f")["one"].is_number_float());
}

TEST(WriteToml, PlainValuesComeBeforeTables) {
  Json config;
  config["t"]["x"] = 1;
  config["a"] = 2;
  config["nothing"] = nullptr;
  EXPECT_EQ(write_toml(config), "a = 2\n\n[t]\nx = 1\n");
}

TEST(WriteToml, RefusesWhatTomlCannotSay) {
  EXPECT_EQ(message_of<UserError>([] {
              (void)write_toml(Json{{"a", Json::array({nullptr})}});
            }),
            "cannot write TOML: a holds null");
  EXPECT_EQ(message_of<UserError>([] {
              (void)write_toml(Json{{"a", UINT64_MAX}});
            }),
            "cannot write TOML: a is beyond 2^63");
  EXPECT_EQ(message_of<UserError>([] {
              (void)write_toml(Json{{"a", "\xff"}});
            }),
            "cannot write TOML: '\xff' is not UTF-8");
}

TEST(ParseJson, NamesThePlaceAndRefusesRepeatedKeys) {
  EXPECT_EQ(parse_json("{\"b\": 1, \"a\": [2]}", "f").dump(), R"({"b":1,"a":[2]})");
  EXPECT_TRUE(
      message_of<UserError>([] { (void)parse_json("{\n \"a\": x}", "f"); }).starts_with("f:2:7: "));
  EXPECT_EQ(message_of<UserError>([] { (void)parse_json(R"({"a": {"b": 1, "b": 2}})", "f"); }),
            "f: the key 'b' occurs twice");
  EXPECT_EQ(parse_json(R"([{"b": 1}, {"b": {"b": 2}}])", "f").size(), 2U);
  EXPECT_EQ(message_of<UserError>([] { (void)parse_json(std::string(1'000'000, '['), "f"); }),
            "f: nested deeper than 100 levels");
}

}  // namespace
}  // namespace hyena::io
