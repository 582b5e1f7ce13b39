// A whole Hyena layer, projections and filter generation included, beside attention layers of the
// same width.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hyena/cli/bench_mixer.h"
#include "hyena/io/json.h"

namespace hyena::cli {

/// Kernels of LibTorch's SDPA that take causal attention there: "flash" and "cudnn" for bfloat16
/// on a GPU, else "sdpa", LibTorch's own choice.
[[nodiscard]] std::vector<std::string> attention_kernels(const MixerCase& layer);

/// One line of `hyena bench layer --json`. `layer.dtype` is float32 or bfloat16;
/// weights are float32, and bfloat16 runs under autocast, as in training. Keys: bench, device,
/// device_name, dtype, batch, channels, length, order, threads; forward_ms (evaluation: the filters
/// are kept), forward_backward_ms (training: they are made) and their spreads; rel_error of y
/// against the layer in float64, one batch row; per kernel K of attention_kernels()
/// attention_K_{forward,forward_backward}_ms and speedup_K_{forward,forward_backward}. Heads of
/// attention have 64 channels. nullopt if rel_error is beyond what rounding explains; `failure`
/// then says so.
[[nodiscard]] std::optional<io::Json> bench_layer(const MixerCase& layer, std::string& failure);

}  // namespace hyena::cli
