// hyena logits: the forward pass, for comparing with other implementations.
#include <memory>

#include <fmt/format.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/cli/app.h"
#include "hyena/cli/commands.h"
#include "hyena/cli/compute.h"
#include "hyena/cli/output.h"
#include "hyena/models/tensor_file.h"

namespace hyena::cli {
namespace {

struct Options {
  std::string checkpoint;
  std::string ids;
  std::string out;
  bool json = false;
  ComputeOptions compute;
};

at::Tensor read_ids(const std::string& path, const models::ModelConfig& config) {
  const io::SafetensorsFile file(path);
  const io::TensorView* view = file.find("ids");
  if (view == nullptr) {
    throw user_error("{}: expected a tensor 'ids', found none", path);
  }
  at::Tensor ids_BL = models::to_tensor(*view);
  if (ids_BL.scalar_type() != at::kLong || ids_BL.dim() != 2 || ids_BL.numel() == 0) {
    throw user_error("{}: ids: expected int64 of shape (B, L), got {} of shape {}", path,
                     io::dtype_name(view->dtype), c10::str(ids_BL.sizes()));
  }
  const auto [low, high] = at::aminmax(ids_BL);
  for (const auto id : {low.item<std::int64_t>(), high.item<std::int64_t>()}) {
    if (id < 0 || id >= config.padded_vocab_size()) {
      throw user_error("{}: ids: expected values from 0 to {}, got {}", path,
                       config.padded_vocab_size() - 1, id);
    }
  }
  return ids_BL;
}

int run_logits(const Options& options) {
  refuse_overwriting(options.out, {options.ids});
  const at::Device device = prepare(options.compute);
  models::LanguageModel model = load_model(options.checkpoint, device);
  const at::Tensor ids_BL = read_ids(options.ids, model->config());
  const torch::InferenceMode no_grad;
  const at::Tensor logits_BLV = model->forward(ids_BL.to(device)).to(at::kFloat);
  models::write_tensors(options.out, {{"logits", logits_BLV}});
  if (options.json) {
    print_json({{"out", options.out},
                {"batch", logits_BLV.size(0)},
                {"length", logits_BLV.size(1)},
                {"vocabulary", logits_BLV.size(2)}});
  } else {
    print(fmt::format("{}: logits {}\n", options.out, c10::str(logits_BLV.sizes())));
  }
  return kSuccess;
}

}  // namespace

void add_logits(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("logits", "Forward pass of token ids to a file of logits");
  command
      ->add_option("--checkpoint", options->checkpoint,
                   "Checkpoint or run folder, or a .safetensors file with its config")
      ->required();
  command->add_option("--ids", options->ids, "Safetensors file with int64 ids (B, L)")->required();
  command->add_option("--out", options->out, "Safetensors file for float32 logits (B, L, V)")
      ->required();
  command->add_flag("--json", options->json, "Print the shape as a JSON object");
  add_compute_options(*command, options->compute);
  command->callback([options, &chosen] { chosen = [options] { return run_logits(*options); }; });
}

}  // namespace hyena::cli
