#include "hyena/train/config.h"

#include <fstream>
#include <map>
#include <sstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "hyena/base/error.h"
#include "hyena/io/toml.h"

namespace hyena::train {
namespace {

RunConfig parse(const std::string& toml) {
  return read_run_config(io::parse_toml(toml, "test"));
}

std::string error_of(const std::string& toml) {
  try {
    (void)parse(toml);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(RunConfig, EmptyFileGivesTheDefaults) {
  const RunConfig config = parse("");
  EXPECT_EQ(config.train.max_steps, 1000);
  EXPECT_EQ(config.schedule_options().warmup_steps, 10);
  EXPECT_EQ(config.schedule_options().decay_steps, 1000);
  EXPECT_DOUBLE_EQ(config.schedule_options().min_lr, 6e-5);
  EXPECT_EQ(config.micro_batch_size(), config.train.batch_size);
}

TEST(RunConfig, PresetIsOverriddenByOtherKeys) {
  const RunConfig config = parse("[model]\npreset = 'hyena-153m'\nn_layer = 2\nmax_length = 64\n");
  EXPECT_EQ(config.model.d_model, 864);
  EXPECT_EQ(config.model.n_layer, 2);
  EXPECT_EQ(config.model.l_max, 64);
  // The learned positions of a GPT follow its length.
  EXPECT_EQ(parse("[model]\npreset = 'gpt-125m'\nmax_length = 4096").model.max_position_embeddings,
            4096);
}

TEST(RunConfig, ErrorsNameTheKey) {
  const std::map<std::string, std::string> cases{
      {"[train]\nbacth_size = 8",
       "unknown key 'train.bacth_size', did you mean "
       "'train.batch_size'?"},
      {"[trains]\nbatch_size = 8", "unknown key 'trains', did you mean 'train'?"},
      {"[model]\nd_modle = 8", "unknown key 'model.d_modle', did you mean 'model.d_model'?"},
      {"[train]\nbatch_size = 0",
       "train.batch_size: expected an integer from 1 to 16777216, got 0"},
      {"[train]\nbatch_size = -1",
       "train.batch_size: expected an integer from 1 to 16777216, got -1"},
      {"[train]\nbatch_size = 'x'",
       "train.batch_size: expected an integer from 1 to 16777216, got string 'x'"},
      {"[train]\nbatch_size = 6\nmicro_batch_size = 4",
       "train.micro_batch_size: expected a divisor of train.batch_size = 6, got 4"},
      {"[optimizer]\nbetas = [0.9]", "optimizer.betas: expected two numbers, got 1"},
      {"[schedule]\nkind = 'linear'\nwarmup_steps = 1000",
       "schedule.warmup_steps: expected less than schedule.decay_steps = 1000, got 1000"},
      {"[schedule]\nkind = 'cosin'",
       "schedule.kind: expected one of cosine, linear, constant, got "
       "'cosin', did you mean 'cosine'?"},
      {"[model]\nmax_length = 8\nl_max = 9",
       "model.max_length = 8 and model.l_max = 9 are two names of one setting"},
      {"[model]\nattn_layer_idx = [9]",
       "model.attn_layer_idx: expected layers below n_layer = 4, got 9"}};
  for (const auto& [toml, message] : cases) {
    EXPECT_EQ(error_of(toml), message) << toml;
  }
}

TEST(RunConfig, VocabularyIsTheTokenizers) {
  RunConfig config = parse("[model]\npreset = 'hyena-153m'");
  adopt_vocabulary(config, data::ByteTokenizer());
  EXPECT_EQ(config.model.vocab_size, 257);
  RunConfig other = parse("[model]\nvocab_size = 300");
  EXPECT_THROW(adopt_vocabulary(other, data::ByteTokenizer()), UserError);
}

TEST(RunConfig, ResolvedConfigurationIsTheSameRun) {
  RunConfig config = parse(
      "[model]\npreset = 'hyena-125m'\nmax_length = 100\n[train]\nmax_steps = 77\n"
      "[data]\ntrain = ['a', 'b']\n[optimizer]\nlr = 0.1\nfilter_lr = 0.01");
  adopt_vocabulary(config, data::ByteTokenizer());
  const io::Json json = to_json(config);
  EXPECT_EQ(json["optimizer"]["pos_emb_lr"], 0.1);
  EXPECT_EQ(json["optimizer"]["filter_lr"], 0.01);
  EXPECT_EQ(json["schedule"]["decay_steps"], 77);
  const RunConfig again = parse(io::write_toml(json));
  EXPECT_EQ(to_json(again), json);
}

/// The rows "| `key` | default | ..." of the guide: "train.seed" -> "2222".
std::map<std::string, std::string> documented() {
  std::map<std::string, std::string> rows;
  std::ifstream file("docs/guide/config.md");
  std::string line;
  std::string section;
  while (std::getline(file, line)) {
    if (line.starts_with("## ")) {
      section = line.starts_with("## [") ? line.substr(4, line.find(']') - 4) : "";
    }
    if (line.starts_with("| `") && !section.empty()) {
      const std::size_t end = line.find('`', 3);
      const std::size_t second = line.find('|', 1);
      const std::size_t third = line.find('|', second + 1);
      rows[section + "." + line.substr(3, end - 3)] = line.substr(second + 2, third - second - 3);
    }
  }
  return rows;
}

TEST(RunConfig, GuideHasEveryKeyWithItsDefault) {
  const auto rows = documented();
  const io::Json defaults = to_json(parse(""));
  std::size_t keys = 0;
  for (const auto& [section, fields] : defaults.items()) {
    for (const auto& [key, value] : fields.items()) {
      const std::string name = fmt::format("{}.{}", section, key);
      ++keys;
      const auto row = rows.find(name);
      ASSERT_NE(row, rows.end()) << name << " is missing in docs/guide/config.md";
      if (!row->second.starts_with("=")) {
        EXPECT_EQ(row->second, value.dump()) << name;
      }
    }
  }
  EXPECT_EQ(rows.size(), keys) << "docs/guide/config.md names keys that do not exist";
}

}  // namespace
}  // namespace hyena::train
