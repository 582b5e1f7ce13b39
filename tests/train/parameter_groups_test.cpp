#include "hyena/train/parameter_groups.h"

#include <map>
#include <set>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/models/language_model.h"

namespace hyena::train {
namespace {

models::LanguageModel small_model() {
  models::ModelConfig config;
  config.d_model = 8;
  config.n_layer = 2;
  config.d_inner = 16;
  config.l_max = 16;
  config.filter_order = 4;
  config.train_decay = true;
  config.attn_layer_idx = {1};
  config.num_heads = 2;
  models::LanguageModel model(config);
  return model;
}

std::map<std::string, std::set<std::string>> names_by_group(
    const std::vector<ParameterGroup>& groups) {
  std::map<std::string, std::set<std::string>> names;
  for (const ParameterGroup& group : groups) {
    names[group.name] = {group.names.begin(), group.names.end()};
    EXPECT_EQ(group.names.size(), group.tensors.size());
  }
  return names;
}

TEST(ParameterGroups, FollowThePublishedTable) {
  OptimizerOptions options;
  options.lr = 1e-3;
  options.filter_lr = 2e-3;
  options.pos_emb_lr = 3e-3;
  options.deltas_lr = 4e-3;
  const auto model = small_model();
  const auto groups = parameter_groups(*model, options);
  const auto names = names_by_group(groups);
  const std::string filter = "backbone.layers.0.mixer.filter_fn.";
  const std::string mlp = filter + "implicit_filter.";
  EXPECT_EQ(
      names.at("filter"),
      (std::set<std::string>{mlp + "0.weight", mlp + "0.bias", mlp + "1.freq", mlp + "2.weight",
                             mlp + "2.bias", mlp + "4.weight", mlp + "4.bias", mlp + "6.weight"}));
  EXPECT_EQ(names.at("pos_emb"), std::set<std::string>{filter + "pos_emb.z"});
  EXPECT_EQ(names.at("deltas"), std::set<std::string>{filter + "modulation.deltas"});
  EXPECT_EQ(names.count("no_decay"), 0U);
  // The skip, short filters, biases and norms decay like the weights.
  for (const std::string name :
       {"backbone.layers.0.mixer.filter_fn.bias", "backbone.layers.0.mixer.short_filter.weight",
        "backbone.layers.0.norm1.weight", "backbone.ln_f.bias"}) {
    EXPECT_EQ(names.at("main").count(name), 1U) << name;
  }
  std::size_t total = 0;
  for (const ParameterGroup& group : groups) {
    total += group.tensors.size();
    const bool is_main = group.name == "main";
    EXPECT_EQ(group.weight_decay, is_main ? 0.1 : 0.0) << group.name;
    const double lr = group.name == "filter"    ? 2e-3
                      : group.name == "pos_emb" ? 3e-3
                      : group.name == "deltas"  ? 4e-3
                                                : 1e-3;
    EXPECT_EQ(group.lr, lr) << group.name;
  }
  EXPECT_EQ(total, model->parameters().size());
}

TEST(ParameterGroups, BiasesNormsAndEmbeddingsCanBeSpared) {
  OptimizerOptions options;
  options.decay_biases_and_norms = false;
  const auto names = names_by_group(parameter_groups(*small_model(), options));
  const auto& spared = names.at("no_decay");
  for (const std::string name :
       {"backbone.embeddings.word_embeddings.weight", "backbone.layers.0.norm1.weight",
        "backbone.layers.1.mlp.fc1.bias", "backbone.ln_f.weight",
        "backbone.layers.0.mixer.filter_fn.bias", "backbone.layers.1.mixer.out_proj.bias"}) {
    EXPECT_EQ(spared.count(name), 1U) << name;
  }
  EXPECT_EQ(names.at("main").count("backbone.layers.1.mlp.fc1.weight"), 1U);
  EXPECT_EQ(names.at("filter").size(), 8U);  // a filter's biases keep its rate
}

TEST(ParameterGroups, StateSpaceDynamicsAreSlowAndDoNotDecay) {
  torch::nn::Module model("model");
  for (const char* name : {"log_dt", "inv_A_real", "A_imag", "B", "C", "D"}) {
    const auto kernel = std::make_shared<torch::nn::Module>("kernel");
    kernel->register_parameter(name, at::zeros({1}));
    model.register_module(std::string("kernel_of_") + name, kernel);
  }
  OptimizerOptions options;
  options.lr = 0.5;
  const auto groups = parameter_groups(model, options);
  ASSERT_EQ(groups.size(), 2U);
  EXPECT_EQ(groups[0].name, "state_space");
  EXPECT_EQ(groups[0].names.size(), 4U);
  EXPECT_EQ(groups[0].lr, 1e-3);
  EXPECT_EQ(groups[0].weight_decay, 0.0);
  EXPECT_EQ(groups[1].names, (std::vector<std::string>{"kernel_of_C.C", "kernel_of_D.D"}));
}

}  // namespace
}  // namespace hyena::train
