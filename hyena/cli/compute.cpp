#include "hyena/cli/compute.h"

#include <fstream>
#include <limits>

#include <torch/torch.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef HYENA_HAS_CUDA
#include <cuda_runtime_api.h>
#endif

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/models/checkpoint.h"
#include "hyena/models/counting.h"

namespace hyena::cli {
namespace {

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line)) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown CPU";
}

double memory_bytes() {
  return static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<double>(::sysconf(_SC_PAGESIZE));
}

#ifdef HYENA_HAS_CUDA
std::string gpu_name(int index) {
  cudaDeviceProp properties{};
  const cudaError_t status = cudaGetDeviceProperties(&properties, index);
  return status == cudaSuccess ? properties.name : cudaGetErrorString(status);
}
#else
std::string gpu_name(int /*index*/) {
  return "unknown GPU";
}
#endif

}  // namespace

void add_compute_options(CLI::App& command, ComputeOptions& options) {
  command.add_option("--device", options.device, "auto takes a GPU where there is one")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--threads", options.threads, "CPU threads; 0: as many as there are cores")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
}

void keep_freed_memory() {
#ifdef __GLIBC__
  // NOLINTBEGIN(concurrency-mt-unsafe): a command starts with this, before there are threads
  mallopt(M_MMAP_MAX, 0);  // blocks of their own are unmapped when freed
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  // NOLINTEND(concurrency-mt-unsafe)
#endif
}

at::Device prepare(const ComputeOptions& options) {
  if (options.threads > 0) {
    at::set_num_threads(options.threads);
  }
  const bool has_gpu = torch::cuda::is_available();
  if (options.device == "cuda" && !has_gpu) {
#ifdef HYENA_HAS_CUDA
    throw user_error("--device cuda: no usable GPU was found on this machine");
#else
    throw user_error("--device cuda: this program was built without CUDA (scripts/build cuda)");
#endif
  }
  return options.device == "cpu" || !has_gpu ? at::Device(at::kCPU) : at::Device(at::kCUDA, 0);
}

std::string device_name(at::Device device) {
  return device.is_cuda() ? gpu_name(device.index()) : cpu_name();
}

std::vector<std::string> gpu_names() {
  std::vector<std::string> names;
  const auto count = torch::cuda::is_available() ? torch::cuda::device_count() : 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    names.push_back(gpu_name(static_cast<int>(i)));
  }
  return names;
}

models::LanguageModel load_model(const std::string& checkpoint, at::Device device) {
  const models::CheckpointFiles files = models::find_checkpoint(checkpoint);
  check_memory(files.config, sizeof(float));
  models::LanguageModel model = models::load_model(files);
  model->to(device);
  return model;
}

std::unique_ptr<data::Tokenizer> load_tokenizer(const std::string& checkpoint,
                                                const std::string& override) {
  const models::CheckpointFiles files = models::find_checkpoint(checkpoint);
  const std::string& spec = override.empty() ? files.tokenizer : override;
  if (spec.empty()) {
    throw user_error(
        "'{}' names no tokenizer: pass --tokenizer byte, or a folder with vocab.json "
        "and merges.txt",
        checkpoint);
  }
  auto tokenizer = data::load_tokenizer(spec);
  if (tokenizer->vocab_size() != files.config.vocab_size) {
    throw user_error("the tokenizer '{}' has {} entries, but the model in '{}' has {}",
                     tokenizer->name(), tokenizer->vocab_size(), checkpoint,
                     files.config.vocab_size);
  }
  return tokenizer;
}

void check_memory(const models::ModelConfig& config, double bytes_per_parameter) {
  // A first estimate in floating point: parameter_count() is exact, but would overflow for what
  // only a slip of the keyboard asks for.
  const auto D = static_cast<double>(config.d_model);
  const double inner = D * static_cast<double>(config.inner_factor);
  const double layer = D * (static_cast<double>(config.order + 2) * inner +
                            2.0 * static_cast<double>(config.d_inner));
  double parameters = layer * static_cast<double>(config.n_layer);
  if (parameters < 1e15) {
    parameters = static_cast<double>(models::parameter_count(config));
  }
  if (parameters * bytes_per_parameter > memory_bytes()) {
    throw user_error("a model of {} parameters needs {} of memory, this machine has {}",
                     human_count(parameters), human_bytes(parameters * bytes_per_parameter),
                     human_bytes(memory_bytes()));
  }
}

void check_activation_memory(const models::ModelConfig& config, double tokens) {
  const double bytes = tokens * 8.0 * sizeof(float) * static_cast<double>(config.d_model) *
                       static_cast<double>(config.n_layer);
  if (bytes > memory_bytes()) {
    throw user_error(
        "a forward pass of {} tokens needs more than {} of memory, this machine has {}: lower "
        "train.micro_batch_size or model.max_length",
        human_count(tokens), human_bytes(bytes), human_bytes(memory_bytes()));
  }
}

}  // namespace hyena::cli
