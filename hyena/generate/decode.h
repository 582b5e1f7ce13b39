// Text from a model, one token after the other.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "hyena/generate/sampler.h"
#include "hyena/models/language_model.h"

namespace hyena::generate {

struct DecodeOptions {
  std::int64_t max_tokens = 256;
  std::optional<std::int64_t> end_token{};  ///< ends the text; not handed out
  SamplerOptions sampler{};
};

enum class Stop {
  kMaxTokens,
  kEndToken,
  kCancelled,  ///< by on_token
};

/// Continues `prompt` by sampling. Every token recomputes the whole sequence, O(n) forward passes
/// of O(n log n): the plain definition of what generation is.
///
/// @param prompt    At least one id.
/// @param on_token  Gets every new id as it comes; false cancels.
/// @throws UserError if prompt and max_tokens together exceed the model's l_max, or an id lies
///   beyond its vocabulary.
Stop decode(models::LanguageModel& model, std::vector<std::int64_t> prompt,
            const DecodeOptions& options, const std::function<bool(std::int64_t)>& on_token);

}  // namespace hyena::generate
