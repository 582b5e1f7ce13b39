// hyena info: this build and machine, or a model's size and cost.
#include <cmath>
#include <memory>
#include <optional>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <hwy/targets.h>
#include <torch/version.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/base/version.h"
#include "hyena/cli/app.h"
#include "hyena/cli/commands.h"
#include "hyena/cli/compute.h"
#include "hyena/cli/output.h"
#include "hyena/models/checkpoint.h"
#include "hyena/models/counting.h"
#include "hyena/models/presets.h"

namespace hyena::cli {
namespace {

struct Options {
  std::string checkpoint;
  std::string preset;
  bool flops = false;
  std::optional<double> tokens;
  bool json = false;
};

/// What this CPU offers of what Highway knows, best first.
std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  std::int64_t targets = hwy::SupportedTargets();
  while (targets != 0) {
    const std::int64_t lowest = targets & -targets;  // the better a target, the lower its bit
    names.emplace_back(hwy::TargetName(lowest));
    targets &= targets - 1;
  }
  return names;
}

int print_build(bool json) {
#ifdef HYENA_HAS_CUDA
  constexpr bool kHasCuda = true;
#else
  constexpr bool kHasCuda = false;
#endif
  const std::string cpu = device_name(at::kCPU);
  if (json) {
    print_json({{"version", version()},
                {"build", build_type()},
                {"compiler", compiler()},
                {"libtorch", TORCH_VERSION},
                {"cuda", kHasCuda},
                {"cpu", cpu},
                {"threads", at::get_num_threads()},
                {"instruction_sets", instruction_sets()},
                {"gpus", gpu_names()}});
    return kSuccess;
  }
  const std::vector<std::string> gpus = gpu_names();
  print(fmt::format("hyena {} ({}, {}), LibTorch {}, {}\n", version(), build_type(), compiler(),
                    TORCH_VERSION, kHasCuda ? "with CUDA" : "without CUDA"));
  print(fmt::format("CPU   {}, {} threads\n", cpu, at::get_num_threads()));
  print(fmt::format("      {}\n", fmt::join(instruction_sets(), " ")));
  print(
      fmt::format("GPU   {}\n", gpus.empty() ? "none" : fmt::format("{}", fmt::join(gpus, ", "))));
  return kSuccess;
}

int print_model(const Options& options) {
  const models::ModelConfig config = options.preset.empty()
                                         ? models::find_checkpoint(options.checkpoint).config
                                         : models::preset(options.preset);
  const std::int64_t parameters = models::parameter_count(config);
  const double per_token = models::training_flops(config, 1.0);
  if (options.json) {
    io::Json line{{"parameters", parameters}};
    if (options.flops) {
      line["flops_per_token"] = per_token;
      line["training_flops"] =
          options.tokens ? io::Json(models::training_flops(config, *options.tokens)) : io::Json();
    }
    print_json(line);
    return kSuccess;
  }
  print(fmt::format("{} parameters ({}), {} layers, width {}, length {}, vocabulary {}\n",
                    parameters, human_count(static_cast<double>(parameters)), config.n_layer,
                    config.d_model, config.l_max, config.vocab_size));
  if (options.flops) {
    print(fmt::format("{:.4g} FLOPs per token to train (forward and backward)\n", per_token));
    if (options.tokens) {
      print(fmt::format("{:.4g} FLOPs for {} tokens\n",
                        models::training_flops(config, *options.tokens),
                        human_count(*options.tokens)));
    }
  }
  return kSuccess;
}

int run_info(const Options& options) {
  const bool names_model = !options.checkpoint.empty() || !options.preset.empty();
  if (!names_model && options.flops) {
    throw user_error("--flops: pass the model, --preset or --checkpoint");
  }
  if (options.tokens && !(std::isfinite(*options.tokens) && *options.tokens > 0.0)) {
    throw user_error("--tokens: expected a positive number, got {}", *options.tokens);
  }
  return names_model ? print_model(options) : print_build(options.json);
}

}  // namespace

void add_info(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("info", "This build and machine, or a model's parameters and FLOPs");
  auto* checkpoint = command->add_option("--checkpoint", options->checkpoint,
                                         "Checkpoint or run folder, or a .safetensors file");
  command
      ->add_option("--preset", options->preset,
                   fmt::format("One of {}", fmt::join(models::preset_names(), ", ")))
      ->excludes(checkpoint);
  auto* flops =
      command->add_flag("--flops", options->flops,
                        "Training FLOPs (forward and backward), counted as the paper does");
  command->add_option("--tokens", options->tokens, "... of a training on so many tokens")
      ->needs(flops);
  command->add_flag("--json", options->json, "Print a JSON object");
  command->callback([options, &chosen] { chosen = [options] { return run_info(*options); }; });
}

}  // namespace hyena::cli
