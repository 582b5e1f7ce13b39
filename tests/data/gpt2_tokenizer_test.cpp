#include "hyena/data/gpt2_tokenizer.h"

#include <chrono>
#include <cstdio>
#include <map>
#include <random>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "hyena/data/gpt2_pieces.h"
#include "hyena/io/json.h"
#include "tests/data/gpt2_files.h"

namespace hyena::data {
namespace {

using testing_support::data_folder;
using testing_support::message_of;
using testing_support::read_text;
using testing_support::shared_folder;
using testing_support::TemporaryFolder;
using testing_support::write_gpt2_files;
using testing_support::write_text;
using Pairs = std::vector<std::pair<std::string, std::string>>;

/// Merging as the format defines it: sweep after sweep over all occurrences of the best pair.
std::vector<std::string> sweep_merge(
    const std::string& piece, const std::map<std::pair<std::string, std::string>, int>& ranks) {
  std::vector<std::string> parts;
  for (const char c : piece) {
    parts.emplace_back(1, c);
  }
  while (true) {
    std::pair<std::string, std::string> best;
    int best_rank = -1;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = ranks.find({parts[i], parts[i + 1]});
      if (found != ranks.end() && (best_rank < 0 || found->second < best_rank)) {
        best = found->first;
        best_rank = found->second;
      }
    }
    if (best_rank < 0) {
      return parts;
    }
    std::vector<std::string> merged;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (i + 1 < parts.size() && parts[i] == best.first && parts[i + 1] == best.second) {
        merged.push_back(parts[i] + parts[i + 1]);
        ++i;
      } else {
        merged.push_back(parts[i]);
      }
    }
    parts = merged;
  }
}

TEST(Gpt2Tokenizer, MergesAsSweepsDo) {
  std::mt19937 random(11);
  for (int vocabulary = 0; vocabulary < 20; ++vocabulary) {
    // Random merges over few letters, so that overlaps and ties are everywhere.
    Pairs merges;
    std::map<std::pair<std::string, std::string>, int> ranks;
    std::vector<std::string> tokens{"a", "b", "c"};
    while (merges.size() < 25) {
      const std::string& left = tokens[random() % tokens.size()];
      const std::string& right = tokens[random() % tokens.size()];
      const std::string made = left + right;
      if (std::find(tokens.begin(), tokens.end(), made) == tokens.end()) {
        ranks[{left, right}] = static_cast<int>(merges.size());
        merges.emplace_back(left, right);
        tokens.push_back(made);
      }
    }
    const TemporaryFolder folder;
    write_gpt2_files(folder.path(), merges);
    const Gpt2Tokenizer tokenizer(folder.path());
    for (int trial = 0; trial < 200; ++trial) {
      std::string word;
      for (std::uint_fast32_t i = 1 + random() % 40; i > 0; --i) {
        word += static_cast<char>('a' + random() % 3);
      }
      std::vector<std::string> actual;
      for (const std::uint32_t id : tokenizer.encode(word)) {
        actual.push_back(tokenizer.decode(std::span(&id, 1)));
      }
      ASSERT_EQ(actual, sweep_merge(word, ranks)) << word;
    }
  }
}

TEST(Gpt2Tokenizer, EveryByteStringComesBack) {
  const TemporaryFolder folder;
  write_gpt2_files(folder.path(), {{"t", "h"}, {"th", "e"}, {"\xC3", "\xA9"}, {" ", "a"}});
  const Gpt2Tokenizer tokenizer(folder.path());
  std::mt19937 random(5);
  for (int trial = 0; trial < 500; ++trial) {
    std::string text;
    for (std::uint_fast32_t i = random() % 60; i > 0; --i) {
      text += random() % 3 == 0 ? "the " : std::string(1, static_cast<char>(random() & 0xFFU));
    }
    ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

TEST(Gpt2Tokenizer, EndOfTextInsideTextIsText) {
  const TemporaryFolder folder;
  write_gpt2_files(folder.path(), {{"a", "b"}});
  const Gpt2Tokenizer tokenizer(folder.path());
  EXPECT_EQ(tokenizer.vocab_size(), 258);
  EXPECT_EQ(tokenizer.end_of_text(), 257U);
  for (const std::uint32_t id : tokenizer.encode("<|endoftext|>")) {
    EXPECT_LT(id, 257U);
  }
  EXPECT_EQ(tokenizer.decode(std::vector<std::uint32_t>{257}), "<|endoftext|>");
  EXPECT_EQ(message_of<UserError>([&] { (void)tokenizer.decode(std::vector<std::uint32_t>{258}); }),
            "token id 258 is outside the vocabulary of 258");
}

TEST(Gpt2Tokenizer, SavesWhatItRead) {
  const TemporaryFolder folder;
  write_gpt2_files(folder / "a", {{"a", "b"}});
  write_gpt2_files(folder / "b", {{"b", "a"}});
  const Gpt2Tokenizer tokenizer(folder / "a");
  std::filesystem::create_directory(folder / "copy");
  tokenizer.save(folder / "copy");
  EXPECT_EQ(read_text(folder / "copy/vocab.json"), read_text(folder / "a/vocab.json"));
  EXPECT_EQ(read_text(folder / "copy/merges.txt"), read_text(folder / "a/merges.txt"));
  EXPECT_EQ(Gpt2Tokenizer(folder / "copy").fingerprint(), tokenizer.fingerprint());
  EXPECT_NE(Gpt2Tokenizer(folder / "b").fingerprint(), tokenizer.fingerprint());
}

TEST(Gpt2Tokenizer, DamagedFilesAreNamed) {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& vocab, const std::string& merges) {
    write_gpt2_files(folder.path(), {{"a", "b"}, {"ab", "c"}});
    if (!vocab.empty()) {
      write_text(folder / "vocab.json", vocab);
    }
    if (!merges.empty()) {
      write_text(folder / "merges.txt", merges);
    }
    const std::string message =
        message_of<UserError>([&] { Gpt2Tokenizer tokenizer(folder.path()); });
    const std::string prefix = folder.path().string() + "/";
    EXPECT_TRUE(message.starts_with(prefix)) << message;
    return message.substr(prefix.size());
  };
  EXPECT_EQ(error("[]", ""), "vocab.json: expected an object of token: id");
  EXPECT_TRUE(error("{", "").starts_with("vocab.json:1:2: "));
  EXPECT_EQ(error(R"({"a": 1})", ""),
            "vocab.json: token 'a' has id 1: expected every id from 0 to 0 once");
  EXPECT_EQ(error(R"({"a": 0, "b": 0})", ""),
            "vocab.json: token 'b' has id 0: expected every id from 0 to 1 once");
  EXPECT_EQ(error(R"({"a": 0})", ""), "vocab.json: no token for byte 0");
  EXPECT_EQ(error("", "#version\na b\nab\n"), "merges.txt:3: expected 'left right', got 'ab'");
  EXPECT_EQ(error("", "a b c\n"), "merges.txt:1: expected 'left right', got 'a b c'");
  EXPECT_EQ(error("", "a \n"), "merges.txt:1: expected 'left right', got 'a '");
  EXPECT_EQ(error("", "x y\n"), "merges.txt:1: 'xy' is not in vocab.json");
  EXPECT_EQ(error("", "ab c\na b\n"),
            "merges.txt:1: 'ab c' merges a token that no line above makes");
  EXPECT_EQ(error("", "a b\r\na b\r\n"),
            "merges.txt:2: 'a b' makes a token that line 1 made already");
}

double seconds_of(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

TEST(Gpt2Tokenizer, AMillionEqualLettersAreNotQuadratic) {
  const TemporaryFolder folder;
  write_gpt2_files(folder.path(), {{"a", "a"}, {"aa", "aa"}, {"aaaa", "aaaa"}});
  const Gpt2Tokenizer tokenizer(folder.path());
  std::size_t tokens = 0;
  const double seconds =
      seconds_of([&] { tokens = tokenizer.encode(std::string(1'000'000, 'a')).size(); });
  EXPECT_EQ(tokens, 125'000U);
  fmt::print("gpt2 tokenizer: a run of 1,000,000 letters took {:.2f} s\n", seconds);
  EXPECT_LT(seconds, 20.0);  // n^2 / 2 steps would take minutes
}

TEST(Gpt2Tokenizer, ThreadsShareOne) {
  const TemporaryFolder folder;
  write_gpt2_files(folder.path(), {{"t", "h"}, {"th", "e"}});
  const Gpt2Tokenizer tokenizer(folder.path());
  std::string text;
  for (int i = 0; i < 20'000; ++i) {
    text += " the" + std::to_string(i);
  }
  const std::vector<std::uint32_t> expected = tokenizer.encode(text);
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { EXPECT_EQ(tokenizer.encode(text), expected); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST(Gpt2Fixtures, EveryCaseOfTheReference) {
  const auto fixtures = shared_folder("HYENA_FIXTURES", "../shared/fixtures");
  const auto data = data_folder();
  if (!fixtures || !data) {
    GTEST_SKIP() << "no HYENA_FIXTURES or no HYENA_DATA: 0 cases compared";
  }
  const Gpt2Tokenizer tokenizer(*data / "tokenizer/gpt2");
  EXPECT_EQ(tokenizer.vocab_size(), 50257);
  EXPECT_EQ(tokenizer.end_of_text(), 50256U);
  int compared = 0;
  const io::Json cases = io::read_json(*fixtures / "gpt2_tokenizer.json");
  for (const io::Json& item : cases["cases"]) {
    const auto text = item["text"].get<std::string>();
    const auto ids = item["ids"].get<std::vector<std::uint32_t>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << text.substr(0, 80);
    EXPECT_EQ(tokenizer.decode(ids), text);
    ++compared;
  }
  EXPECT_GT(compared, 0);
  fmt::print("gpt2 fixtures: {} cases compared, 0 skipped\n", compared);
}

/// What a shell command prints.
std::string output_of(const std::string& command) {
  std::string output;
  FILE* pipe = ::popen(command.c_str(), "r");
  std::array<char, 65536> buffer{};
  for (std::size_t got = 1; got > 0;) {
    got = std::fread(buffer.data(), 1, buffer.size(), pipe);
    output.append(buffer.data(), got);
  }
  EXPECT_EQ(::pclose(pipe), 0) << command;
  return output;
}

TEST(Gpt2Fixtures, WholeFileCountAndSpeed) {
  const auto data = data_folder();
  if (!data) {
    GTEST_SKIP() << "no HYENA_DATA and no ../shared/data: 0 files counted";
  }
  const Gpt2Tokenizer tokenizer(*data / "tokenizer/gpt2");
  const std::string text = output_of("xz -dc '" + (*data / "text/wiki.test.raw.xz").string() + "'");
  ASSERT_EQ(text.size(), 1'290'590U);
  std::vector<std::uint32_t> ids;
  const double cold = seconds_of([&] { ids = tokenizer.encode(text); });
  const double warm = seconds_of([&] { ids = tokenizer.encode(text); });
  EXPECT_EQ(ids.size(), 286'221U);
  EXPECT_EQ(tokenizer.decode(ids), text);
  fmt::print("gpt2 tokenizer: wiki.test.raw, 286221 tokens, {:.1f} MB/s, again {:.1f} MB/s\n",
             static_cast<double>(text.size()) / cold / 1e6,
             static_cast<double>(text.size()) / warm / 1e6);
}

}  // namespace
}  // namespace hyena::data
