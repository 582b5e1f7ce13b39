#include "hyena/train/adamw.h"

#include <utility>

#include <torch/torch.h>

#include "hyena/base/error.h"

namespace hyena::train {

AdamW::AdamW(std::vector<ParameterGroup> groups, const AdamWOptions& options)
    : groups_(std::move(groups)), options_(options) {
  for (const ParameterGroup& group : groups_) {
    Moments& moments = moments_.emplace_back();
    for (const at::Tensor& parameter : group.tensors) {
      moments.m.push_back(at::zeros_like(parameter, at::MemoryFormat::Preserve));
      moments.v.push_back(at::zeros_like(parameter, at::MemoryFormat::Preserve));
      moments.step.push_back(at::zeros({}, parameter.options().dtype(at::kFloat)));
    }
  }
}

void AdamW::step(const std::function<double(double)>& lr_of) {
  const torch::NoGradGuard no_grad;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    std::vector<at::Tensor> parameters;
    std::vector<at::Tensor> gradients;
    Moments active;
    for (std::size_t i = 0; i < groups_[g].tensors.size(); ++i) {
      const at::Tensor& parameter = groups_[g].tensors[i];
      if (parameter.grad().defined()) {
        parameters.push_back(parameter);
        gradients.push_back(parameter.grad());
        active.m.push_back(moments_[g].m[i]);
        active.v.push_back(moments_[g].v[i]);
        active.step.push_back(moments_[g].step[i]);
      }
    }
    if (parameters.empty()) {
      continue;
    }
    at::_foreach_add_(active.step, 1.0);
    at::_fused_adamw_(parameters, gradients, active.m, active.v, /*max_exp_avg_sqs=*/{},
                      active.step, lr_of(groups_[g].lr), options_.beta1, options_.beta2,
                      groups_[g].weight_decay, options_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
    // The fused kernel does not say that it wrote: caches of what depends on parameters must see
    // it.
    for (const at::Tensor& parameter : parameters) {
      torch::autograd::impl::bump_version(parameter);
    }
  }
}

void AdamW::zero_grad() {
  for (ParameterGroup& group : groups_) {
    for (at::Tensor& parameter : group.tensors) {
      parameter.mutable_grad().reset();
    }
  }
}

std::vector<at::Tensor> AdamW::gradients() const {
  std::vector<at::Tensor> all;
  for (const ParameterGroup& group : groups_) {
    for (const at::Tensor& parameter : group.tensors) {
      if (parameter.grad().defined()) {
        all.push_back(parameter.grad());
      }
    }
  }
  return all;
}

std::vector<models::NamedTensor> AdamW::named_state() const {
  std::vector<models::NamedTensor> state;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    for (std::size_t i = 0; i < groups_[g].names.size(); ++i) {
      const std::string& name = groups_[g].names[i];
      state.push_back({"adamw.m." + name, moments_[g].m[i]});
      state.push_back({"adamw.v." + name, moments_[g].v[i]});
      state.push_back({"adamw.step." + name, moments_[g].step[i]});
    }
  }
  return state;
}

// Not const, although only what the handles refer to changes.
// NOLINTNEXTLINE(readability-make-member-function-const)
void AdamW::load_state(const io::SafetensorsFile& file) {
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : named_state()) {
    const io::TensorView* view = file.find(name);
    if (view == nullptr) {
      throw user_error("{}: the optimizer's tensor '{}' is missing", file.path().string(), name);
    }
    if (!tensor.sizes().equals(view->shape)) {
      throw user_error("{}: tensor '{}': expected shape {}, got {}", file.path().string(), name,
                       c10::str(tensor.sizes()), c10::str(at::IntArrayRef(view->shape)));
    }
    tensor.copy_(models::to_tensor(*view));
  }
}

at::Tensor clip_gradients(const std::vector<at::Tensor>& gradients, double max_norm) {
  const torch::NoGradGuard no_grad;
  at::Tensor norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients)), 2);
  if (max_norm > 0.0) {
    at::_foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp_max(1.0));
  }
  return norm;
}

}  // namespace hyena::train
