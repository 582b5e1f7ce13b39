// Language models of every mixer and every parametrisation: sizes, initialisation, checkpoints.
#include "hyena/models/mixers.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/models/checkpoint.h"
#include "hyena/models/counting.h"
#include "tests/io/temporary_folder.h"

namespace hyena::models {
namespace {

ModelConfig small(const std::string& mixer, const std::string& filter) {
  ModelConfig config;
  config.d_model = 12;
  config.n_layer = 2;
  config.d_inner = 20;
  config.vocab_size = 11;
  config.l_max = 24;
  config.filter_order = 6;
  config.filter_size = 4;
  config.d_state = 8;
  config.head_dim = 3;
  config.num_heads = 2;
  config.aft_window = 5;
  config.mixer = mixer;
  config.filter = filter;
  return config;
}

class EveryModel : public ::testing::TestWithParam<std::pair<std::string, std::string>> {
 protected:
  ModelConfig config_ = small(GetParam().first, GetParam().second);
};

TEST_P(EveryModel, HasTheParametersThatAreCounted) {
  LanguageModel model(config_);
  std::int64_t count = 0;
  for (const at::Tensor& parameter : model->parameters()) {
    count += parameter.numel();
  }
  EXPECT_EQ(parameter_count(config_), count);
}

TEST_P(EveryModel, ComesBackFromACheckpoint) {
  const testing_support::TemporaryFolder folder;
  const torch::NoGradGuard no_grad;
  torch::manual_seed(1);
  LanguageModel model(config_);
  model->eval();
  save_model(model, "byte", folder.path());
  torch::manual_seed(2);  // whatever is not stored would be drawn anew
  LanguageModel again = load_model(find_checkpoint(folder.path()));
  const at::Tensor ids = at::randint(0, 11, {2, 24});
  EXPECT_TRUE(at::equal(model->forward(ids), again->forward(ids)));
}

std::vector<std::pair<std::string, std::string>> every_model() {
  std::vector<std::pair<std::string, std::string>> all;
  for (const std::string& mixer : mixer_names()) {
    if (mixer != "hyena") {
      all.emplace_back(mixer, "hyena");
    }
  }
  for (const std::string& filter : nn::filter_names()) {
    all.emplace_back("hyena", filter);
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Mixers, EveryModel, ::testing::ValuesIn(every_model()),
                         [](const auto& test) {
                           return test.param.first == "hyena" ? "hyena_" + test.param.second
                                                              : test.param.first;
                         });

TEST(ModelMixers, RwkvAndCkConvKeepTheirOwnInitialisation) {
  LanguageModel rwkv(small("rwkv", "hyena"));
  const at::Tensor value =
      rwkv->named_parameters()["backbone.layers.0.mixer.value.weight"].detach();
  EXPECT_LE((at::matmul(value, value.t()) - at::eye(12)).abs().max().item<float>(), 1e-5);
  LanguageModel ckconv(small("hyena", "ckconv"));
  const at::Tensor first =
      ckconv->named_parameters()["backbone.layers.0.mixer.filter_fn.layers.0.v"].detach();
  EXPECT_GT(first.abs().max().item<float>(), 0.2F) << "U(-1, 1), not N(0, 0.02)";
}

TEST(ModelMixers, UnknownNamesNameTheNearest) {
  const io::Json json{{"mixer", "attentoin"}};
  io::FieldReader fields(json, "model");
  ModelConfig config;
  try {
    read_model_fields(fields, config);
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("attention"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace hyena::models
