// hyena generate: continues a prompt.
#include <algorithm>
#include <chrono>
#include <memory>

#include <fmt/format.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/cli/app.h"
#include "hyena/cli/commands.h"
#include "hyena/cli/compute.h"
#include "hyena/cli/output.h"
#include "hyena/generate/decode.h"
#include "hyena/io/mapped_file.h"

namespace hyena::cli {
namespace {

struct Options {
  std::string checkpoint;
  std::string prompt;
  std::string prompt_file;
  std::string tokenizer;
  std::int64_t max_tokens = 0;  // 0: not given
  generate::SamplerOptions sampler;
  bool json = false;
  ComputeOptions compute;
};

std::string read_prompt(const Options& options) {
  const bool is_file = !options.prompt_file.empty();
  std::string prompt =
      is_file ? std::string(io::MappedFile(options.prompt_file).text()) : options.prompt;
  if (!is_utf8(prompt)) {
    throw user_error("{}: expected UTF-8 text, got other bytes",
                     is_file ? options.prompt_file : "--prompt");
  }
  return prompt;
}

/// The prompt's ids. An empty one starts behind an end of text, where a document begins.
std::vector<std::int64_t> prompt_ids(const data::Tokenizer& tokenizer, const std::string& prompt) {
  const std::vector<std::uint32_t> encoded = tokenizer.encode(prompt);
  std::vector<std::int64_t> ids(encoded.begin(), encoded.end());
  if (ids.empty() && tokenizer.end_of_text()) {
    ids.push_back(*tokenizer.end_of_text());
  }
  return ids;
}

std::string_view name_of(generate::Stop stop) {
  return stop == generate::Stop::kEndToken ? "end_of_text" : "max_tokens";
}

int run_generate(const Options& options) {
  const std::string prompt = read_prompt(options);
  const at::Device device = prepare(options.compute);
  const auto tokenizer = load_tokenizer(options.checkpoint, options.tokenizer);
  models::LanguageModel model = load_model(options.checkpoint, device);
  const std::vector<std::int64_t> ids = prompt_ids(*tokenizer, prompt);
  const auto n = static_cast<std::int64_t>(ids.size());
  constexpr std::int64_t kDefaultTokens = 256;
  generate::DecodeOptions decode{
      .max_tokens = options.max_tokens > 0
                        ? options.max_tokens
                        : std::clamp<std::int64_t>(model->config().l_max - n, 1, kDefaultTokens),
      .end_token = {},
      .sampler = options.sampler};
  if (tokenizer->end_of_text()) {
    decode.end_token = *tokenizer->end_of_text();
  }

  data::Utf8Streamer streamer;
  std::string text;
  std::int64_t count = 0;
  const auto start = std::chrono::steady_clock::now();
  const auto hand_out = [&](const std::string& piece) {
    text += piece;
    if (!options.json) {
      print(piece);
      flush_stdout();
    }
  };
  const auto on_token = [&](std::int64_t id) {
    if (count++ == 0 && !options.json) {
      print(prompt);  // here, so that a refused request prints nothing
    }
    const auto token = static_cast<std::uint32_t>(id);
    hand_out(streamer.push(tokenizer->decode({&token, 1})));
    return true;
  };
  const generate::Stop stop = generate::decode(model, ids, decode, on_token);
  hand_out(streamer.finish());
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (options.json) {
    print_json({{"text", text},
                {"prompt_tokens", n},
                {"tokens", count},
                {"stop", name_of(stop)},
                {"tokens_per_s", static_cast<double>(count) / seconds}});
  } else {
    print("\n");
  }
  return kSuccess;
}

}  // namespace

void add_generate(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("generate", "Continue a prompt; prints the prompt and what follows");
  command
      ->add_option("--checkpoint", options->checkpoint,
                   "Checkpoint or run folder, or a .safetensors file with its config")
      ->required();
  auto* prompt = command->add_option("--prompt", options->prompt,
                                     "Text to continue; empty: the start of a document");
  command->add_option("--prompt-file", options->prompt_file, "File with the text to continue")
      ->excludes(prompt);
  command
      ->add_option("--max-tokens", options->max_tokens,
                   "Tokens to add; default 256, or what the model's length leaves")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  command->add_option("--temperature", options->sampler.temperature, "0: always the likeliest")
      ->capture_default_str();
  command->add_option("--top-k", options->sampler.top_k, "Only the k likeliest; 0: all")
      ->capture_default_str();
  command->add_option("--top-p", options->sampler.top_p, "Only the likeliest with this probability")
      ->capture_default_str();
  command->add_option("--seed", options->sampler.seed, "The same seed gives the same text")
      ->check([](const std::string& seed) {  // the parser would add 2^64
        return seed.starts_with("-") ? "expected a number of at least 0, got " + seed
                                     : std::string();
      })
      ->capture_default_str();
  command->add_option("--tokenizer", options->tokenizer,
                      "byte or a folder, where the checkpoint names none");
  command->add_flag("--json", options->json, "Print one JSON object at the end");
  add_compute_options(*command, options->compute);
  command->callback([options, &chosen] { chosen = [options] { return run_generate(*options); }; });
}

}  // namespace hyena::cli
