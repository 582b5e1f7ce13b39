#include "hyena/sweep/grid.h"

#include <filesystem>

#include <gtest/gtest.h>

#include "hyena/base/error.h"
#include "hyena/io/toml.h"

namespace hyena::sweep {
namespace {

Grid read(const char* toml) {
  return read_grid(io::parse_toml(toml, "test"));
}

constexpr const char* kSmall = R"(
name = "small"
columns = "vocab_size"
paper = [["b", 64, 10, 12.5]]
[task]
length = [32, 64]
vocab_size = [10, 20]
examples = 100
[model]
d_model = 8
n_layer = 1
[train]
seed = [3, 4]
batch_size = 10
epochs = 5
max_tokens = 2000
[variants.a]
label = "A"
[variants.b]
mixer = "attention"
learned_positions = true
[[override]]
when = { variant = ["b"], length = 64 }
[override.train]
batch_size = 5
[override.task]
fresh = true
)";

TEST(Grid, IsTheProductOfItsAxes) {
  const Grid grid = read(kSmall);
  ASSERT_EQ(grid.cells.size(), 16U);
  EXPECT_EQ(grid.cells[0].name, "a_n32_v10_s3");
  EXPECT_EQ(grid.cells[1].name, "b_n32_v10_s3");
  EXPECT_EQ(grid.cells[2].name, "a_n32_v20_s3");
  EXPECT_EQ(grid.cells[15].name, "b_n64_v20_s4");
  EXPECT_EQ(grid.variants[0].label, "A");
  EXPECT_EQ(grid.variants[1].label, "b");
  EXPECT_EQ(grid.paper[0].accuracy, 12.5);
}

TEST(Grid, TheTaskGivesTheModelItsSizes) {
  const Grid grid = read(kSmall);
  const Cell& hyena = grid.cells[2];
  EXPECT_EQ(hyena.model.l_max, 34);
  EXPECT_EQ(hyena.model.vocab_size, 20);
  EXPECT_EQ(hyena.model.max_position_embeddings, 0);
  EXPECT_EQ(hyena.optimizer.lr, 5e-4) << "the paper's rate";
  EXPECT_EQ(grid.cells[5].model.mixer, "attention");
  EXPECT_EQ(grid.cells[5].model.max_position_embeddings, 66);
}

TEST(Grid, OverridesReachTheCellsTheyName) {
  const Grid grid = read(kSmall);
  for (const Cell& cell : grid.cells) {
    const bool named = cell.variant == "b" && cell.task.synthetic.length == 64;
    EXPECT_EQ(cell.train.batch_size, named ? 5 : 10) << cell.name;
    EXPECT_EQ(cell.task.fresh, named) << cell.name;
  }
}

TEST(Grid, TheBudgetShortensTheRun) {
  const Cell cell = read(kSmall).cells[0];  // 100 rows, batch 10, 5 epochs: 50 steps of 340 tokens
  EXPECT_EQ(cell.steps(), 2000 / 340);
  EXPECT_TRUE(cell.is_cut_by_budget());
  Cell free = cell;
  free.train.max_tokens = 0;
  EXPECT_EQ(free.steps(), 50);
  EXPECT_FALSE(free.is_cut_by_budget());
}

void expect_error(const std::string& toml, const std::string& message) {
  try {
    (void)read(toml.c_str());
    FAIL() << "expected: " << message;
  } catch (const UserError& error) {
    EXPECT_EQ(error.what(), message);
  }
}

TEST(Grid, ErrorsTeach) {
  expect_error("", "name: expected the name of the grid, which names its folder");
  expect_error("name = 'x'\n[model]\nl_max = 3",
               "variant 'hyena', length 256, vocabulary 10: model.l_max: follows from the task, "
               "remove it");
  expect_error("name = 'x'\n[train]\nbatchsize = 3",
               "variant 'hyena', length 256, vocabulary 10: unknown key 'train.batchsize', did you "
               "mean 'train.batch_size'?");
  expect_error("name = 'x'\n[task]\nname = 'arithmetic'\nvocab_size = 11",
               "variant 'hyena', length 256, vocabulary 11: vocab_size: arithmetic needs the 10 "
               "digits, got 11");
  expect_error("name = 'x'\npaper = [['a', 1, 2]]",
               "paper: expected rows [variant, length, vocab_size, accuracy], got [\"a\",1,2]");
}

TEST(Grid, EveryFileOfTheStudyIsReadable) {
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("experiments/mechanistic")) {
    if (entry.path().extension() == ".toml") {
      const Grid grid = read_grid(io::read_toml(entry.path()));
      EXPECT_EQ(grid.name, entry.path().stem().string());
      for (const PaperNumber& number : grid.paper) {
        EXPECT_TRUE(std::any_of(grid.cells.begin(), grid.cells.end(),
                                [&](const Cell& cell) {
                                  return cell.variant == number.variant &&
                                         cell.task.synthetic.length == number.length &&
                                         cell.task.synthetic.vocab_size == number.vocab_size;
                                }))
            << grid.name << ": no cell for " << number.variant << ", " << number.length;
      }
      ++files;
    }
  }
  EXPECT_GE(files, 6U);
}

}  // namespace
}  // namespace hyena::sweep
