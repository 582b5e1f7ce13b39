#include "hyena/train/trainer.h"

#include <array>
#include <cmath>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include <gtest/gtest.h>
#include <torch/torch.h>
#include <unistd.h>

#include "hyena/base/error.h"
#include "hyena/io/toml.h"
#include "hyena/models/checkpoint.h"

namespace hyena::train {
namespace fs = std::filesystem;
namespace {

/// A folder with a text of words in random order, removed at the end.
class TrainerTest : public testing::Test {
 public:
  TrainerTest() : folder_(fs::temp_directory_path() / fmt::format("hyena-trainer-{}", ::getpid())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    std::mt19937_64 random(5);
    std::ofstream text(folder_ / "text.txt");
    const std::array<const char*, 4> words{"to ", "be ", "or ", "not "};
    for (int i = 0; i < 600; ++i) {
      text << words.at(random() % words.size());
    }
  }
  ~TrainerTest() override { fs::remove_all(folder_); }

 protected:
  [[nodiscard]] RunConfig config(const std::string& more = "") const {
    const std::string text = (folder_ / "text.txt").string();
    io::Json json = io::parse_toml(
        "[model]\nd_model = 8\nn_layer = 2\nd_inner = 16\nmax_length = 16\nfilter_order = 8\n"
        "embed_dropout = 0.1\n"  // the random generator's state must survive, too
        "[train]\nbatch_size = 4\nmicro_batch_size = 2\nmax_steps = 12\nlog_every = 5\n"
        "evaluate_every = 4\ncheckpoint_every = 3\nevaluate_tokens = 64\n"
        "[optimizer]\nlr = 0.01\n[schedule]\nwarmup_steps = 2\n",
        "test");
    json["data"]["train"] = text;
    json["data"]["valid"] = text;
    std::istringstream lines(more);
    for (std::string line; std::getline(lines, line);) {
      io::apply_override(json, line);
    }
    return read_run_config(json);
  }

  [[nodiscard]] Trainer trainer(RunConfig run, const std::string& out) const {
    TrainData data = open_data(run, {});
    return {run, std::move(data), at::kCPU, folder_ / out};
  }

  /// Step -> the numbers of its lines that must not depend on interruptions.
  [[nodiscard]] std::map<std::string, double> metrics(const std::string& out) const {
    std::map<std::string, double> numbers;
    std::ifstream file(folder_ / out / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      const io::Json entry = io::Json::parse(line);
      for (const char* key : {"train_loss", "gradient_norm", "lr", "epoch", "valid_loss"}) {
        if (entry.contains(key)) {
          const auto name = fmt::format("{} {}", entry["step"].get<int>(), key);
          EXPECT_EQ(numbers.count(name), 0U) << "twice: " << name;
          numbers[name] = entry[key].get<double>();
        }
      }
    }
    return numbers;
  }

  fs::path folder_;
};

struct StopAfter final : Observer {
  explicit StopAfter(std::int64_t step) : stop_step(step) {}
  void on_step(std::int64_t step) override { now = step; }
  bool stop_requested() override { return now == stop_step; }
  std::int64_t stop_step;
  std::int64_t now = 0;
};

std::vector<models::NamedTensor> final_state(const Trainer& trainer) {
  return models::named_state(trainer.model());
}

TEST_F(TrainerTest, ResumedRunHasTheBitsOfAnUninterruptedOne) {
  Trainer whole = trainer(config(), "whole");
  Observer quiet;
  EXPECT_TRUE(whole.run(quiet).finished);
  const auto expected = final_state(whole);

  // Stopped at every kind of step: within a log window, at one's end, at an evaluation, and where
  // a checkpoint was due anyway.
  for (const std::int64_t stop : {2, 5, 8, 9, 11}) {
    const std::string out = fmt::format("stopped-{}", stop);
    {
      Trainer first = trainer(config(), out);
      StopAfter observer(stop);
      EXPECT_FALSE(first.run(observer).finished);
      EXPECT_EQ(first.state().step, stop);
    }
    torch::manual_seed(999);  // whatever the new process begins with
    Trainer second = trainer(config(), out);
    const auto checkpoint = RunFolder(folder_ / out).checkpoint_to_resume("auto");
    ASSERT_TRUE(checkpoint.has_value());
    second.resume(*checkpoint);
    EXPECT_TRUE(second.run(quiet).finished);
    EXPECT_EQ(metrics(out), metrics("whole")) << "stopped after step " << stop;
    const auto actual = final_state(second);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_TRUE(at::equal(actual[i].tensor, expected[i].tensor)) << expected[i].name;
    }
  }
  EXPECT_EQ(metrics("whole").count("5 train_loss"), 1U);
  EXPECT_EQ(metrics("whole").count("12 valid_loss"), 1U);
}

TEST_F(TrainerTest, AccumulationGivesTheGradientOfTheWholeBatch) {
  Observer quiet;
  const std::string plain = "model.embed_dropout=0\ntrain.max_steps=1\ntrain.log_every=1";
  (void)trainer(config(plain), "micro").run(quiet);
  (void)trainer(config(plain + "\ntrain.micro_batch_size=4"), "batch").run(quiet);
  const auto micro = metrics("micro");
  const auto batch = metrics("batch");
  // Float32 sums over 64 tokens in another order.
  EXPECT_NEAR(micro.at("1 train_loss"), batch.at("1 train_loss"), 1e-5);
  EXPECT_NEAR(micro.at("1 gradient_norm"), batch.at("1 gradient_norm"),
              1e-4 * batch.at("1 gradient_norm"));
}

TEST_F(TrainerTest, LossFalls) {
  Observer quiet;
  Trainer run = trainer(config("train.max_steps=60\ntrain.evaluate_every=60"), "falls");
  EXPECT_NEAR(std::log(257.0), 5.55, 0.01);
  const TrainResult result = run.run(quiet);
  // Four words at random: far below the uniform guess over bytes.
  EXPECT_LT(result.state.last->score.nll, 3.0);
  EXPECT_EQ(result.state.tokens, 60 * 4 * 16);
}

TEST_F(TrainerTest, NotANumberStopsAndKeepsTheLastGoodCheckpoint) {
  Observer quiet;
  (void)trainer(config("train.max_steps=3"), "nan").run(quiet);
  const fs::path good = RunFolder(folder_ / "nan").checkpoint(3);

  struct Poison final : Observer {
    explicit Poison(Trainer& target) : poisoned(target) {}
    void on_step(std::int64_t step) override {
      if (step == 4) {  // so the loss of step 5 is not finite
        const torch::NoGradGuard no_grad;
        poisoned.model()->parameters().front().fill_(std::nanf(""));
      }
    }
    Trainer& poisoned;
  };
  Trainer run = trainer(config("train.evaluate_every=1000"), "nan");
  run.resume(good);
  Poison poison(run);
  try {
    (void)run.run(poison);
    FAIL() << "a loss that is not a number went unnoticed";
  } catch (const RunError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("training diverged at step 5: the loss is not a number"),
              std::string::npos)
        << message;
    EXPECT_NE(message.find(good.string()), std::string::npos) << message;
  }
  EXPECT_EQ(RunFolder(folder_ / "nan").steps(), std::vector<std::int64_t>{3});
}

TEST_F(TrainerTest, RisingLossStops) {
  Observer quiet;
  Trainer run = trainer(config("optimizer.lr=200\nschedule.initial_lr=200\nmodel.embed_dropout=0\n"
                               "train.clip_norm=0\ntrain.max_loss_rise=0.5\ntrain.log_every=1\n"
                               "train.keep_best=false\ntrain.checkpoint_every=100"),
                        "rises");
  EXPECT_THROW((void)run.run(quiet), RunError);
  EXPECT_TRUE(RunFolder(folder_ / "rises").steps().empty());
}

TEST_F(TrainerTest, KeepsTheLastAndTheBest) {
  Observer quiet;
  Trainer run = trainer(config("train.keep_last=2\ntrain.checkpoint_every=1"), "keep");
  const TrainResult result = run.run(quiet);
  const std::int64_t best = result.state.best->step;
  std::vector<std::int64_t> expected{11, 12};
  if (best < 11) {
    expected.insert(expected.begin(), best);
  }
  EXPECT_EQ(RunFolder(folder_ / "keep").steps(), expected);
  RunFolder(folder_ / "keep").prune(1, 11);
  EXPECT_EQ(RunFolder(folder_ / "keep").steps(), (std::vector<std::int64_t>{11, 12}));
  RunFolder(folder_ / "keep").prune(1, -1);
  EXPECT_EQ(RunFolder(folder_ / "keep").steps(), std::vector<std::int64_t>{12});
}

TEST_F(TrainerTest, TwoRunsDoNotMix) {
  Observer quiet;
  (void)trainer(config("train.max_steps=3"), "a").run(quiet);
  (void)trainer(config("train.max_steps=3"), "b").run(quiet);
  const RunFolder a(folder_ / "a");
  EXPECT_THROW((void)a.checkpoint_to_resume(""), UserError);
  EXPECT_THROW((void)a.checkpoint_to_resume((folder_ / "b").string()), UserError);
  EXPECT_THROW((void)a.checkpoint_to_resume((folder_ / "nowhere").string()), UserError);
  EXPECT_EQ(a.checkpoint_to_resume("auto"), a.checkpoint(3));
  EXPECT_EQ(RunFolder(folder_ / "new").checkpoint_to_resume("auto"), std::nullopt);
  EXPECT_EQ(RunFolder(folder_ / "new").checkpoint_to_resume((folder_ / "b").string()),
            RunFolder(folder_ / "b").checkpoint(3));
}

TEST_F(TrainerTest, ResumeRefusesFewerStepsThanWereDone) {
  Observer quiet;
  (void)trainer(config("train.max_steps=3"), "a").run(quiet);
  const fs::path checkpoint = RunFolder(folder_ / "a").checkpoint(3);
  Trainer fewer = trainer(config("train.max_steps=2"), "a");
  EXPECT_THROW(fewer.resume(checkpoint), UserError);
  Trainer as_many = trainer(config("train.max_steps=3"), "a");
  as_many.resume(checkpoint);
  EXPECT_TRUE(as_many.run(quiet).finished);
}

TEST_F(TrainerTest, ResumeRefusesAnotherModelSeedOrText) {
  Observer quiet;
  (void)trainer(config("train.max_steps=3"), "a").run(quiet);
  const fs::path checkpoint = RunFolder(folder_ / "a").checkpoint(3);
  for (const char* change : {"model.w=11", "train.seed=1", "model.n_layer=1"}) {
    Trainer other = trainer(config(change), "other");
    EXPECT_THROW(other.resume(checkpoint), UserError) << change;
  }
  std::ofstream(folder_ / "text.txt", std::ios::app) << "more";
  Trainer other = trainer(config(), "other");
  EXPECT_THROW(other.resume(checkpoint), UserError) << "longer text";
}

TEST_F(TrainerTest, MinutesEndTheRunAsFinished) {
  Observer quiet;
  Trainer run = trainer(config("train.max_steps=1000000\ntrain.max_minutes=0.001"), "timed");
  const TrainResult result = run.run(quiet);
  EXPECT_TRUE(result.finished);
  EXPECT_LT(result.state.step, 1000000);
  EXPECT_EQ(RunFolder(folder_ / "timed").steps().back(), result.state.step);
  EXPECT_EQ(result.state.last->step, result.state.step);
}

}  // namespace
}  // namespace hyena::train
