// The optimizer's groups of a cell.
#pragma once

#include <vector>

#include <torch/nn/module.h>

#include "hyena/train/config.h"
#include "hyena/train/parameter_groups.h"

namespace hyena::sweep {

/// Those of a training run, and one more: SSM tensors train at min(1e-3, lr) without decay (PAPER
/// section 5), and so do the sine layers of CKConv, which are a filter MLP.
[[nodiscard]] std::vector<train::ParameterGroup> parameter_groups_of(
    const torch::nn::Module& model, const train::OptimizerOptions& options);

}  // namespace hyena::sweep
