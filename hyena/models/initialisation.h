// The initialisation of the published language models; PAPER section 4.
#pragma once

#include <cstdint>

#include <torch/nn/module.h>

namespace hyena::models {

/// Every linear layer (the filter MLP's too): weight N(0, s), bias 0. Embeddings: N(0, s).
/// mixer.out_proj.weight and mlp.fc2.weight: N(0, s / sqrt(2 n_layer)). Everything else keeps
/// what its module gave it: short filters U(+-1/sqrt(T)), skip N(0, 1), freq w, norms 1 and 0.
/// Draws from LibTorch's CPU generator, in the order of named_modules().
/// @param deviation  s; 0.02 in the published models, whatever their width D. A product of three
///   projections of normed inputs starts out in proportion to (s sqrt(D))^3, so that narrow models
///   are late to learn from it.
void initialise(torch::nn::Module& model, std::int64_t n_layer, double deviation);

}  // namespace hyena::models
