#include "hyena/train/parameter_groups.h"

#include <algorithm>
#include <array>
#include <string_view>

#include <torch/torch.h>

namespace hyena::train {
namespace {

enum Group : std::size_t { kFilter, kPosEmb, kDeltas, kStateSpace, kNoDecay, kMain, kNumGroups };

/// The dynamics of a state-space kernel; its output map C is an ordinary tensor.
bool is_state_space(std::string_view name) {
  constexpr std::array<std::string_view, 6> kEndings{".log_dt", ".inv_A_real",  ".A_imag",
                                                     ".B",      ".Lambda_real", ".Lambda_imag"};
  return std::any_of(kEndings.begin(), kEndings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

bool is_bias_norm_or_embedding(std::string_view name) {
  return name.ends_with("bias") || name.find(".norm") != std::string_view::npos ||
         name.find(".ln_f.") != std::string_view::npos ||
         name.find("embeddings.") != std::string_view::npos;
}

Group group_of(std::string_view name, const OptimizerOptions& options) {
  if (name.find(".implicit_filter.") != std::string_view::npos) {
    return kFilter;
  }
  if (name.ends_with(".pos_emb.z")) {
    return kPosEmb;
  }
  if (name.ends_with(".modulation.deltas")) {
    return kDeltas;
  }
  if (is_state_space(name)) {
    return kStateSpace;
  }
  const bool is_exempt = !options.decay_biases_and_norms && is_bias_norm_or_embedding(name);
  return is_exempt ? kNoDecay : kMain;
}

}  // namespace

std::vector<ParameterGroup> parameter_groups(const torch::nn::Module& model,
                                             const OptimizerOptions& options) {
  constexpr double kLargestStateSpaceRate = 1e-3;
  const double lr = options.lr;
  const auto empty = [](const char* name, double rate, double decay) {
    return ParameterGroup{
        .name = name, .lr = rate, .weight_decay = decay, .names = {}, .tensors = {}};
  };
  std::array<ParameterGroup, kNumGroups> all{
      empty("filter", options.filter_lr.value_or(lr), 0.0),
      empty("pos_emb", options.pos_emb_lr.value_or(lr), 0.0),
      empty("deltas", options.deltas_lr.value_or(lr), 0.0),
      empty("state_space", std::min(kLargestStateSpaceRate, lr), 0.0),
      empty("no_decay", lr, 0.0),
      empty("main", lr, options.weight_decay)};
  std::vector<const void*> seen;
  for (const auto& entry : model.named_parameters()) {
    const void* identity = entry.value().unsafeGetTensorImpl();
    if (!entry.value().requires_grad() ||
        std::find(seen.begin(), seen.end(), identity) != seen.end()) {
      continue;
    }
    seen.push_back(identity);
    ParameterGroup& group = all.at(group_of(entry.key(), options));
    group.names.push_back(entry.key());
    group.tensors.push_back(entry.value());
  }
  std::vector<ParameterGroup> groups;
  for (ParameterGroup& group : all) {
    if (!group.tensors.empty()) {
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

}  // namespace hyena::train
