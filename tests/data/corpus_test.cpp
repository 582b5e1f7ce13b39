#include "hyena/data/corpus.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/data/gpt2_files.h"

namespace hyena::data {
namespace {

using testing_support::message_of;
using testing_support::TemporaryFolder;
using testing_support::write_gpt2_files;
using testing_support::write_text;

std::vector<std::int64_t> all_tokens(const Corpus& corpus) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(corpus.num_tokens()));
  corpus.copy(0, tokens);
  return tokens;
}

class CorpusTest : public testing::Test {
 protected:
  CorpusTest() {
    write_text(folder_ / "b.txt", "bb");
    write_text(folder_ / "a.txt", "a");
    write_text(folder_ / "c.txt", "ccc");
    write_text(folder_ / "empty.md", "");
    options_.cache_folder = folder_ / "cache";
  }

  std::shared_ptr<const Corpus> open(const std::vector<std::string>& names,
                                     const Tokenizer& tokenizer = ByteTokenizer()) const {
    std::vector<std::string> patterns;
    patterns.reserve(names.size());
    for (const std::string& name : names) {
      patterns.push_back((folder_ / name).string());
    }
    return open_corpus(patterns, tokenizer, options_);
  }

  std::string error_of(const std::vector<std::string>& names,
                       const Tokenizer& tokenizer = ByteTokenizer()) const {
    return message_of<UserError>([&] { (void)open(names, tokenizer); });
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  TemporaryFolder folder_;
  CorpusOptions options_;
};

TEST_F(CorpusTest, BytesAreMappedInTheOrderNamedWithEndOfText) {
  const auto corpus = open({"c.txt", "*.txt"});  // c first, and not again
  EXPECT_EQ(all_tokens(*corpus),
            (std::vector<std::int64_t>{'c', 'c', 'c', 256, 'a', 256, 'b', 'b', 256}));
  EXPECT_EQ(corpus->num_bytes(), 6);
  EXPECT_EQ(corpus->vocab_size(), 257);
  ASSERT_EQ(corpus->files().size(), 3U);
  EXPECT_EQ(corpus->files()[1].name, path("a.txt"));
  EXPECT_EQ(corpus->files()[1].begin, 4);
  EXPECT_EQ(corpus->files()[1].end, 6);
  EXPECT_EQ(corpus->files()[2].bytes, 2);
  ASSERT_EQ(corpus->documents().size(), 3U);
  EXPECT_EQ(corpus->documents()[2].begin, 6);
  EXPECT_EQ(corpus->documents()[2].end, 9);
}

TEST_F(CorpusTest, WithoutEndOfTextTheBytesAlone) {
  options_.end_of_text = EndOfText::kNone;
  EXPECT_EQ(all_tokens(*open({"a.txt", "b.txt"})), (std::vector<std::int64_t>{'a', 'b', 'b'}));
}

TEST_F(CorpusTest, EveryRangeIsThatOfTheWhole) {
  const auto corpus = open({"*.txt"});
  const std::vector<std::int64_t> whole = all_tokens(*corpus);
  for (std::size_t begin = 0; begin <= whole.size(); ++begin) {
    for (std::size_t end = begin; end <= whole.size(); ++end) {
      std::vector<std::int64_t> part(end - begin, -1);
      corpus->copy(static_cast<std::int64_t>(begin), part);
      EXPECT_TRUE(
          std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(begin)))
          << begin << " " << end;
    }
  }
}

TEST_F(CorpusTest, OtherTextsAreTokenisedOnce) {
  write_gpt2_files(folder_ / "t", {{"c", "c"}});
  const auto tokenizer = load_tokenizer(path("t"));
  const std::uint32_t cc = tokenizer->encode("cc")[0];
  const std::uint32_t end = *tokenizer->end_of_text();
  std::vector<std::string> tokenised;
  options_.progress = [&](const std::string& file, std::int64_t done, std::int64_t total) {
    EXPECT_EQ(done, total);
    tokenised.push_back(std::filesystem::path(file).filename());
  };
  const std::vector<std::int64_t> expected{cc, 'c', end, 'a', end};
  EXPECT_EQ(all_tokens(*open({"c.txt", "a.txt"}, *tokenizer)), expected);
  EXPECT_EQ(tokenised, (std::vector<std::string>{"c.txt", "a.txt"}));
  const auto again = open({"c.txt", "a.txt"}, *tokenizer);
  EXPECT_EQ(all_tokens(*again), expected);
  EXPECT_EQ(again->files()[0].name, path("c.txt"));
  EXPECT_EQ(again->num_bytes(), 4);
  EXPECT_EQ(tokenised.size(), 2U);
  // Another text, another size, another end, another tokenizer: done again.
  write_text(folder_ / "a.txt", "aa");
  (void)open({"a.txt"}, *tokenizer);
  EXPECT_EQ(tokenised.size(), 3U);
  options_.end_of_text = EndOfText::kNone;
  EXPECT_EQ(all_tokens(*open({"a.txt"}, *tokenizer)), (std::vector<std::int64_t>{'a', 'a'}));
  EXPECT_EQ(tokenised.size(), 4U);
  write_gpt2_files(folder_ / "u", {{"a", "a"}});
  EXPECT_EQ(open({"a.txt"}, *load_tokenizer(path("u")))->num_tokens(), 1);
  EXPECT_EQ(tokenised.size(), 5U);
}

TEST_F(CorpusTest, SameSizeButLaterTimeIsTokenisedAgain) {
  write_gpt2_files(folder_ / "t", {{"c", "c"}});
  const auto tokenizer = load_tokenizer(path("t"));
  options_.end_of_text = EndOfText::kNone;
  EXPECT_EQ(all_tokens(*open({"b.txt"}, *tokenizer)), (std::vector<std::int64_t>{'b', 'b'}));
  write_text(folder_ / "b.txt", "BB");
  const auto time = std::filesystem::last_write_time(folder_ / "b.txt");
  std::filesystem::last_write_time(folder_ / "b.txt", time + std::chrono::seconds(1));
  EXPECT_EQ(all_tokens(*open({"b.txt"}, *tokenizer)), (std::vector<std::int64_t>{'B', 'B'}));
}

TEST_F(CorpusTest, TokenFilesKeepTheirDocuments) {
  const std::vector<std::filesystem::path> texts{folder_ / "a.txt", folder_ / "b.txt"};
  tokenize_files(ByteTokenizer(), texts, folder_ / "ab.tokens");
  const auto corpus = open({"c.txt", "ab.tokens"});
  EXPECT_EQ(all_tokens(*corpus),
            (std::vector<std::int64_t>{'c', 'c', 'c', 256, 'a', 256, 'b', 'b', 256}));
  EXPECT_EQ(corpus->files().size(), 2U);
  EXPECT_EQ(corpus->num_bytes(), 6);
  ASSERT_EQ(corpus->documents().size(), 3U);
  EXPECT_EQ(corpus->documents()[1].begin, 4);
  EXPECT_EQ(corpus->documents()[2].end, 9);
}

TEST_F(CorpusTest, ErrorsNameTheFile) {
  EXPECT_EQ(error_of({"no.txt"}), "cannot open " + path("no.txt") + ": No such file or directory");
  EXPECT_EQ(error_of({"*.pdf"}), "no file matches " + path("*.pdf"));
  EXPECT_EQ(error_of({"empty.md"}), path("empty.md") + " is empty");
  EXPECT_EQ(error_of({}), "no text is named");
  std::filesystem::create_directory(folder_ / "d");
  EXPECT_EQ(error_of({"d"}),
            path("d") + " is a folder: name files or a glob such as " + path("d/*.txt"));
  write_gpt2_files(folder_ / "t", {{"c", "c"}});
  const auto tokenizer = load_tokenizer(path("t"));
  EXPECT_EQ(error_of({"empty.md"}, *tokenizer), path("empty.md") + " is empty");
  const std::vector<std::filesystem::path> texts{folder_ / "a.txt"};
  tokenize_files(*tokenizer, texts, folder_ / "a.tokens");
  EXPECT_EQ(error_of({"a.tokens"}), path("a.tokens") + " was made with the tokenizer gpt2 (" +
                                        tokenizer->fingerprint() +
                                        "), but the model's is byte (byte-257)");
  TokenFileWriter(folder_ / "none.tokens", ByteTokenizer()).commit();
  EXPECT_EQ(error_of({"none.tokens"}), path("none.tokens") + " holds no tokens");
}

TEST_F(CorpusTest, AFileWhoseNameLooksLikeAGlobIsAFile) {
  write_text(folder_ / "what[1].txt", "x");
  EXPECT_EQ(open({"what[1].txt"})->num_tokens(), 2);
}

}  // namespace
}  // namespace hyena::data
