#include "hyena/sweep/parameter_groups.h"

#include <algorithm>
#include <string>
#include <utility>

namespace hyena::sweep {

std::vector<train::ParameterGroup> parameter_groups_of(const torch::nn::Module& model,
                                                       const train::OptimizerOptions& options) {
  std::vector<train::ParameterGroup> groups = train::parameter_groups(model, options);
  train::ParameterGroup ssm{.name = "ssm",
                            .lr = std::min(1e-3, options.lr),
                            .weight_decay = 0.0,
                            .names = {},
                            .tensors = {}};
  const auto is_ssm = [](const std::string& name) {
    static const std::vector<std::string> kParts{
        ".inv_A_real",  ".A_imag",      ".log_dt",           "kernel.B",
        ".Lambda_real", ".Lambda_imag", ".filter_fn.layers."};
    return std::any_of(kParts.begin(), kParts.end(), [&](const std::string& part) {
      return name.find(part) != std::string::npos;
    });
  };
  for (train::ParameterGroup& group : groups) {
    train::ParameterGroup rest = group;
    rest.names.clear();
    rest.tensors.clear();
    for (std::size_t i = 0; i < group.names.size(); ++i) {
      train::ParameterGroup& target = is_ssm(group.names[i]) ? ssm : rest;
      target.names.push_back(group.names[i]);
      target.tensors.push_back(group.tensors[i]);
    }
    group = std::move(rest);
  }
  groups.push_back(std::move(ssm));
  std::erase_if(groups, [](const train::ParameterGroup& group) { return group.tensors.empty(); });
  return groups;
}

}  // namespace hyena::sweep
