#include "hyena/sweep/report.h"

#include <gtest/gtest.h>

#include "hyena/io/toml.h"
#include "hyena/sweep/svg.h"

namespace hyena::sweep {
namespace {

Grid two_by_two() {
  return read_grid(io::parse_toml(R"(
name = "grid"
title = "A title"
paper = [["a", 32, 10, 97.25], ["b", 64, 10, 3]]
[task]
length = [32, 64]
vocab_size = 10
[train]
seed = [0, 1]
[variants.a]
label = "Hyena"
[variants.b]
label = "Other"
)",
                                  "test"));
}

io::Json result(const char* variant, int length, int seed, double accuracy, const char* status) {
  return {{"cell", "c"},           {"variant", variant},
          {"length", length},      {"vocab_size", 10},
          {"seed", seed},          {"status", status},
          {"steps", 100},          {"epochs", 1.5},
          {"tokens", 123456},      {"seconds", 61.0},
          {"tokens_per_s", 2e6},   {"device", "cpu"},
          {"valid_accuracy", 1.0}, {"test_accuracy", accuracy}};
}

TEST(Report, TableHoldsOursBesideThePapers) {
  const std::string table = markdown_table(
      two_by_two(), {result("a", 32, 0, 1.0, "solved"), result("a", 32, 1, 0.5, "finished"),
                     result("b", 32, 0, 0.125, "budget")});
  EXPECT_EQ(table.substr(0, table.find("\n| cell")), R"(# A title

vocabulary 10: test accuracy in per cent (in brackets: the paper)

| length | 32 | 64 |
|---|---|---|
| Hyena | 75.0 (97.25) | - |
| Other | 12.5* | - (3) |

\* the token budget of the cell ended before its epochs
)");
  EXPECT_NE(table.find("| c | budget | 12.5 | 100.0 | 1.5 | 100 | 123K | 2M | 1m 01s | cpu |"),
            std::string::npos)
      << table;
}

TEST(Report, DivergedCellsShowAsSuch) {
  io::Json diverged = result("b", 64, 0, 0.0, "diverged");
  diverged.erase("test_accuracy");
  EXPECT_NE(markdown_table(two_by_two(), {diverged}).find("| Other | - | diverged (3) |"),
            std::string::npos);
}

TEST(Svg, PointsLandWhereTheirValuesSay) {
  const std::string svg =
      draw({.title = "a < b",
            .x_label = "x",
            .y_label = "y",
            .x_axis = Axis::kLog2,
            .panels = {{.title = "p",
                        .series = {{.label = "s", .x = {1024, 2048, 4096}, .y = {0, 50, 100}}}}}});
  EXPECT_NE(svg.find("points=\"60.0,274.0 210.0,164.0 360.0,54.0 \""), std::string::npos) << svg;
  EXPECT_NE(svg.find("a &lt; b"), std::string::npos);
  EXPECT_NE(svg.find(">2K<"), std::string::npos);
}

}  // namespace
}  // namespace hyena::sweep
