// Which tensors share a learning rate and a weight decay; PAPER section 5.
#pragma once

#include <string>
#include <vector>

#include <torch/nn/module.h>

#include "hyena/train/config.h"

namespace hyena::train {

struct ParameterGroup {
  std::string name;
  double lr = 0.0;
  double weight_decay = 0.0;
  std::vector<std::string> names;
  std::vector<at::Tensor> tensors;
};

/// Sorts the trainable parameters of a language model, by their published names:
///
///     group        tensors                                   rate           decay
///     filter       *.implicit_filter.* (freq included)       filter_lr      0
///     pos_emb      *.pos_emb.z                               pos_emb_lr     0
///     deltas       *.modulation.deltas                       deltas_lr      0
///     state_space  log_dt, A, B of state-space kernels       min(1e-3, lr)  0
///     no_decay     biases, norms, embeddings (only if        lr             0
///                  decay_biases_and_norms is false)
///     main         everything else                           lr             weight_decay
///
/// Empty groups are left out. A tensor registered under two names counts once.
[[nodiscard]] std::vector<ParameterGroup> parameter_groups(const torch::nn::Module& model,
                                                           const OptimizerOptions& options);

}  // namespace hyena::train
