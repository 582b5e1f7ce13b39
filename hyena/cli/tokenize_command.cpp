// hyena tokenize: texts to a token file.
#include <memory>

#include <fmt/format.h>

#include "hyena/base/error.h"
#include "hyena/cli/app.h"
#include "hyena/cli/commands.h"
#include "hyena/cli/output.h"
#include "hyena/data/corpus.h"
#include "hyena/data/token_file.h"

namespace hyena::cli {
namespace {

struct Options {
  std::string tokenizer;
  std::vector<std::string> texts;
  std::string out;
  bool no_end_of_text = false;
  bool json = false;
};

int run_tokenize(const Options& options) {
  const auto tokenizer = data::load_tokenizer(options.tokenizer);
  if (!options.out.ends_with(".tokens")) {
    throw user_error("--out: expected a name that ends in .tokens, got {}", options.out);
  }
  const std::vector<std::string> files = data::expand_globs(options.texts);
  refuse_overwriting(options.out, files);
  const std::vector<std::filesystem::path> texts(files.begin(), files.end());
  Progress progress;
  data::tokenize_files(
      *tokenizer, texts, options.out,
      options.no_end_of_text ? data::EndOfText::kNone : data::EndOfText::kAfterEveryDocument,
      [&](std::int64_t done, std::int64_t total) { progress.update(done, total, "bytes"); });
  const data::TokenFile file(options.out);
  if (options.json) {
    print_json({{"out", options.out},
                {"tokens", file.size()},
                {"bytes", file.text_bytes()},
                {"documents", file.documents().size()},
                {"tokenizer", file.tokenizer_name()},
                {"vocabulary", file.vocab_size()}});
  } else {
    print(fmt::format("{}: {} tokens of {} bytes in {} documents ({})\n", options.out, file.size(),
                      file.text_bytes(), file.documents().size(), file.tokenizer_name()));
  }
  return kSuccess;
}

}  // namespace

void add_tokenize(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("tokenize", "Turn texts into a token file");
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "byte, or a folder with vocab.json and merges.txt")
      ->required();
  command->add_option("--text", options->texts, "Text files or globs, each file a document")
      ->required();
  command->add_option("--out", options->out, "Token file to write, *.tokens")->required();
  command->add_flag("--no-end-of-text", options->no_end_of_text,
                    "Do not end every document with the end-of-text token");
  command->add_flag("--json", options->json, "Print the counts as a JSON object");
  command->callback([options, &chosen] { chosen = [options] { return run_tokenize(*options); }; });
}

}  // namespace hyena::cli
