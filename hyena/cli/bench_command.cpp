// hyena bench: speed on the user's machine.
#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "hyena/base/error.h"
#include "hyena/cli/app.h"
#include "hyena/cli/bench_layer.h"
#include "hyena/cli/bench_mixer.h"
#include "hyena/cli/commands.h"
#include "hyena/cli/compute.h"
#include "hyena/cli/output.h"

namespace hyena::cli {
namespace {

struct Options {
  std::string dtype = "float32";
  std::vector<std::int64_t> lengths{1024, 4096, 16384};
  std::int64_t channels = 768;
  std::int64_t tokens = 0;  // 0: by device
  std::int64_t order = 2;
  bool json = false;
  ComputeOptions compute;
};

at::ScalarType dtype_of(const std::string& name) {
  return name == "bfloat16"  ? at::kBFloat16
         : name == "float16" ? at::kHalf
         : name == "float64" ? at::kDouble
                             : at::kFloat;
}

void print_header() {
  print(fmt::format("{:>8} {:>6} {:>12} {:>12} {:>9} {:>12} {:>12} {:>9} {:>10} {:>10}\n", "length",
                    "batch", "forward ms", "baseline ms", "speed-up", "fwd+bwd ms", "baseline ms",
                    "speed-up", "error", "grad error"));
}

void print_row(const io::Json& line) {
  const auto number = [&](const char* key) { return line.at(key).get<double>(); };
  print(fmt::format(
      "{:>8} {:>6} {:>12.3f} {:>12.3f} {:>8.2f}x {:>12.3f} {:>12.3f} {:>8.2f}x "
      "{:>10.1e} {:>10.1e}\n",
      line.at("length").get<std::int64_t>(), line.at("batch").get<std::int64_t>(),
      number("forward_ms"), number("baseline_forward_ms"), number("speedup_forward"),
      number("forward_backward_ms"), number("baseline_forward_backward_ms"),
      number("speedup_forward_backward"), number("rel_error"), number("rel_error_grad")));
}

MixerCase case_of(const Options& options, at::Device device, std::int64_t length) {
  constexpr std::int64_t kCpuTokens = 16384;
  constexpr std::int64_t kGpuTokens = 131072;
  const std::int64_t tokens = options.tokens > 0 ? options.tokens
                              : device.is_cuda() ? kGpuTokens
                                                 : kCpuTokens;
  return {.device = device,
          .dtype = dtype_of(options.dtype),
          .batch = std::max<std::int64_t>(1, tokens / length),
          .channels = options.channels,
          .length = length,
          .order = options.order};
}

/// Prints a result, or FAILED and why; true for a result.
bool report(const Options& options, const char* bench, std::int64_t length,
            const std::optional<io::Json>& line, const std::string& failure,
            void (*print_line)(const io::Json&)) {
  if (options.json) {
    print_json(line ? *line : io::Json{{"bench", bench}, {"length", length}, {"result", "FAILED"}});
  } else if (line) {
    print_line(*line);
  } else {
    print(fmt::format("{:>8} FAILED\n", length));
  }
  if (!line) {
    note("FAILED: " + failure);
  }
  flush_stdout();
  return line.has_value();
}

int run_bench_mixer(const Options& options) {
  const at::Device device = prepare(options.compute);
  const double gbps = copy_gbps(device);
  if (!options.json) {
    print(fmt::format("mixer on {}, {}, order {}, {} channels; copy {:.1f} GB/s\n",
                      device_name(device), options.dtype, options.order, options.channels, gbps));
    print_header();
  }
  bool has_failed = false;
  for (const std::int64_t length : options.lengths) {
    std::string failure;
    const auto line = bench_mixer(case_of(options, device, length), gbps, failure);
    has_failed |= !report(options, "mixer", length, line, failure, print_row);
  }
  return has_failed ? kRunFailed : kSuccess;
}

void print_layer(const io::Json& line) {
  std::string text = fmt::format(
      "{:>8} {:>6} {:>12.3f} {:>12.3f} {:>10.1e}", line.at("length").get<std::int64_t>(),
      line.at("batch").get<std::int64_t>(), line.at("forward_ms").get<double>(),
      line.at("forward_backward_ms").get<double>(), line.at("rel_error").get<double>());
  for (const auto& [key, value] : line.items()) {
    if (key.starts_with("attention_")) text += fmt::format(" {:>12.3f}", value.get<double>());
    if (key.starts_with("speedup_")) text += fmt::format(" {:>8.2f}x", value.get<double>());
  }
  print(text + "\n");
}

void print_layer_header(const std::vector<std::string>& kernels) {
  std::string text = fmt::format("{:>8} {:>6} {:>12} {:>12} {:>10}", "length", "batch",
                                 "forward ms", "fwd+bwd ms", "error");
  for (const std::string& kernel : kernels) {
    text += fmt::format(" {:>12} {:>12} {:>9} {:>9}", kernel + " fwd", kernel + " f+b", "speed-up",
                        "speed-up");
  }
  print(text + "\n");
}

int run_bench_layer(const Options& options) {
  const at::Device device = prepare(options.compute);
  if (!options.json) {
    print(fmt::format("layers on {}, {}, order {}, {} channels, beside attention\n",
                      device_name(device), options.dtype, options.order, options.channels));
    print_layer_header(attention_kernels(case_of(options, device, 1)));
  }
  bool has_failed = false;
  for (const std::int64_t length : options.lengths) {
    const MixerCase many = case_of(options, device, length);
    for (const std::int64_t batch : std::set<std::int64_t>{1, many.batch}) {
      MixerCase layer = many;
      layer.batch = batch;
      std::string failure;
      const auto line = bench_layer(layer, failure);
      has_failed |= !report(options, "layer", length, line, failure, print_layer);
    }
  }
  return has_failed ? kRunFailed : kSuccess;
}

/// What `bench mixer` and `bench layer` share.
void add_options(CLI::App& command, Options& options, const std::set<std::string>& dtypes) {
  const auto size = CLI::Range(std::int64_t{1}, std::int64_t{1} << 32);
  command.add_option("--dtype", options.dtype, "Of the activations")
      ->check(CLI::IsMember(dtypes))
      ->capture_default_str();
  command.add_option("--lengths", options.lengths, "Sequence lengths, separated by commas")
      ->delimiter(',')
      ->check(size)
      ->capture_default_str();
  command.add_option("--channels", options.channels, "Channels D")
      ->check(size)
      ->capture_default_str();
  command
      .add_option("--tokens", options.tokens,
                  "Tokens of a batch: batch = max(1, tokens / length); default 16384 on the "
                  "CPU, 131072 on a GPU")
      ->check(size);
  command.add_option("--order", options.order, "Order N of the operator, safari mode")
      ->check(CLI::Range(2, 64))
      ->capture_default_str();
  command.add_flag("--json", options.json, "Print one JSON object per length");
  add_compute_options(command, options.compute);
}

}  // namespace

void add_bench(CLI::App& app, Command& chosen) {
  CLI::App* bench = app.add_subcommand("bench", "Measure on this machine");
  bench->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, const std::set<std::string>& dtypes,
                       int (*run)(const Options&)) {
    auto options = std::make_shared<Options>();
    CLI::App* command = bench->add_subcommand(name, what);
    add_options(*command, *options, dtypes);
    command->callback([=, &chosen] { chosen = [=] { return run(*options); }; });
  };
  add("mixer", "The Hyena mixer against its composition in LibTorch; verified before it is timed",
      {"float32", "bfloat16", "float16", "float64"}, run_bench_mixer);
  add("layer",
      "A Hyena layer with its projections and filters against attention layers of the same width; "
      "one sequence, and a batch of --tokens",
      {"float32", "bfloat16"}, run_bench_layer);
}

}  // namespace hyena::cli
