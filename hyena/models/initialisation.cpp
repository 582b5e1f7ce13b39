#include "hyena/models/initialisation.h"

#include <cmath>
#include <string_view>

#include <torch/torch.h>

namespace hyena::models {

void initialise(torch::nn::Module& model, std::int64_t n_layer, double deviation) {
  const double residual = deviation / std::sqrt(2.0 * static_cast<double>(n_layer));
  const torch::NoGradGuard no_grad;
  for (const auto& entry : model.named_modules("", /*include_self=*/false)) {
    const std::string_view name = entry.key();
    if (auto* linear = entry.value()->as<torch::nn::Linear>()) {
      const bool ends_residual = name.ends_with("mixer.out_proj") || name.ends_with("mlp.fc2");
      linear->weight.normal_(0.0, ends_residual ? residual : deviation);
      if (linear->bias.defined()) {
        linear->bias.zero_();
      }
    } else if (auto* embedding = entry.value()->as<torch::nn::Embedding>()) {
      embedding->weight.normal_(0.0, deviation);
    }
  }
}

}  // namespace hyena::models
