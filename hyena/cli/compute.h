// What every computing subcommand shares: device, threads, the model it works with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <c10/core/Device.h>

#include "hyena/data/tokenizer.h"
#include "hyena/models/language_model.h"

namespace hyena::cli {

struct ComputeOptions {
  std::string device = "auto";
  int threads = 0;  ///< 0: LibTorch's choice
};

void add_compute_options(CLI::App& command, ComputeOptions& options);

/// Sets the number of threads and returns the device; "auto" takes a GPU where there is one.
/// @throws UserError for "cuda" without a usable GPU, saying whether build or machine lacks it.
[[nodiscard]] at::Device prepare(const ComputeOptions& options);

/// Keeps freed memory in the process. A training step frees and takes the same hundreds of
/// megabytes again; returned to the system they cost a page fault per 4 KiB, a sixth of a small
/// model's step.
void keep_freed_memory();

/// "Intel(R) Xeon(R) ...", "NVIDIA H100 ..."
[[nodiscard]] std::string device_name(at::Device device);
/// Names of the visible GPUs; empty in a build without CUDA.
[[nodiscard]] std::vector<std::string> gpu_names();

/// Loads the model of a checkpoint onto the device.
/// @throws UserError if there is none, it is damaged, or larger than the machine's memory.
[[nodiscard]] models::LanguageModel load_model(const std::string& checkpoint, at::Device device);

/// The tokenizer that a checkpoint names, or `override` where that is not empty.
/// @throws UserError if neither names one, or its vocabulary is not the model's.
[[nodiscard]] std::unique_ptr<data::Tokenizer> load_tokenizer(const std::string& checkpoint,
                                                              const std::string& override);

/// @throws UserError if a model of this configuration, at `bytes_per_parameter`, needs more memory
///   than the machine has. Linux would let it start and kill it later.
void check_memory(const models::ModelConfig& config, double bytes_per_parameter);

/// The same for a forward and backward pass of `tokens` on the CPU, by a low estimate: eight values
/// of the stream's width per layer.
void check_activation_memory(const models::ModelConfig& config, double tokens);

}  // namespace hyena::cli
