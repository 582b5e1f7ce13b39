// AdamW over parameter groups, on LibTorch's fused kernels.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "hyena/io/safetensors.h"
#include "hyena/models/tensor_file.h"
#include "hyena/train/parameter_groups.h"

namespace hyena::train {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.98;
  double eps = 1e-8;
};

/// PyTorch's AdamW: with gradient g and step number k = 1, 2, ...
///
///     theta <- theta - lr wd theta
///     m <- b1 m + (1 - b1) g ;  v <- b2 v + (1 - b2) g^2
///     theta <- theta - lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)
///
/// One fused call per group, no host synchronisation. A tensor without a gradient is left alone.
class AdamW {
 public:
  AdamW(std::vector<ParameterGroup> groups, const AdamWOptions& options);

  /// Updates every group with rate lr_of(group.lr).
  void step(const std::function<double(double)>& lr_of);
  /// Drops the gradients.
  void zero_grad();

  [[nodiscard]] const std::vector<ParameterGroup>& groups() const { return groups_; }
  /// All gradients that exist, for clipping.
  [[nodiscard]] std::vector<at::Tensor> gradients() const;

  /// "adamw.m.<parameter>", "adamw.v.<parameter>", "adamw.step.<parameter>".
  [[nodiscard]] std::vector<models::NamedTensor> named_state() const;
  /// @throws UserError for a missing or misshapen tensor, naming it.
  void load_state(const io::SafetensorsFile& file);

 private:
  struct Moments {
    std::vector<at::Tensor> m;
    std::vector<at::Tensor> v;
    std::vector<at::Tensor> step;  // float32 scalars on the device, as the kernels want them
  };

  std::vector<ParameterGroup> groups_;
  std::vector<Moments> moments_;  // one per group
  AdamWOptions options_;
};

/// Scales the gradients so that their global norm is at most `max_norm` (0: does not scale):
/// g <- g min(1, max_norm / (|g| + 1e-6)). Returns the norm before scaling, a scalar on the
/// device; no host synchronisation.
[[nodiscard]] at::Tensor clip_gradients(const std::vector<at::Tensor>& gradients, double max_norm);

}  // namespace hyena::train
