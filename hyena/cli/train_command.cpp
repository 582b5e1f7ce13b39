// hyena train: the run itself is hyena/train; here are its options and what it says.
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/cli/app.h"
#include "hyena/cli/commands.h"
#include "hyena/cli/compute.h"
#include "hyena/cli/output.h"
#include "hyena/cli/stop_signals.h"
#include "hyena/io/toml.h"
#include "hyena/models/counting.h"
#include "hyena/train/trainer.h"

namespace hyena::cli {
namespace {

struct Options {
  std::string config;
  std::vector<std::string> overrides;
  std::string out;
  std::string resume;
  bool json = false;
  ComputeOptions compute;
};

class Reporter final : public train::Observer {
 public:
  void on_start(std::int64_t step, std::int64_t max_steps) override {
    max_steps_ = max_steps;
    if (step > 0) {
      note(fmt::format("resuming after step {} of {}", step, max_steps));
    }
  }
  void on_step(std::int64_t step) override {
    if (is_terminal()) {
      progress_.update(step, max_steps_, text_);
    }
  }
  void on_log(const train::LogEntry& entry) override {
    text_ = fmt::format("loss {:.4f}  lr {:.2e}  {} tokens/s  ETA {}", entry.loss, entry.lr,
                        human_count(entry.tokens_per_s), human_duration(entry.seconds_left));
    progress_.update(entry.step, max_steps_, text_);
  }
  void on_evaluation(std::int64_t step, const eval::Score& score) override {
    note(fmt::format("step {}: valid loss {:.4f}, perplexity {:.3f}, accuracy {:.1f} %", step,
                     score.nll, score.perplexity(), 100.0 * score.accuracy));
  }
  bool stop_requested() override {
    if (StopSignals::received() != 0 && !told_) {
      note("stopping: saving the state (once more to stop at once)");
      told_ = true;
    }
    return told_;
  }

 private:
  std::int64_t max_steps_ = 0;
  std::string text_;
  Progress progress_;
  bool told_ = false;
};

/// The configuration of the command line; without --config that of the run to be resumed.
train::RunConfig read_config(const Options& options) {
  io::Json config = io::Json::object();
  const std::filesystem::path saved = std::filesystem::path(options.out) / "config.toml";
  if (!options.config.empty()) {
    config = io::read_toml(options.config);
  } else if (!options.resume.empty() && std::filesystem::exists(saved)) {
    config = io::read_toml(saved);
  }
  for (const std::string& assignment : options.overrides) {
    io::apply_override(config, assignment);
  }
  return train::read_run_config(config);
}

void print_result(const train::TrainResult& result, bool json) {
  const train::TrainState& state = result.state;
  const auto number = [](const std::optional<double>& value) {
    return value ? io::Json(*value) : io::Json(nullptr);
  };
  std::optional<eval::Score> valid;
  if (state.last) {
    valid = state.last->score;
  }
  if (json) {
    print_json({{"step", state.step},
                {"train_loss", number(state.last_loss)},
                {"valid_loss", valid ? io::Json(valid->nll) : io::Json(nullptr)},
                {"valid_perplexity", valid ? io::Json(valid->perplexity()) : io::Json(nullptr)},
                {"valid_accuracy", valid ? io::Json(valid->accuracy) : io::Json(nullptr)},
                {"tokens_per_s", result.tokens_per_s()}});
    return;
  }
  print(fmt::format("step {}: train loss {}{}, {} tokens/s\n", state.step,
                    state.last_loss ? fmt::format("{:.4f}", *state.last_loss) : "-",
                    valid ? fmt::format(", valid loss {:.4f}, perplexity {:.3f}, accuracy {:.1f} %",
                                        valid->nll, valid->perplexity(), 100.0 * valid->accuracy)
                          : "",
                    human_count(result.tokens_per_s())));
}

int run_train(const Options& options) {
  keep_freed_memory();
  const at::Device device = prepare(options.compute);
  train::RunConfig config = read_config(options);
  const train::RunFolder folder(options.out);
  const auto checkpoint = folder.checkpoint_to_resume(options.resume);
  Progress tokenizing;
  train::TrainData data = train::open_data(
      config, {.cache_folder = {},
               .end_of_text = {},
               .progress = [&](const std::string& file, std::int64_t done, std::int64_t total) {
                 tokenizing.update(done, total, "tokenising " + file);
               }});
  constexpr double kTrainingBytes = 16.0;  // weight, gradient and two moments in float32
  check_memory(config.model, kTrainingBytes);
  if (device.is_cpu()) {
    check_activation_memory(config.model, static_cast<double>(config.micro_batch_size()) *
                                              static_cast<double>(config.model.l_max));
  }
  note(fmt::format(
      "{} parameters, {} tokens to train on{}, {} with {} threads",
      human_count(static_cast<double>(models::parameter_count(config.model))),
      human_count(static_cast<double>(data.train->num_tokens())),
      data.valid
          ? fmt::format(", {} to score", human_count(static_cast<double>(data.valid->num_tokens())))
          : "",
      device.is_cuda() ? device_name(device) : "CPU", at::get_num_threads()));

  train::Trainer trainer(config, std::move(data), device, options.out);
  if (checkpoint) {
    trainer.resume(*checkpoint);
  }
  const StopSignals signals;
  Reporter reporter;
  const train::TrainResult result = trainer.run(reporter);
  end_progress_line();
  if (!result.finished) {
    note(fmt::format("stopped after step {}; continue with: hyena train --out '{}' --resume auto",
                     result.state.step, options.out));
    return kInterrupted + StopSignals::received();
  }
  if (result.state.best) {
    note(fmt::format("best valid loss {:.4f} at step {}", result.state.best->score.nll,
                     result.state.best->step));
  }
  print_result(result, options.json);
  return kSuccess;
}

}  // namespace

void add_train(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("train", "Train a language model on texts");
  command->add_option("--config", options->config,
                      "TOML file (docs/guide/config.md); resuming without one takes the run's own");
  command->add_option("--set", options->overrides, "Override a setting: --set train.max_steps=100")
      ->allow_extra_args(false)
      ->take_all();
  command->add_option("--out", options->out, "Folder of the run")->required();
  command->add_option("--resume", options->resume,
                      "auto: go on from the newest checkpoint of --out, or start; or a checkpoint");
  command->add_flag("--json", options->json, "Print the result as a JSON object");
  add_compute_options(*command, options->compute);
  command->callback([options, &chosen] { chosen = [options] { return run_train(*options); }; });
}

}  // namespace hyena::cli
