// Models in files: config.json + model.safetensors, or one safetensors file with its config.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "hyena/models/language_model.h"
#include "hyena/models/tensor_file.h"

namespace hyena::models {

/// Where a model's weights and configuration are.
struct CheckpointFiles {
  std::filesystem::path weights;
  ModelConfig config;
  std::string tokenizer;  ///< "byte", a folder (of the checkpoint), or "" where none is named
};

/// `path` is a checkpoint directory, a run directory (its newest checkpoints/step-N is taken), or a
/// .safetensors file whose metadata has a "config".
/// @throws UserError that says what is missing.
[[nodiscard]] CheckpointFiles find_checkpoint(const std::filesystem::path& path);

/// Builds the model of `files` and loads its weights. Accepts what PAPER 14.1 says a reader must:
/// freq stored once or three times, lm_head absent or equal to the embedding, z, t and deltas
/// present or absent (stored values win).
/// @throws UserError for missing, unknown or misshapen tensors, naming them.
[[nodiscard]] LanguageModel load_model(const CheckpointFiles& files);

/// The state under its published names: parameters and buffers, freq once, no lm_head.
[[nodiscard]] std::vector<NamedTensor> named_state(const LanguageModel& model);

/// Copies tensors of an open file into the model.
void load_state(LanguageModel& model, const io::SafetensorsFile& file);

/// Writes config.json and model.safetensors into an existing folder.
void save_model(const LanguageModel& model, const std::string& tokenizer,
                const std::filesystem::path& folder);

}  // namespace hyena::models
