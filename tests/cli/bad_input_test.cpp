// Bad input: one clear line, the right exit code, nothing half-written.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <torch/torch.h>

#include "hyena/models/tensor_file.h"
#include "tests/cli/program.h"

namespace hyena {
namespace {

using testing_support::Environment;
using testing_support::error_lines;
using testing_support::Outcome;
using testing_support::run_program;
using testing_support::small_run;
using testing_support::SmallRun;
using testing_support::TemporaryFolder;

struct Case {
  std::string name;
  std::vector<std::string> arguments;
  int code = 2;
  std::string expected;  ///< part of the error line
  Environment environment = {};
};

/// Runs the case; `untouched` must not come into being.
void check(const Case& bad, const std::string& untouched) {
  const Outcome outcome = run_program(bad.arguments, bad.environment);
  EXPECT_EQ(outcome.code, bad.code) << bad.name << ": " << outcome.err;
  const auto lines = error_lines(outcome.err);
  ASSERT_EQ(lines.size(), 1U) << bad.name << ": " << outcome.err;
  EXPECT_TRUE(outcome.err.ends_with("error: " + lines[0] + "\n"))
      << bad.name << ": " << outcome.err;
  EXPECT_NE(lines[0].find(bad.expected), std::string::npos) << bad.name << ": " << lines[0];
  EXPECT_LE(lines[0].size(), 600U) << bad.name;
  EXPECT_EQ(outcome.out, "") << bad.name;
  EXPECT_FALSE(std::filesystem::exists(untouched)) << bad.name << " left " << untouched;
}

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// A copy of the small run's checkpoint, to be damaged.
std::string copied_checkpoint(const TemporaryFolder& folder, const std::string& name) {
  std::string copy = (folder / name).string();
  std::filesystem::copy(small_run().checkpoint(), copy);
  return copy;
}

void replace(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = testing_support::read_text(path);
  const std::size_t place = text.find(from);
  ASSERT_NE(place, std::string::npos) << from;
  testing_support::write_text(path, text.replace(place, from.size(), to));
}

TEST(BadInput, Flags) {
  const std::vector<Case> cases{
      {"no subcommand", {}, 2, "subcommand is required"},
      {"unknown subcommand", {"trian"}, 2, "unknown subcommand 'trian'"},
      {"unknown flag", {"info", "--jsno"}, 2, "--jsno"},
      {"missing flag", {"eval", "--text", "x"}, 2, "--checkpoint is required"},
      {"not a number", {"generate", "--checkpoint", "x", "--seed", "abc"}, 2, "--seed"},
      {"negative threads", {"generate", "--checkpoint", "x", "--threads", "-1"}, 2, "--threads"},
      {"unknown device", {"generate", "--checkpoint", "x", "--device", "tpu"}, 2, "--device"},
      {"unknown preset", {"info", "--preset", "hyena-152m"}, 2, "did you mean 'hyena-153m'?"},
      {"no model to count", {"info", "--flops"}, 2, "--preset"},
      {"negative length", {"bench", "mixer", "--lengths", "-4"}, 2, "--lengths"},
      {"order 1", {"bench", "mixer", "--order", "1"}, 2, "--order"},
      {"no channels", {"bench", "mixer", "--channels", "0"}, 2, "--channels"},
      {"integers", {"bench", "mixer", "--dtype", "int8"}, 2, "--dtype"},
      {"layer in half", {"bench", "layer", "--dtype", "float16"}, 2, "--dtype"},
      {"no number of tokens",
       {"info", "--preset", "gpt-125m", "--flops", "--tokens", "nan"},
       2,
       "--tokens: expected a positive number, got nan"},
      {"negative tokens",
       {"info", "--preset", "gpt-125m", "--flops", "--tokens", "-1"},
       2,
       "--tokens: expected a positive number, got -1"},
      {"folder to count", {"info", "--checkpoint", "."}, 2, "config.json"},
      {"unknown benchmark", {"bench", "mixers"}, 2, "'mixers', did you mean 'mixer'?"},
      {"help on nothing", {"trian", "--help"}, 2, "unknown subcommand 'trian'"},
      // "$UNSET" in a shell
      {"empty checkpoint", {"info", "--checkpoint", ""}, 2, "--checkpoint: expected a value"},
      {"empty resume", {"train", "--out", "nowhere", "--resume", ""}, 2, "--resume: expected a"},
      {"empty prompt file",
       {"generate", "--checkpoint", "x", "--prompt-file", ""},
       2,
       "--prompt-file: expected a value"},
      {"empty seed",
       {"generate", "--checkpoint", "x", "--seed", ""},
       2,
       "--seed: expected a value"},
      {"negative seed", {"generate", "--checkpoint", "x", "--seed", "-1"}, 2, "got -1"},
  };
  for (const Case& bad : cases) {
    check(bad, "nowhere");
  }
}

TEST(BadInput, Train) {
  const TemporaryFolder folder;
  const SmallRun& run = small_run();
  const std::string out = (folder / "run").string();
  const auto train = [&](const std::vector<std::string>& more) {
    return run.train(joined({"--out", out}, more));
  };
  const auto set = [&](const std::string& assignment) { return train({"--set", assignment}); };
  testing_support::write_text(folder / "empty.txt", "");
  testing_support::write_text(folder / "short.txt", "too short");
  testing_support::write_text(folder / "bad.toml", "[train\nmax_steps = 1\n");
  const std::string none = (folder / "none.txt").string();
  const std::string empty = (folder / "empty.txt").string();
  const std::string brief = (folder / "short.txt").string();
  const auto with_config = [&](const std::string& path) {
    return std::vector<std::string>{"train", "--config", path, "--out", out};
  };
  const std::vector<Case> cases{
      {"no config", with_config(none), 2, none},
      {"folder as config", with_config(folder.path().string()), 2, folder.path().string()},
      {"broken TOML", with_config((folder / "bad.toml").string()), 2, "bad.toml:1"},
      {"unknown key", set("train.max_step=3"), 2, "did you mean 'train.max_steps'?"},
      {"unknown section", set("trains.max_steps=3"), 2, "did you mean 'train'?"},
      {"wrong type", set("train.max_steps=many"), 2, "train.max_steps: expected an integer"},
      {"no assignment", set("train.max_steps"), 2, "expected key=value"},
      {"negative", set("model.d_model=-8"), 2, "model.d_model: expected an integer"},
      {"zero", set("train.batch_size=0"), 2, "train.batch_size: expected an integer"},
      {"huge", set("model.d_model=99999999999999999999"), 2, "model.d_model"},
      {"too large a model",
       train({"--set", "model.d_model=1048576", "--set", "model.n_layer=4096", "--set",
              "model.inner_factor=4096"}),
       2, "of memory, this machine has"},
      {"too large a batch", set("train.batch_size=16777216"), 2, "train.micro_batch_size"},
      {"no text", set("data.train=[]"), 2, "data.train"},
      {"missing text", set("data.train=" + none), 2, none},
      {"folder as text", set("data.train=" + folder.path().string()), 2, folder.path().string()},
      {"glob without match", set("data.train=" + (folder / "*.nope").string()), 2,
       "data.train: no file matches"},
      {"missing text to score", set("data.valid=" + none), 2, "data.valid: cannot open"},
      {"numbers for names", set("data.train=[1]"), 2, "data.train[0]: expected a string"},
      {"learning rate", set("optimizer.lr=nan"), 2, "optimizer.lr"},
      {"negative rate", set("optimizer.lr=-1"), 2, "optimizer.lr"},
      {"one beta", set("optimizer.betas=[0.9]"), 2, "optimizer.betas"},
      {"dropout", set("model.resid_dropout=2"), 2, "model.resid_dropout"},
      {"long model", set("model.max_length=1000000000000"), 2, "model.max_length"},
      {"order", set("model.order=0"), 2, "model.order"},
      {"not a table", set("train=3"), 2, "train: expected a table"},
      {"empty text", set("data.train=" + empty), 2, "empty"},
      {"short text", set("data.train=" + brief), 2, "33"},
      {"missing tokenizer", set("data.tokenizer=" + none), 2, none},
      {"vocabulary", set("model.vocab_size=300"), 2, "model.vocab_size: expected 257"},
      {"resume from nothing", train({"--resume", none}), 2, none},
      {"unnamed text", set("data.train=''"), 2, "data.train: expected the name of a file"},
      {"long name", set("data.train=" + std::string(300, 'a')), 2, "File name too long"},
  };
  for (const Case& bad : cases) {
    check(bad, out);
  }
}

TEST(BadInput, TrainIntoAnExistingRun) {
  const SmallRun& run = small_run();
  check({"second run", run.train({"--out", run.run()}), 2, "already holds a run up to step 3"},
        "nowhere");
  check({"other model",
         run.train({"--out", run.run(), "--resume", "auto", "--set", "model.w=3", "--set",
                    "train.max_steps=9"}),
         2, "model.w is 3.0 in this configuration, but 10.0"},
        "nowhere");
  const TemporaryFolder folder;
  const std::string emptied = (folder / "run").string();
  std::filesystem::copy(run.run(), emptied, std::filesystem::copy_options::recursive);
  testing_support::write_text(emptied + "/checkpoints/step-3/train_state.json", "{}");
  check({"emptied state",
         run.train({"--out", emptied, "--resume", "auto", "--set", "train.max_steps=9"}), 2,
         "train_state.json: loader: missing"},
        "nowhere");
}

TEST(BadInput, TrainWhereAnotherProcessTrains) {
  const TemporaryFolder folder;
  const std::string out = (folder / "run").string();
  const auto arguments = small_run().train(
      {"--out", out, "--resume", "auto", "--set", "train.max_steps=1000000", "--set",
       "train.evaluate_every=1000000", "--set", "train.checkpoint_every=1000000"});
  testing_support::Process first(arguments);
  while (first.is_running() && testing_support::read_text(out + "/metrics.jsonl").empty()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  check({"second process", arguments, 2, "another process trains in '" + out + "'"}, "nowhere");
  EXPECT_TRUE(first.is_running());
}

#ifndef HYENA_HAS_CUDA
TEST(BadInput, CudaWithoutGpu) {
  const TemporaryFolder folder;
  const std::string out = (folder / "out").string();
  const std::string ids = (folder / "ids").string();
  models::write_tensors(ids, {{"ids", at::zeros({1, 4}, at::kLong)}});
  const std::string run = small_run().run();
  const std::vector<std::vector<std::string>> commands{
      {"train", "--config", small_run().path("run.toml"), "--out", out},
      {"eval", "--checkpoint", run, "--text", small_run().text()},
      {"generate", "--checkpoint", run, "--prompt", "a"},
      {"logits", "--checkpoint", run, "--ids", ids, "--out", out},
      {"bench", "mixer"},
      {"bench", "layer"}};
  for (const auto& command : commands) {
    check({command.front(), joined(command, {"--device", "cuda"}), 2, "--device cuda"}, out);
  }
}
#endif

TEST(BadInput, Checkpoints) {
  const TemporaryFolder folder;
  const std::string text = small_run().text();
  const auto eval = [&](const std::string& checkpoint) {
    return std::vector<std::string>{"eval", "--checkpoint", checkpoint, "--text", text};
  };
  const std::string none = (folder / "none").string();
  check({"missing", eval(none), 2, none}, none);
  check({"folder without checkpoint", eval(folder.path().string()), 2, "config.json"}, none);
  check({"text as checkpoint", eval(text), 2, "text.txt"}, none);

  const std::string cut = copied_checkpoint(folder, "cut");
  std::filesystem::resize_file(cut + "/model.safetensors", 5000);
  check({"truncated weights", eval(cut), 2, "model.safetensors"}, none);
  const std::string header = copied_checkpoint(folder, "header");
  replace(header + "/model.safetensors", R"("dtype":"F32")", R"("dtype":"F39")");
  check({"damaged header", eval(header), 2, "model.safetensors"}, none);
  const std::string renamed = copied_checkpoint(folder, "renamed");
  replace(renamed + "/model.safetensors", "ln_f.bias", "ln_g.bias");
  check({"renamed tensor", eval(renamed), 2, "ln_g.bias"}, none);
  const std::string other = copied_checkpoint(folder, "other");
  replace(other + "/config.json", "\"d_model\": 8", "\"d_model\": 16");
  check({"other shape", eval(other), 2, "expected shape"}, none);
  const std::string huge = copied_checkpoint(folder, "huge");
  replace(huge + "/config.json", "\"d_model\": 8", "\"d_model\": 1048576");
  replace(huge + "/config.json", "\"n_layer\": 1", "\"n_layer\": 4096");
  check({"huge model", eval(huge), 2, "of memory, this machine has"}, none);
  const std::string no_numbers = copied_checkpoint(folder, "no-numbers");
  std::string weights = testing_support::read_text(no_numbers + "/model.safetensors");
  std::int64_t header_bytes = 0;
  std::memcpy(&header_bytes, weights.data(), sizeof(header_bytes));
  std::fill(weights.begin() + sizeof(header_bytes) + header_bytes, weights.end(), '\xff');
  testing_support::write_text(no_numbers + "/model.safetensors", weights);
  check({"weights that are no numbers", eval(no_numbers), 1, "the model's loss is"}, none);
  const std::string no_json = copied_checkpoint(folder, "no-json");
  replace(no_json + "/config.json", "{", "[");
  check({"broken config", eval(no_json), 2, "config.json"}, none);
  const std::string vocabulary = copied_checkpoint(folder, "vocabulary");
  replace(vocabulary + "/config.json", "\"vocab_size\": 257", "\"vocab_size\": 258");
  check({"vocabulary", eval(vocabulary), 2, "has 257 entries, but the model"}, none);
}

TEST(BadInput, TextsToScore) {
  const TemporaryFolder folder;
  testing_support::write_text(folder / "one.txt", "x");
  testing_support::write_text(folder / "empty.txt", "");
  const std::string cut = (folder / "cut.tokens").string();
  const std::string foreign = (folder / "foreign.tokens").string();
  const Outcome made =
      run_program({"tokenize", "--tokenizer", "byte", "--text", small_run().text(), "--out", cut});
  ASSERT_EQ(made.code, 0) << made.err;
  std::filesystem::copy_file(cut, foreign);
  replace(foreign, "byte-257", "byte-258");  // the fingerprint of another tokenizer
  std::filesystem::resize_file(cut, 1000);
  const auto eval = [&](const std::vector<std::string>& more) {
    return joined({"eval", "--checkpoint", small_run().run()}, more);
  };
  const std::vector<Case> cases{
      {"nothing", eval({}), 2, "--text or --tokens"},
      {"missing", eval({"--text", "/nowhere.txt"}), 2, "/nowhere.txt"},
      {"folder", eval({"--text", folder.path().string()}), 2, folder.path().string()},
      {"empty", eval({"--text", (folder / "empty.txt").string()}), 2, "empty.txt"},
      {"one byte", eval({"--text", (folder / "one.txt").string()}), 2, "two"},
      {"cut token file", eval({"--tokens", cut}), 2, "cut.tokens"},
      {"text as token file", eval({"--tokens", small_run().text()}), 2, "not a token file"},
      {"text and tokens", eval({"--text", small_run().text(), "--tokens", cut}), 2, "either"},
      {"folder as tokenizer",
       eval({"--text", small_run().text(), "--tokenizer", folder.path().string()}), 2,
       "vocab.json does not exist"},
      {"no windows at a time", eval({"--text", small_run().text(), "--batch-size", "0"}), 2,
       "--batch-size"},
      {"foreign token file", eval({"--tokens", foreign}), 2, "foreign.tokens"},
      {"stride 0", eval({"--text", small_run().text(), "--stride", "0"}), 2, "--stride"},
      {"stride too long", eval({"--text", small_run().text(), "--stride", "33"}), 2, "stride"},
  };
  for (const Case& bad : cases) {
    check(bad, "nowhere");
  }
}

TEST(BadInput, Prompts) {
  const TemporaryFolder folder;
  testing_support::write_text(folder / "bytes.txt", "caf\xe9");
  const auto generate = [&](const std::vector<std::string>& more) {
    return joined({"generate", "--checkpoint", small_run().run()}, more);
  };
  const std::vector<Case> cases{
      {"not UTF-8", generate({"--prompt", "caf\xe9"}), 2, "--prompt: expected UTF-8"},
      {"file not UTF-8", generate({"--prompt-file", (folder / "bytes.txt").string()}), 2,
       "bytes.txt: expected UTF-8"},
      {"missing file", generate({"--prompt-file", "/nowhere"}), 2, "/nowhere"},
      {"folder", generate({"--prompt-file", folder.path().string()}), 2, "got a folder"},
      {"two prompts", generate({"--prompt", "a", "--prompt-file", small_run().text()}), 2,
       "excludes"},
      {"huge", generate({"--prompt", "a", "--max-tokens", "99999999999999999999"}), 2,
       "--max-tokens"},
      {"top-k", generate({"--prompt", "a", "--top-k", "-1"}), 2, "top_k"},
      {"no temperature", generate({"--prompt", "a", "--temperature", "nan"}), 2, "temperature"},
      {"too long", generate({"--prompt", std::string(33, 'a')}), 2, "the model's length of 32"},
      {"too many tokens", generate({"--prompt", "abc", "--max-tokens", "30"}), 2,
       "ask for at most 29 tokens"},
      {"no tokens", generate({"--prompt", "a", "--max-tokens", "0"}), 2, "--max-tokens"},
      {"temperature", generate({"--prompt", "a", "--temperature", "-1"}), 2, "temperature"},
      {"top-p", generate({"--prompt", "a", "--top-p", "1.5"}), 2, "top_p"},
  };
  for (const Case& bad : cases) {
    check(bad, "nowhere");
  }
}

TEST(BadInput, LogitsAndTokens) {
  const TemporaryFolder folder;
  const auto file = [&](const char* name, const at::Tensor& ids) {
    std::string path = (folder / name).string();
    models::write_tensors(path, {{"ids", ids}});
    return path;
  };
  const std::string out = (folder / "out").string();
  const auto logits = [&](const std::string& ids) {
    return std::vector<std::string>{
        "logits", "--checkpoint", small_run().run(), "--ids", ids, "--out", out};
  };
  const std::string good = file("good", at::zeros({1, 4}, at::kLong));
  const auto to = [&](const std::string& path) {
    auto arguments = logits(good);
    arguments.back() = path;
    return arguments;
  };
  const std::string pipe = (folder / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const std::vector<Case> cases{
      {"missing", logits("/nowhere"), 2, "/nowhere"},
      {"float ids", logits(file("float", at::zeros({1, 4}))), 2, "expected int64"},
      {"flat ids", logits(file("flat", at::zeros({4}, at::kLong))), 2, "shape (B, L)"},
      {"large id", logits(file("large", at::full({1, 4}, 264, at::kLong))), 2, "got 264"},
      {"negative id", logits(file("negative", at::full({1, 4}, -1, at::kLong))), 2, "got -1"},
      {"long", logits(file("long", at::zeros({1, 33}, at::kLong))), 2, "l_max = 32"},
      {"no tensor", logits(small_run().checkpoint() + "/model.safetensors"), 2, "'ids'"},
      {"folder as ids", logits(folder.path().string()), 2, "got a folder"},
      {"text as ids", logits(small_run().text()), 2, "not a safetensors file"},
      {"no folder", to("/nowhere/out"), 1, "/nowhere"},
      {"onto a folder", to(folder.path().string()), 1, "Is a directory"},
      {"onto a pipe", to(pipe), 1, "expected a regular file"},
      {"onto its input", to(good), 2, "is also read"},
      {"full disk", logits(good), 1, "cannot write", {.largest_file = 2048}},
  };
  for (const Case& bad : cases) {
    check(bad, out);
  }
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
}

TEST(BadInput, Tokenize) {
  const TemporaryFolder folder;
  const TemporaryFolder texts;
  const std::string own = (texts / "text.tokens").string();
  testing_support::write_text(own, "a text in spite of its name");
  const std::string out = (folder / "out.tokens").string();
  testing_support::write_text(folder / "empty.txt", "");
  const auto tokenize = [&](const std::string& tokenizer, const std::string& text,
                            const std::string& to) {
    return std::vector<std::string>{"tokenize", "--tokenizer", tokenizer, "--text",
                                    text,       "--out",       to};
  };
  const std::string text = small_run().text();
  const std::string path = folder.path().string();
  const std::vector<Case> cases{
      {"missing", tokenize("byte", "/nowhere", out), 2, "/nowhere"},
      {"folder", tokenize("byte", path, out), 2, path},
      {"empty", tokenize("byte", path + "/empty.txt", out), 2, "empty.txt"},
      {"glob without match", tokenize("byte", path + "/*.nope", out), 2, "*.nope"},
      {"unknown tokenizer", tokenize("/nowhere", text, out), 2, "/nowhere"},
      {"folder without tokenizer", tokenize(path, text, out), 2, "vocab.json"},
      {"other name", tokenize("byte", text, path + "/out.bin"), 2, "ends in .tokens"},
      {"no folder", tokenize("byte", text, "/nowhere/a.tokens"), 1, "/nowhere"},
      {"onto its text", tokenize("byte", own, own), 2, "is also read"},
      {"full disk", tokenize("byte", text, out), 1, "cannot write", {.largest_file = 4096}},
  };
  for (const Case& bad : cases) {
    check(bad, out);
  }
  EXPECT_EQ(testing_support::listing(folder.path()), "empty.txt") << "half-written";
}

TEST(BadInput, Sweep) {
  const TemporaryFolder folder;
  const std::string out = (folder / "out").string();
  testing_support::write_text(folder / "grid.toml", "name = 'small'\n[model]\nd_model = 8\n");
  testing_support::write_text(folder / "bare.toml", "name = 'bare'\n[variants]\n");
  const auto sweep = [&](const std::string& grid, const std::vector<std::string>& more) {
    return joined({"sweep", (folder / grid).string(), "--out", out}, more);
  };
  const std::vector<Case> cases{
      {"no grid", {"sweep"}, 2, "grid is required"},
      {"missing", sweep("none.toml", {}), 2, "none.toml"},
      {"folder", {"sweep", folder.path().string()}, 2, "got a folder"},
      {"no variants", sweep("bare.toml", {}), 2, "variants: expected at least one"},
      {"no name", sweep("grid.toml", {"--set", "name=''"}), 2, "name: expected the name"},
      {"unknown key", sweep("grid.toml", {"--set", "train.epoch=3"}), 2,
       "did you mean 'train.epochs'?"},
      {"no cell", sweep("grid.toml", {"--only", "none"}), 2, "--only: expected part of a cell's"},
      {"no minutes", sweep("grid.toml", {"--max-minutes", "nan"}), 2, "--max-minutes: expected"},
      {"negative minutes", sweep("grid.toml", {"--max-minutes", "-1"}), 2, "got -1"},
  };
  for (const Case& bad : cases) {
    check(bad, out);
  }
}

TEST(BadInput, ARefusedSweepKeepsTheRecordOfTheGrid) {
  const TemporaryFolder folder;
  testing_support::write_text(folder / "grid.toml",
                              "name = 'small'\n[task]\nlength = [8]\nvocab_size = [6]\n"
                              "examples = 20\nvalid_examples = 10\ntest_examples = 10\n"
                              "[model]\nd_model = 8\nn_layer = 1\nfilter_order = 8\n"
                              "[train]\nbatch_size = 10\nepochs = 1\n[variants.hyena]\n");
  const std::string out = (folder / "out").string();
  const std::vector<std::string> sweep{
      "sweep", (folder / "grid.toml").string(), "--out", out, "--device", "cpu"};
  const Outcome first = run_program(sweep);
  ASSERT_EQ(first.code, 0) << first.err;
  const std::string record = testing_support::read_text(out + "/grid.toml");
  const Outcome refused = run_program(joined(sweep, {"--set", "optimizer.lr=1e-3"}));
  EXPECT_EQ(refused.code, 2) << refused.err;
  ASSERT_EQ(error_lines(refused.err).size(), 1U) << refused.err;
  EXPECT_NE(refused.err.find("started with another configuration"), std::string::npos);
  EXPECT_EQ(testing_support::read_text(out + "/grid.toml"), record);
}

TEST(BadInput, DiskFullWhileTrainingKeepsTheLastCheckpoint) {
  const TemporaryFolder folder;
  const std::string out = (folder / "run").string();
  // Enough for the small files, not for the weights: as a disk that fills up in the first
  // checkpoint.
  const Outcome outcome = run_program(small_run().train({"--out", out}), {.largest_file = 4096});
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  ASSERT_EQ(error_lines(outcome.err).size(), 1U) << outcome.err;
  EXPECT_NE(error_lines(outcome.err)[0].find("cannot write"), std::string::npos) << outcome.err;
  EXPECT_EQ(testing_support::listing(out + "/checkpoints"), "") << "half-written";
}

TEST(BadInput, UnwritableOutput) {
  const TemporaryFolder folder;
  const std::string file = (folder / "file").string();
  testing_support::write_text(file, "in the way");
  check({"file in the way", small_run().train({"--out", file + "/run"}), 1, file}, file + "/run");
  check({"proc", small_run().train({"--out", "/proc/run"}), 1, "/proc"}, "/proc/run");
}

TEST(BadInput, FullStandardOutput) {
  const std::string run = small_run().run();
  const std::vector<std::vector<std::string>> commands{
      {"info"},
      {"info", "--json"},
      {"generate", "--checkpoint", run, "--prompt", "the ", "--max-tokens", "4"},
      {"eval", "--checkpoint", run, "--text", small_run().text()}};
  for (const auto& arguments : commands) {
    const Outcome outcome = run_program(arguments, {.stdout_path = "/dev/full"});
    EXPECT_EQ(outcome.code, 1) << outcome.err;
    EXPECT_EQ(error_lines(outcome.err).size(), 1U) << outcome.err;
  }
}

/// Nobody hears the message; the exit code still tells.
TEST(BadInput, FullStandardError) {
  const Environment deaf{.stderr_path = "/dev/full"};
  EXPECT_EQ(run_program({"info", "--jsno"}, deaf).code, 2);
  EXPECT_EQ(
      run_program({"eval", "--checkpoint", small_run().run(), "--text", small_run().text()}, deaf)
          .code,
      0);
}

}  // namespace
}  // namespace hyena
