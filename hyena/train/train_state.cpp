#include "hyena/train/train_state.h"

#include <utility>
#include <vector>

#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/io/atomic_file.h"
#include "hyena/io/field_reader.h"
#include "hyena/models/checkpoint.h"

namespace hyena::train {
namespace fs = std::filesystem;
namespace {

io::Json to_json(const std::optional<Evaluation>& evaluation) {
  if (!evaluation) {
    return nullptr;
  }
  return {{"step", evaluation->step},
          {"nll", evaluation->score.nll},
          {"tokens", evaluation->score.tokens},
          {"accuracy", evaluation->score.accuracy}};
}

std::optional<Evaluation> read_evaluation(io::FieldReader& fields, const char* key) {
  const io::Json* json = fields.find(key);
  if (json == nullptr || json->is_null()) {
    return std::nullopt;
  }
  io::FieldReader evaluation = fields.section(key);
  Evaluation result;
  evaluation.read("step", result.step);
  evaluation.read("nll", result.score.nll);
  evaluation.read("tokens", result.score.tokens);
  evaluation.read("accuracy", result.score.accuracy);
  evaluation.finish();
  return result;
}

/// The generators that a run draws from.
std::vector<std::pair<std::string, at::Generator>> generators(at::Device device) {
  std::vector<std::pair<std::string, at::Generator>> all{
      {"rng.cpu", at::globalContext().defaultGenerator(at::kCPU)}};
  if (device.is_cuda()) {
    all.emplace_back("rng.cuda", at::globalContext().defaultGenerator(device));
  }
  return all;
}

at::Tensor stored(const io::SafetensorsFile& file, const std::string& name) {
  const io::TensorView* view = file.find(name);
  if (view == nullptr) {
    throw user_error("{}: tensor '{}' is missing", file.path().string(), name);
  }
  return models::to_tensor(*view);
}

/// Another architecture's weights may well fit by name and shape; the settings tell.
void check_same_model(const models::ModelConfig& mine, const models::ModelConfig& theirs,
                      const fs::path& checkpoint) {
  const io::Json expected = models::to_json(mine);
  const io::Json found = models::to_json(theirs);
  for (const auto& [key, value] : expected.items()) {
    if (found.at(key) != value) {
      throw user_error("--resume: model.{} is {} in this configuration, but {} in {}", key,
                       value.dump(), found.at(key).dump(), checkpoint.string());
    }
  }
}

}  // namespace

io::Json to_json(const TrainState& state) {
  const auto number = [](const std::optional<double>& value) {
    return value ? io::Json(*value) : io::Json(nullptr);
  };
  return {{"step", state.step},
          {"tokens", state.tokens},
          {"seconds", state.seconds},
          {"step_seconds", state.step_seconds},
          {"last_loss", number(state.last_loss)},
          {"lowest_loss", number(state.lowest_loss)},
          {"last_evaluation", to_json(state.last)},
          {"best_evaluation", to_json(state.best)},
          {"loader", state.loader}};
}

TrainState read_train_state(const io::Json& json, const std::string& what) {
  try {
    TrainState state;
    io::FieldReader fields(json, "");
    fields.read("step", state.step, io::IntegerRange{.min = 0});
    fields.read("tokens", state.tokens, io::IntegerRange{.min = 0});
    fields.read("seconds", state.seconds);
    fields.read("step_seconds", state.step_seconds);
    fields.read("last_loss", state.last_loss);
    fields.read("lowest_loss", state.lowest_loss);
    state.last = read_evaluation(fields, "last_evaluation");
    state.best = read_evaluation(fields, "best_evaluation");
    const io::Json* loader = fields.find("loader");
    if (loader == nullptr) {
      throw user_error("loader: missing");
    }
    state.loader = *loader;
    fields.finish();
    return state;
  } catch (const UserError& error) {
    throw user_error("{}: {}", what, error.what());
  }
}

void save_checkpoint(const Checkpointed& run, const data::Tokenizer& tokenizer,
                     const fs::path& target) {
  io::AtomicDirectory folder(target);
  models::save_model(run.model, tokenizer.name(), folder.path());
  tokenizer.save(folder.path());
  std::vector<models::NamedTensor> tensors = run.optimizer.named_state();
  for (const auto& [name, generator] : generators(run.device)) {
    tensors.push_back({name, generator.get_state()});
  }
  tensors.push_back({"pending", run.pending.empty() ? at::empty({0, 2}) : at::stack(run.pending)});
  models::write_tensors(folder.path() / "train_state.safetensors", tensors);
  io::write_file_atomically(folder.path() / "train_state.json", to_json(run.state).dump(2) + "\n");
  folder.commit();
}

void load_checkpoint(Checkpointed run, const fs::path& checkpoint) {
  const torch::NoGradGuard no_grad;
  const models::CheckpointFiles files = models::find_checkpoint(checkpoint);
  check_same_model(run.model->config(), files.config, checkpoint);
  models::load_state(run.model, io::SafetensorsFile(files.weights));
  const io::SafetensorsFile tensors(checkpoint / "train_state.safetensors");
  run.optimizer.load_state(tensors);
  for (auto [name, generator] : generators(run.device)) {
    if (tensors.find(name) != nullptr) {  // a run that moves to a GPU has no state for it
      generator.set_state(stored(tensors, name));
    }
  }
  run.pending = stored(tensors, "pending").to(run.device).unbind();
  const fs::path json = checkpoint / "train_state.json";
  run.state = read_train_state(io::read_json(json), json.string());
}

}  // namespace hyena::train
