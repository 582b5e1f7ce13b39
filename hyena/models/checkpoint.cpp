#include "hyena/models/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include <fmt/format.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/io/atomic_file.h"

namespace hyena::models {
namespace fs = std::filesystem;
namespace {

constexpr const char* kEmbedding = "backbone.embeddings.word_embeddings.weight";

std::map<std::string, at::Tensor> state_of(const LanguageModel& model) {
  std::map<std::string, at::Tensor> state;
  for (const auto& entry : model->named_parameters()) {
    state.emplace(entry.key(), entry.value());
  }
  for (const auto& entry : model->named_buffers()) {
    state.emplace(entry.key(), entry.value());
  }
  return state;
}

/// "....implicit_filter.3.freq" is "....implicit_filter.1.freq": one tensor under three names.
std::string canonical(const std::string& name) {
  const std::size_t dot = name.rfind(".freq");
  const std::size_t mlp = name.rfind("implicit_filter.");
  if (dot != std::string::npos && mlp != std::string::npos && dot + 5 == name.size()) {
    return name.substr(0, mlp) + "implicit_filter.1.freq";
  }
  return name == "lm_head.weight" ? std::string(kEmbedding) : name;
}

/// Buffers that are computed when the file does not have them.
bool can_be_recomputed(const std::string& name) {
  return name.ends_with(".pos_emb.z") || name.ends_with(".pos_emb.t") ||
         name.ends_with(".modulation.deltas");
}

ModelConfig parse_config(const io::Json& json, const std::string& what, std::string& tokenizer) {
  ModelConfig config;
  io::FieldReader fields(json, "");
  try {
    read_model_fields(fields, config);
    fields.read("tokenizer", tokenizer);
    // Facts that published configs state and that hold for every model of ours.
    bool tied = true;
    fields.read("tied_lm_head", tied);
    if (!tied) {
      throw user_error("tied_lm_head: only true is supported, got false");
    }
    for (const char* note : {"mlp", "loss"}) {
      fields.ignore(note);
    }
    fields.finish();
  } catch (const UserError& error) {
    throw user_error("{}: {}", what, error.what());
  }
  return config;
}

fs::path newest_step(const fs::path& checkpoints) {
  fs::path best;
  std::int64_t best_step = -1;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step-")) {
      continue;
    }
    std::int64_t step = -1;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + 5, end, step);
    if (parsed.ec == std::errc() && parsed.ptr == end && step > best_step) {
      best_step = step;
      best = entry.path();
    }
  }
  return best;
}

}  // namespace

CheckpointFiles find_checkpoint(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    throw user_error("checkpoint '{}' does not exist", path.string());
  }
  CheckpointFiles files;
  if (!fs::is_directory(path)) {
    const io::SafetensorsFile file(path);
    const auto config = file.metadata().find("config");
    if (config == file.metadata().end()) {
      throw user_error(
          "'{}' has no 'config' in its metadata: pass a checkpoint directory with "
          "config.json and model.safetensors",
          path.string());
    }
    const std::string what = path.string() + " (metadata config)";
    files.config = parse_config(io::parse_json(config->second, what), what, files.tokenizer);
    files.weights = path;
    return files;
  }
  fs::path folder = path;
  if (!fs::exists(folder / "config.json") && fs::is_directory(folder / "checkpoints")) {
    folder = newest_step(folder / "checkpoints");
    if (folder.empty()) {
      throw user_error("'{}' has no checkpoint yet (checkpoints/step-N)", path.string());
    }
  }
  for (const char* name : {"config.json", "model.safetensors"}) {
    if (!fs::exists(folder / name)) {
      throw user_error("'{}' is no checkpoint directory: it has no {}", folder.string(), name);
    }
  }
  const fs::path config = folder / "config.json";
  files.config = parse_config(io::read_json(config), config.string(), files.tokenizer);
  files.weights = folder / "model.safetensors";
  if (!files.tokenizer.empty() && files.tokenizer != "byte") {
    files.tokenizer = folder.string();  // its files lie in the checkpoint
  }
  return files;
}

void load_state(LanguageModel& model, const io::SafetensorsFile& file) {
  const torch::NoGradGuard no_grad;
  auto state = state_of(model);
  std::set<std::string> missing;
  for (const auto& entry : state) {
    if (!can_be_recomputed(entry.first)) {
      missing.insert(entry.first);
    }
  }
  for (const io::TensorView& view : file.tensors()) {
    const std::string name = canonical(view.name);
    const auto target = state.find(name);
    if (target == state.end()) {
      throw user_error("{}: tensor '{}' is not part of this model", file.path().string(),
                       view.name);
    }
    const at::Tensor value = to_tensor(view);
    if (!value.sizes().equals(target->second.sizes())) {
      throw user_error("{}: tensor '{}': expected shape {}, got {}", file.path().string(),
                       view.name, c10::str(target->second.sizes()), c10::str(value.sizes()));
    }
    if (view.name != name && file.find(name) != nullptr) {  // an alias beside its original
      if (!at::equal(value, to_tensor(*file.find(name)))) {
        throw user_error("{}: '{}' differs from '{}', but they are one tensor in this model",
                         file.path().string(), view.name, name);
      }
      continue;
    }
    target->second.copy_(value);
    missing.erase(name);
  }
  if (!missing.empty()) {
    throw user_error("{}: {} tensors are missing, the first is '{}'", file.path().string(),
                     missing.size(), *missing.begin());
  }
}

LanguageModel load_model(const CheckpointFiles& files) {
  const io::SafetensorsFile file(files.weights);
  LanguageModel model(files.config);
  load_state(model, file);
  model->eval();
  return model;
}

std::vector<NamedTensor> named_state(const LanguageModel& model) {
  std::vector<NamedTensor> tensors;
  for (const auto& entry : state_of(model)) {
    tensors.push_back({entry.first, entry.second});
  }
  return tensors;
}

void save_model(const LanguageModel& model, const std::string& tokenizer, const fs::path& folder) {
  io::Json config = to_json(model->config());
  config["tokenizer"] = tokenizer;
  io::write_file_atomically(folder / "config.json", config.dump(2) + "\n");
  write_tensors(folder / "model.safetensors", named_state(model), {{"format", "pt"}});
}

}  // namespace hyena::models
