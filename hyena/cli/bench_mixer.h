// The mixer against its composition in LibTorch: first whether it is right, then how fast it is.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "hyena/io/json.h"

namespace hyena::cli {

struct MixerCase {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;
  std::int64_t batch = 1;
  std::int64_t channels = 768;  ///< D
  std::int64_t length = 1024;   ///< L, also the taps of the filter
  std::int64_t order = 2;       ///< N, safari mode
};

/// Arguments of hyena_mixer, then the gradient dy of its result.
struct MixerTensors {
  at::Tensor p_BCL, short_weight_CT, short_bias_C, h_MDK, skip_MD, dy_BDL;
};

/// "bfloat16", "float16", "float64" or "float32".
[[nodiscard]] std::string dtype_name(at::ScalarType dtype);

/// Random arguments in the fast layout of the device: p channels-last on the CPU, contiguous on
/// the GPU. Filters decay and have unit norm.
[[nodiscard]] MixerTensors mixer_tensors(const MixerCase& mixer);

/// Root mean square relative error of y, and the worst of all gradients.
struct MixerErrors {
  double y = 0.0;
  double gradients = 0.0;
};

using Mixer = std::function<at::Tensor(const MixerTensors&)>;

/// Runs `mixer` on everything, and compares up to eight channels (spread over D, the first and the
/// last among them; every batch row, every time step) with the composition in float64.
[[nodiscard]] MixerErrors mixer_errors(const Mixer& mixer, const MixerTensors& tensors);

/// The largest error a correct mixer can have: 4N + 4 roundings of the dtype in a row (short
/// convolution, gates, results, and as many backward), plus those of N + 1 transforms of 2L points
/// in float32, 2 eps log2(2L) each.
[[nodiscard]] double largest_error(const MixerCase& mixer);

struct Timing {
  double median_ms = 0.0;
  double spread_ms = 0.0;  ///< between the quartiles
};

/// Runs after warm-up: 20, fewer (at least 5) where they would take more than 10 s.
[[nodiscard]] Timing time_runs(const std::function<void()>& run, at::Device device);

/// Bytes read and written per second of a large copy, in units of 1e9.
[[nodiscard]] double copy_gbps(at::Device device);

/// One line of `hyena bench mixer --json` (DESIGN section 8), or nullopt if an error is beyond
/// largest_error(); `failure` then says which.
[[nodiscard]] std::optional<io::Json> bench_mixer(const MixerCase& mixer, double copy_gbps,
                                                  std::string& failure);

}  // namespace hyena::cli
