// The contract of every subcommand: keys, exit codes, where output goes.
#include "tests/cli/program.h"

#include <cmath>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/io/json.h"
#include "hyena/models/tensor_file.h"

namespace hyena {
namespace {

using testing_support::Outcome;
using testing_support::run_program;
using testing_support::small_run;
using testing_support::TemporaryFolder;

/// The keys of a JSON object in their order, joined.
std::string keys(const io::Json& object) {
  std::string all;
  for (const auto& [key, value] : object.items()) {
    all += all.empty() ? key : " " + key;
  }
  return all;
}

/// The one JSON line that the program printed.
io::Json result(const std::vector<std::string>& arguments) {
  const Outcome outcome = run_program(arguments);
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 1) << outcome.out;
  return io::parse_json(outcome.out, "stdout");
}

TEST(Program, TrainWritesWhatItPromises) {
  const TemporaryFolder folder;
  const std::string out = (folder / "run").string();
  const io::Json line = result(small_run().train({"--out", out, "--json"}));
  EXPECT_EQ(keys(line), "step train_loss valid_loss valid_perplexity valid_accuracy tokens_per_s");
  EXPECT_EQ(line.at("step"), 3);
  EXPECT_DOUBLE_EQ(line.at("valid_perplexity").get<double>(),
                   std::exp(line.at("valid_loss").get<double>()));
  const std::string names = testing_support::listing(out);
  EXPECT_EQ(names.find("checkpoints config.toml events.out.tfevents."), 0U) << names;
  EXPECT_NE(names.find(" metrics.jsonl"), std::string::npos) << names;
  EXPECT_EQ(testing_support::listing(out + "/checkpoints/step-3"),
            "config.json model.safetensors train_state.json train_state.safetensors");
}

TEST(Program, TrainWithoutValidationReportsNull) {
  const TemporaryFolder folder;
  const io::Json line = result(
      small_run().train({"--out", (folder / "run").string(), "--json", "--set", "data.valid=[]"}));
  EXPECT_TRUE(line.at("valid_loss").is_null());
  EXPECT_TRUE(line.at("train_loss").is_number());
}

TEST(Program, EvalScoresEveryTokenOnce) {
  const std::string text = small_run().text();
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(text));
  const std::vector<std::string> eval{"eval",   "--checkpoint", small_run().run(),
                                      "--text", text,           "--json"};
  const io::Json line = result(eval);
  EXPECT_EQ(keys(line), "tokens bytes nll perplexity bits_per_byte accuracy");
  EXPECT_EQ(line.at("bytes"), bytes);
  EXPECT_EQ(line.at("tokens"), bytes - 1);  // the first is context only
  const auto nll = line.at("nll").get<double>();
  EXPECT_DOUBLE_EQ(
      line.at("bits_per_byte").get<double>(),
      nll * static_cast<double>(bytes - 1) / (static_cast<double>(bytes) * std::log(2.0)));
  // More context: other scores of as many tokens. A checkpoint folder is the run's newest.
  const io::Json strided = result({"eval", "--checkpoint", small_run().checkpoint(), "--text", text,
                                   "--stride", "7", "--json"});
  EXPECT_EQ(strided.at("tokens"), line.at("tokens"));
  EXPECT_NE(strided.at("nll"), line.at("nll"));
  // The batch size is no part of the meaning.
  std::vector<std::string> one_by_one = eval;
  one_by_one.insert(one_by_one.end(), {"--batch-size", "1"});
  EXPECT_NEAR(result(one_by_one).at("nll").get<double>(), nll, 1e-6);
}

TEST(Program, TokenFilesScoreLikeTheirTexts) {
  const TemporaryFolder folder;
  const std::string tokens = (folder / "a.tokens").string();
  const io::Json made = result({"tokenize", "--tokenizer", "byte", "--text", small_run().text(),
                                "--out", tokens, "--no-end-of-text", "--json"});
  EXPECT_EQ(made.at("tokens"), made.at("bytes"));
  EXPECT_EQ(made.at("documents"), 1);
  const auto eval = [](const char* flag, const std::string& file) {
    return result({"eval", "--checkpoint", small_run().run(), flag, file, "--json"});
  };
  EXPECT_EQ(eval("--tokens", tokens), eval("--text", small_run().text()));
  const std::string renamed = (folder / "a").string();
  std::filesystem::rename(tokens, renamed);
  EXPECT_EQ(eval("--tokens", renamed), eval("--text", small_run().text()));
}

TEST(Program, TokenizeTakesGlobs) {
  const TemporaryFolder folder;
  testing_support::write_text(folder / "a.txt", "one");
  testing_support::write_text(folder / "b.txt", "three");
  const io::Json made =
      result({"tokenize", "--tokenizer", "byte", "--text", (folder / "*.txt").string(), "--out",
              (folder / "ab.tokens").string(), "--json"});
  EXPECT_EQ(made.at("documents"), 2);
  EXPECT_EQ(made.at("bytes"), 8);
}

TEST(Program, NgramsStandBesideTheModel) {
  const io::Json line = result({"eval", "--checkpoint", small_run().run(), "--text",
                                small_run().text(), "--ngrams", small_run().text(), "--json"});
  EXPECT_EQ(keys(line),
            "tokens bytes nll perplexity bits_per_byte accuracy unigram_bits_per_byte "
            "bigram_bits_per_byte trigram_bits_per_byte");
  EXPECT_LT(line.at("trigram_bits_per_byte"), line.at("unigram_bits_per_byte"));
}

TEST(Program, GenerateRepeatsItselfForOneSeed) {
  const auto generate = [](const std::string& seed, const std::string& prompt) {
    return run_program({"generate", "--checkpoint", small_run().run(), "--prompt", prompt,
                        "--max-tokens", "12", "--seed", seed});
  };
  const Outcome first = generate("1", "the ");
  EXPECT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(first.out.find("the "), 0U);
  EXPECT_EQ(first.err, "");
  EXPECT_EQ(generate("1", "the ").out, first.out);
  EXPECT_NE(generate("2", "the ").out, first.out);
  EXPECT_EQ(generate("1", "").code, 0) << "an empty prompt starts a document";
  const io::Json line = result({"generate", "--checkpoint", small_run().run(), "--prompt", "the ",
                                "--max-tokens", "12", "--seed", "1", "--json"});
  EXPECT_EQ(keys(line), "text prompt_tokens tokens stop tokens_per_s");
  EXPECT_EQ(line.at("prompt_tokens"), 4);
}

TEST(Program, LogitsAreThoseOfTheModel) {
  const TemporaryFolder folder;
  const std::string ids = (folder / "ids.safetensors").string();
  const std::string out = (folder / "logits.safetensors").string();
  models::write_tensors(ids, {{"ids", at::arange(20, at::kLong).view({2, 10})}});
  const Outcome outcome =
      run_program({"logits", "--checkpoint", small_run().run(), "--ids", ids, "--out", out});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const io::SafetensorsFile file(out);
  ASSERT_NE(file.find("logits"), nullptr);
  EXPECT_EQ(file.find("logits")->dtype, io::DType::kF32);
  EXPECT_EQ(file.find("logits")->shape, (std::vector<std::int64_t>{2, 10, 264}));
}

TEST(Program, InfoCountsAsThePaperDoes) {
  const std::string tokens = "15728640000";  // 30000 * 256 * 2048
  const auto flops = [&](const char* preset) {
    return result({"info", "--preset", preset, "--flops", "--tokens", tokens, "--json"});
  };
  const io::Json line = flops("hyena-153m");
  EXPECT_EQ(keys(line), "parameters flops_per_token training_flops");
  EXPECT_EQ(line.at("parameters"), 153700416);
  // PAPER section 10, row "formula", in units of 1e19, to the printed digits.
  EXPECT_NEAR(line.at("training_flops").get<double>() / 1e19, 1.851, 0.0005);
  EXPECT_NEAR(flops("hyena-355m").at("training_flops").get<double>() / 1e19, 3.863, 0.0005);
  EXPECT_NEAR(flops("gpt-125m").at("training_flops").get<double>() / 1e19, 1.890, 0.0005);
  EXPECT_NEAR(flops("gpt-355m").at("training_flops").get<double>() / 1e19, 4.782, 0.0005);
  EXPECT_EQ(result({"info", "--checkpoint", small_run().run(), "--json"}).size(), 1U);
  EXPECT_EQ(keys(result({"info", "--json"})),
            "version build compiler libtorch cuda cpu threads instruction_sets gpus");
}

TEST(Program, BenchMixerHasTheKeysOfTheDesign) {
  const io::Json line = result({"bench", "mixer", "--lengths", "64", "--channels", "8", "--tokens",
                                "128", "--threads", "1", "--device", "cpu", "--json"});
  EXPECT_EQ(keys(line),
            "bench device device_name dtype batch channels length order threads path forward_ms "
            "forward_backward_ms baseline_forward_ms baseline_forward_backward_ms speedup_forward "
            "speedup_forward_backward copy_gbps bound_forward_ms bound_forward_backward_ms "
            "forward_spread_ms forward_backward_spread_ms rel_error rel_error_grad "
            "baseline_rel_error baseline_rel_error_grad");
  EXPECT_EQ(line.at("batch"), 2);
  // 16 and 44 bytes per element in float32.
  EXPECT_NEAR(line.at("bound_forward_backward_ms").get<double>() /
                  line.at("bound_forward_ms").get<double>(),
              44.0 / 16.0, 1e-9);
  EXPECT_LT(line.at("rel_error"), 1e-6);
}

TEST(Program, BenchLayerStandsBesideAttention) {
  const io::Json line = result({"bench", "layer", "--lengths", "64", "--channels", "8", "--tokens",
                                "64", "--threads", "1", "--device", "cpu", "--json"});
  EXPECT_EQ(keys(line),
            "bench device device_name dtype batch channels length order threads forward_ms "
            "forward_backward_ms forward_spread_ms forward_backward_spread_ms rel_error "
            "attention_sdpa_forward_ms attention_sdpa_forward_backward_ms speedup_sdpa_forward "
            "speedup_sdpa_forward_backward");
  EXPECT_LT(line.at("rel_error"), 1e-5);
}

TEST(Program, HelpAndVersionSucceed) {
  for (const char* flag : {"--help", "--version"}) {
    const Outcome outcome = run_program({flag});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_NE(outcome.out, "");
    EXPECT_EQ(outcome.err, "");
  }
}

}  // namespace
}  // namespace hyena
