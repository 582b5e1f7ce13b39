#include "hyena/sweep/cell.h"

#include <fstream>
#include <functional>
#include <set>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/io/json.h"
#include "hyena/io/toml.h"
#include "hyena/sweep/task_data.h"
#include "tests/io/temporary_folder.h"

namespace hyena::sweep {
namespace {

Cell small(const std::string& more = "") {
  return read_grid(io::parse_toml(R"(
name = "small"
[task]
length = 12
vocab_size = 6
examples = 40
valid_examples = 20
test_examples = 30
[model]
d_model = 8
n_layer = 1
d_inner = 16
filter_order = 8
[train]
batch_size = 10
epochs = 4
)" + more,
                                  "test"))
      .cells.front();
}

CellObserver undisturbed() {
  return {.on_progress = [](std::int64_t, std::int64_t, const std::string&) {},
          .stop_requested = [] { return false; }};
}

/// Without what depends on the clock.
io::Json timeless(io::Json result) {
  for (const char* key : {"seconds", "tokens_per_s"}) {
    result.erase(key);
  }
  return result;
}

TEST(TaskData, EveryEpochVisitsEveryRowOnceInAnOrderOfItsOwn) {
  const Cell cell = small();
  TaskData data(cell.task, at::kCPU);
  const auto rows = [&](std::int64_t first) {
    const at::Tensor rows_BT = data.train_rows(first, 40);
    std::vector<std::vector<std::int64_t>> all;
    for (std::int64_t i = 0; i < 40; ++i) {
      const at::Tensor row = rows_BT[i].contiguous();
      all.emplace_back(row.data_ptr<std::int64_t>(), row.data_ptr<std::int64_t>() + row.numel());
    }
    return all;
  };
  const auto first = rows(0);
  const auto second = rows(40);
  EXPECT_NE(first, second);
  using Set = std::set<std::vector<std::int64_t>>;
  EXPECT_EQ(Set(first.begin(), first.end()), Set(second.begin(), second.end()));
  EXPECT_EQ(Set(first.begin(), first.end()).size(), 40U);
  EXPECT_EQ(rows(0), first) << "a function of the place alone";
  EXPECT_FALSE(at::equal(data.valid().narrow(0, 0, 10), data.test().narrow(0, 0, 10)));
}

TEST(TaskData, FreshRowsNeverRepeat) {
  Cell cell = small();
  cell.task.fresh = true;
  TaskData data(cell.task, at::kCPU);
  const at::Tensor a = data.train_rows(0, 10);
  EXPECT_TRUE(at::equal(a, data.train_rows(0, 10)));
  EXPECT_FALSE(at::equal(a, data.train_rows(10, 10)));
}

TEST(Cell, StoppedAnywhereItEndsWithTheSameResult) {
  const Cell cell = small();
  const testing_support::TemporaryFolder folder;
  const auto whole = run_cell(cell, folder.path() / "whole", at::kCPU, undisturbed());
  ASSERT_TRUE(whole);
  EXPECT_EQ((*whole)["steps"], 16);
  EXPECT_EQ((*whole)["status"], "finished");
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "whole" / "state"));

  std::optional<io::Json> parts;
  int runs = 0;
  while (!parts) {
    ++runs;
    int steps = 0;
    CellObserver observer = undisturbed();
    observer.stop_requested = [&] { return ++steps == 5; };  // not at an evaluation
    parts = run_cell(cell, folder.path() / "parts", at::kCPU, observer);
    ASSERT_LT(runs, 10);
  }
  EXPECT_EQ(runs, 4);
  EXPECT_EQ(timeless(*parts), timeless(*whole)) << "to the bit";

  const auto lines = [&](const char* name) {
    std::ifstream file(folder.path() / name / "metrics.jsonl");
    std::vector<io::Json> all;
    for (std::string line; std::getline(file, line);) {
      all.push_back(timeless(io::Json::parse(line)));
    }
    return all;
  };
  EXPECT_EQ(lines("parts"), lines("whole"));
  EXPECT_EQ(lines("whole").size(), 4U) << "one line per epoch";
}

TEST(Cell, OnAGpuReplayedStepsAreTheCalledOnes) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no GPU";
  }
  Cell cell = small();
  cell.train.precision = "float32";
  cell.train.micro_batch_size = 5;
  cell.train.epochs = 10;
  const auto trained = [&](bool cuda_graph) {
    const testing_support::TemporaryFolder folder;
    cell.train.cuda_graph = cuda_graph;
    const auto result =
        run_cell(cell, folder.path(), at::Device(at::kCUDA, 0), undisturbed()).value();
    EXPECT_EQ(result["steps"], 40);
    return result["test_loss"].get<double>();
  };
  EXPECT_NEAR(trained(true), trained(false), 1e-4);
}

TEST(Cell, AResultIsNotRunAgain) {
  const testing_support::TemporaryFolder folder;
  const auto first = run_cell(small(), folder.path(), at::kCPU, undisturbed());
  CellObserver none;
  none.on_progress = [](std::int64_t, std::int64_t, const std::string&) { FAIL(); };
  EXPECT_EQ(run_cell(small(), folder.path(), at::kCPU, none), first);
}

TEST(Cell, AnotherConfigurationIsRefused) {
  const testing_support::TemporaryFolder folder;
  CellObserver observer = undisturbed();
  observer.stop_requested = [] { return true; };
  ASSERT_FALSE(run_cell(small(), folder.path(), at::kCPU, observer));
  Cell other = small();
  other.train.epochs = 5;
  EXPECT_THROW((void)run_cell(other, folder.path(), at::kCPU, observer), UserError);
}

TEST(Cell, AResultOfAnotherConfigurationIsRefused) {
  const testing_support::TemporaryFolder folder;
  ASSERT_TRUE(run_cell(small(), folder.path(), at::kCPU, undisturbed()));
  const std::vector<std::function<void(Cell&)>> changes{
      [](Cell& cell) { cell.train.epochs = 5; },
      [](Cell& cell) { cell.train.max_tokens = 1; },
      [](Cell& cell) { cell.train.clip_norm = 0.5; },
      [](Cell& cell) { cell.train.solved = 0.5; },
      [](Cell& cell) { cell.train.warmup = 0.1; },
      [](Cell& cell) { cell.task.synthetic.seed += 1; },
      [](Cell& cell) { cell.task.fresh = true; },
      [](Cell& cell) { cell.task.test_examples = 31; },
      [](Cell& cell) { cell.optimizer.weight_decay = 0.0; },
      [](Cell& cell) { cell.optimizer.filter_lr = 1e-5; },
      [](Cell& cell) { cell.model.d_inner = 32; },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    Cell other = small();
    changes[i](other);
    EXPECT_THROW((void)run_cell(other, folder.path(), at::kCPU, undisturbed()), UserError) << i;
  }
  Cell same = small();
  same.train.micro_batch_size = 5;
  EXPECT_NO_THROW(check_configuration(same, folder.path()));
  EXPECT_NO_THROW(check_configuration(small(), folder.path() / "none"));
}

TEST(Cell, LearnsAnEasyTaskAndStopsWhenItIsSolved) {
  // One key: the value stands in the prompt, and the answer repeats it.
  Cell cell = small("[optimizer]\nlr = 1e-2");
  cell.task.synthetic.vocab_size = cell.model.vocab_size = 5;
  cell.task.synthetic.length = 2;
  cell.task.synthetic.examples = 2;
  cell.task.valid_examples = cell.task.test_examples = 2;
  cell.train.batch_size = 2;
  cell.train.epochs = 500;
  const testing_support::TemporaryFolder folder;
  const auto result = run_cell(cell, folder.path(), at::kCPU, undisturbed());
  ASSERT_TRUE(result);
  EXPECT_EQ((*result)["status"], "solved");
  EXPECT_LT((*result)["steps"], (*result)["planned_steps"]);
  EXPECT_EQ((*result)["test_accuracy"], 1.0);
  EXPECT_EQ((*result)["scored_accuracy"], io::Json::array({1.0}));
  const io::Json& positions = (*result)["position_accuracy"];
  ASSERT_EQ(positions.size(), 4U);
  EXPECT_EQ(positions[3]["end"], 4);
  EXPECT_LT(positions[0]["accuracy"], 1.0) << "the first value cannot be known";
}

}  // namespace
}  // namespace hyena::sweep
