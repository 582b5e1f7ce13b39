// Killed, stopped, resumed: the losses must be those of a run that nobody disturbed.
#include <map>
#include <random>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hyena/io/json.h"
#include "hyena/io/safetensors.h"
#include "tests/cli/program.h"

namespace hyena {
namespace {

using testing_support::Environment;
using testing_support::Outcome;
using testing_support::Process;
using testing_support::run_program;
using testing_support::small_run;
using testing_support::TemporaryFolder;

constexpr int kSteps = 120;

/// A run that writes a checkpoint at every step, so that a kill often falls into one.
std::vector<std::string> arguments(const std::string& out) {
  return small_run().train({"--out", out, "--resume", "auto", "--set",
                            "train.max_steps=" + std::to_string(kSteps), "--set",
                            "train.checkpoint_every=1", "--set", "train.evaluate_every=10"});
}

/// The losses of metrics.jsonl as text, step by step: equal text, equal bits.
std::string losses(const std::string& out) {
  std::istringstream text(testing_support::read_text(out + "/metrics.jsonl"));
  std::string all;
  for (std::string line; std::getline(text, line);) {
    const io::Json entry = io::Json::parse(line);
    all += entry.at("step").dump();
    for (const char* key : {"train_loss", "gradient_norm", "valid_loss"}) {
      if (entry.contains(key)) {
        all += ' ';
        all += entry.at(key).dump();
      }
    }
    all += "\n";
  }
  return all;
}

/// Every checkpoint that bears its final name is whole.
void expect_whole_checkpoints(const std::string& out) {
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(out + "/checkpoints", missing)) {
    if (entry.path().filename().string().starts_with("step-")) {
      (void)io::read_json(entry.path() / "config.json");
      (void)io::read_json(entry.path() / "train_state.json");
      (void)io::SafetensorsFile(entry.path() / "model.safetensors");
      (void)io::SafetensorsFile(entry.path() / "train_state.safetensors");
    }
  }
}

std::string undisturbed() {
  static const TemporaryFolder folder;
  static const std::string result = [] {
    const Outcome outcome = run_program(arguments((folder / "run").string()));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return losses((folder / "run").string());
  }();
  return result;
}

/// Waits until the run has logged more than it had, or is over.
void wait_for_progress(Process& process, const std::string& out) {
  const std::size_t before = losses(out).size();
  while (process.is_running() && losses(out).size() <= before) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST(Interruption, KilledAtAnyMomentTheRunGoesOnBitForBit) {
  const TemporaryFolder folder;
  const std::string out = (folder / "run").string();
  std::mt19937 random(11);
  int kills = 0;
  for (int attempt = 0; attempt < 8; ++attempt) {
    Process process(arguments(out));
    wait_for_progress(process, out);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 150000));
    if (process.is_running()) {
      process.send(SIGKILL);
      process.wait();
      ++kills;
    }
    expect_whole_checkpoints(out);
  }
  EXPECT_GE(kills, 3) << "the run was over before it could be killed";
  const Outcome outcome = run_program(arguments(out));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(losses(out), undisturbed());
  EXPECT_EQ(testing_support::listing(out + "/checkpoints").find(".tmp-"), std::string::npos)
      << "a leftover of a killed process";
}

TEST(Interruption, PoliteSignalsSaveAndSayHowToResume) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const TemporaryFolder folder;
    const std::string out = (folder / "run").string();
    Outcome outcome;
    {
      Process process(arguments(out));
      wait_for_progress(process, out);
      process.send(signal);
      outcome = process.wait();
    }
    EXPECT_EQ(outcome.code, 128 + signal) << outcome.err;
    EXPECT_NE(outcome.err.find("continue with: hyena train --out '" + out + "' --resume auto"),
              std::string::npos)
        << outcome.err;
    EXPECT_EQ(outcome.out, "") << "an unfinished run has no result";
    // As told: without --config.
    const Outcome resumed =
        run_program({"train", "--out", out, "--resume", "auto", "--threads", "1", "--json"});
    EXPECT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_EQ(losses(out), undisturbed());
  }
}

TEST(Interruption, WhoeverWatchedMayGoAway) {
  // hyena train ... 2>&1 | head -1
  const TemporaryFolder folder;
  const std::string out = (folder / "run").string();
  const std::string pipe = (folder / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  Process process(arguments(out), Environment{.stderr_path = pipe});
  const int reader = ::open(pipe.c_str(), O_RDONLY);
  char first = 0;
  EXPECT_EQ(::read(reader, &first, 1), 1);
  ::close(reader);
  EXPECT_EQ(process.wait().code, 0) << "a negative code is the signal that ended it";
  EXPECT_EQ(losses(out), undisturbed());
}

TEST(Interruption, FinishedRunOnlyRepeatsItsResult) {
  const TemporaryFolder folder;
  const auto train =
      small_run().train({"--out", (folder / "run").string(), "--resume", "auto", "--json"});
  const Outcome first = run_program(train);
  const Outcome second = run_program(train);
  EXPECT_EQ(second.code, 0) << second.err;
  EXPECT_EQ(first.out, second.out);
}

}  // namespace
}  // namespace hyena
