// hyena eval: how well a model predicts texts.
#include <cmath>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/cli/app.h"
#include "hyena/cli/commands.h"
#include "hyena/cli/compute.h"
#include "hyena/cli/output.h"
#include "hyena/data/corpus.h"
#include "hyena/data/ngram.h"
#include "hyena/eval/perplexity.h"

namespace hyena::cli {
namespace {

struct Options {
  std::string checkpoint;
  std::vector<std::string> texts;
  std::vector<std::string> tokens;
  std::string tokenizer;
  std::int64_t stride = 0;
  std::int64_t batch_size = 8;
  std::vector<std::string> ngrams;
  bool json = false;
  ComputeOptions compute;
};

io::Json to_json(const eval::Score& score, std::int64_t bytes) {
  return {{"tokens", score.tokens},
          {"bytes", bytes},
          {"nll", score.nll},
          {"perplexity", score.perplexity()},
          {"bits_per_byte", score.bits_per_byte(bytes)},
          {"accuracy", score.accuracy}};
}

int run_eval(const Options& options) {
  if (options.texts.empty() == options.tokens.empty()) {
    throw user_error("pass what to score: either --text or --tokens");
  }
  const at::Device device = prepare(options.compute);
  const auto tokenizer = load_tokenizer(options.checkpoint, options.tokenizer);
  Progress progress;
  data::CorpusOptions corpus_options;
  corpus_options.end_of_text = data::EndOfText::kNone;
  corpus_options.progress = [&](const std::string& file, std::int64_t done, std::int64_t total) {
    progress.update(done, total, "tokenising " + file);
  };
  data::CorpusOptions scored = corpus_options;
  scored.token_files = options.texts.empty();
  const auto corpus =
      data::open_corpus(scored.token_files ? options.tokens : options.texts, *tokenizer, scored);
  models::LanguageModel model = load_model(options.checkpoint, device);
  const std::int64_t L = model->config().l_max;
  const data::EvalWindows windows(corpus, L, options.stride > 0 ? options.stride : L);
  const eval::Score score = eval::score(model, windows,
                                        {.batch_size = options.batch_size,
                                         .max_windows = 0,
                                         .progress = [&](std::int64_t done, std::int64_t total) {
                                           progress.update(done, total, "windows scored");
                                         }});
  if (!std::isfinite(score.nll)) {
    throw run_error("{}: the model's loss is {}: its weights or its outputs overflow",
                    options.checkpoint, score.nll);
  }
  std::optional<data::NgramBits> ngrams;
  if (!options.ngrams.empty()) {
    ngrams = data::ngram_bits_per_byte(
        *data::open_corpus(options.ngrams, *tokenizer, corpus_options), *corpus);
  }

  const std::int64_t bytes = corpus->num_bytes();
  if (options.json) {
    io::Json line = to_json(score, bytes);
    if (ngrams) {
      line["unigram_bits_per_byte"] = ngrams->unigram;
      line["bigram_bits_per_byte"] = ngrams->bigram;
      line["trigram_bits_per_byte"] = ngrams->trigram;
    }
    print_json(line);
    return kSuccess;
  }
  print(
      fmt::format("{} tokens, {} bytes: nll {:.4f}, perplexity {:.3f}, {:.4f} bits per byte, "
                  "accuracy {:.1f} %\n",
                  score.tokens, bytes, score.nll, score.perplexity(), score.bits_per_byte(bytes),
                  100.0 * score.accuracy));
  if (ngrams) {
    print(
        fmt::format("counting alone, bits per byte: unigrams {:.4f}, bigrams {:.4f}, trigrams "
                    "{:.4f}\n",
                    ngrams->unigram, ngrams->bigram, ngrams->trigram));
  }
  return kSuccess;
}

}  // namespace

void add_eval(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("eval", "Score texts: perplexity, bits per byte, accuracy");
  command
      ->add_option("--checkpoint", options->checkpoint,
                   "Checkpoint or run folder, or a .safetensors file with its config")
      ->required();
  command->add_option("--text", options->texts, "Text files or globs");
  command->add_option("--tokens", options->tokens, "Token files (hyena tokenize)");
  command->add_option("--tokenizer", options->tokenizer,
                      "byte or a folder, where the checkpoint names none");
  command
      ->add_option("--stride", options->stride,
                   "Targets scored per window; smaller: more context; default: model length")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  command->add_option("--batch-size", options->batch_size, "Windows at a time")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command->add_option("--ngrams", options->ngrams,
                      "Texts whose n-gram counts are scored beside the model");
  command->add_flag("--json", options->json, "Print a JSON object");
  add_compute_options(*command, options->compute);
  command->callback([options, &chosen] { chosen = [options] { return run_eval(*options); }; });
}

}  // namespace hyena::cli
