// The mixer of a layer, as the configuration names it.
#pragma once

#include <cstdint>
#include <memory>

#include "hyena/models/config.h"
#include "hyena/nn/operators/mixer.h"

namespace hyena::models {

/// The mixer of layer number `layer`: attention where is_attention(layer), else config.mixer.
/// @throws UserError for options out of the mixer's range.
[[nodiscard]] std::shared_ptr<nn::Mixer> make_mixer(const ModelConfig& config, std::int64_t layer);

}  // namespace hyena::models
