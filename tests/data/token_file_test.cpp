#include "hyena/data/token_file.h"

#include <cstring>
#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "tests/data/gpt2_files.h"

namespace hyena::data {
namespace {

using testing_support::listing;
using testing_support::message_of;
using testing_support::read_text;
using testing_support::TemporaryFolder;
using testing_support::write_text;

std::vector<std::int64_t> all_tokens(const TokenFile& file) {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(file.size()));
  file.copy(0, tokens);
  return tokens;
}

/// A tokenizer of any vocabulary: characters are code points of one byte each.
class WideTokenizer final : public Tokenizer {
 public:
  [[nodiscard]] std::string name() const override { return "wide"; }
  [[nodiscard]] std::int64_t vocab_size() const override { return 100'000; }
  [[nodiscard]] std::optional<std::uint32_t> end_of_text() const override { return std::nullopt; }
  void encode_to(std::string_view text, const TokenSink& sink) const override {
    std::vector<std::uint32_t> ids;
    for (const char c : text) {
      ids.push_back(99'000U + static_cast<unsigned char>(c));
    }
    sink(ids, std::ssize(text));
  }
  [[nodiscard]] std::string decode(std::span<const std::uint32_t> /*ids*/) const override {
    return {};
  }
  void save(const std::filesystem::path& /*folder*/) const override {}
  [[nodiscard]] std::string fingerprint() const override { return "wide-1"; }
};

TEST(TokenFile, WritesTheDocumentedBytes) {
  const TemporaryFolder folder;
  TokenFileWriter writer(folder / "a.tokens", ByteTokenizer());
  writer.append(std::vector<std::uint32_t>{1, 256});
  writer.end_document(1);
  writer.append(std::vector<std::uint32_t>{2});
  writer.end_document(7);
  EXPECT_EQ(listing(folder.path()).find("a.tokens "), std::string::npos);  // nothing before commit
  writer.commit();
  const auto number = [](std::uint64_t value, std::size_t bytes) {
    std::string text(bytes, '\0');
    std::memcpy(text.data(), &value, bytes);
    return text;
  };
  std::string expected = "HYTOKENS" + number(1, 4) + number(2, 4) + number(3, 8) + number(257, 8) +
                         number(2, 8) + number(8, 8) + number(4, 4) + number(8, 4) + "byte" +
                         "byte-257";
  expected.resize(128, '\0');
  expected += number(1, 2) + number(256, 2) + number(2, 2) + number(0, 2);
  expected += number(2, 8) + number(1, 8) + number(3, 8) + number(7, 8);
  EXPECT_EQ(read_text(folder / "a.tokens"), expected);
  EXPECT_EQ(listing(folder.path()), "a.tokens");
}

TEST(TokenFile, RoundTripsTwoAndFourByteTokens) {
  const TemporaryFolder folder;
  write_text(folder / "x", "hello");
  write_text(folder / "y", "\xFF!");
  const std::vector<std::filesystem::path> texts{folder / "x", folder / "y"};
  const ByteTokenizer bytes;
  std::vector<std::int64_t> steps;
  tokenize_files(bytes, texts, folder / "b.tokens", EndOfText::kAfterEveryDocument,
                 [&](std::int64_t done, std::int64_t total) {
                   EXPECT_EQ(total, 7);
                   steps.push_back(done);
                 });
  EXPECT_EQ(steps, (std::vector<std::int64_t>{5, 7}));
  const TokenFile file(folder / "b.tokens");
  EXPECT_EQ(all_tokens(file),
            (std::vector<std::int64_t>{'h', 'e', 'l', 'l', 'o', 256, 255, '!', 256}));
  EXPECT_EQ(file.tokenizer_name(), "byte");
  EXPECT_EQ(file.fingerprint(), bytes.fingerprint());
  EXPECT_EQ(file.vocab_size(), 257);
  EXPECT_EQ(file.text_bytes(), 7);
  ASSERT_EQ(file.documents().size(), 2U);
  EXPECT_EQ(file.documents()[1].begin, 6);
  EXPECT_EQ(file.documents()[1].end, 9);
  EXPECT_EQ(file.documents()[1].bytes, 2);
  std::vector<std::int64_t> part(3);
  file.copy(4, part);
  EXPECT_EQ(part, (std::vector<std::int64_t>{'o', 256, 255}));

  tokenize_files(WideTokenizer(), texts, folder / "w.tokens", EndOfText::kNone);
  EXPECT_EQ(all_tokens(TokenFile(folder / "w.tokens")),
            (std::vector<std::int64_t>{99104, 99101, 99108, 99108, 99111, 99255, 99033}));
}

TEST(TokenizeFiles, RefusesBadTextsAndLeavesNothing) {
  const TemporaryFolder folder;
  write_text(folder / "empty", "");
  write_text(folder / "x", "x");
  const auto error = [&](std::vector<std::filesystem::path> texts, const Tokenizer& tokenizer) {
    return message_of<UserError>([&] { tokenize_files(tokenizer, texts, folder / "t.tokens"); });
  };
  EXPECT_EQ(error({folder / "x", folder / "empty"}, ByteTokenizer()),
            (folder / "empty").string() + " is empty");
  EXPECT_EQ(error({folder / "no"}, ByteTokenizer()),
            "cannot open " + (folder / "no").string() + ": No such file or directory");
  EXPECT_EQ(error({folder / "x"}, WideTokenizer()),
            "the tokenizer wide has no end-of-text token to put after documents");
  EXPECT_EQ(listing(folder.path()), "empty x");
}

TEST(TokenFileWriter, RefusesIdsOutsideTheVocabulary) {
  const TemporaryFolder folder;
  TokenFileWriter writer(folder / "a", ByteTokenizer());
  EXPECT_EQ(message_of<UserError>([&] {
              writer.append(std::vector<std::uint32_t>{1, 257});
            }),
            "token id 257 is outside the vocabulary of 257");
}

TEST(TokenFile, EveryTruncationIsRefusedAndEveryFlipRefusedOrInBounds) {
  const TemporaryFolder folder;
  write_text(folder / "x", "hello");
  write_text(folder / "y", "you");
  const std::vector<std::filesystem::path> texts{folder / "x", folder / "y"};
  tokenize_files(ByteTokenizer(), texts, folder / "a.tokens");
  const std::string whole = read_text(folder / "a.tokens");
  const std::filesystem::path path = folder / "b.tokens";
  for (std::size_t size = 0; size < whole.size(); ++size) {
    write_text(path, whole.substr(0, size));
    message_of<UserError>([&] { TokenFile file(path); });
  }
  write_text(path, whole + "x");
  message_of<UserError>([&] { TokenFile file(path); });
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(static_cast<unsigned char>(bytes[at]) ^ 1U << bit);
      write_text(path, bytes);
      try {
        const TokenFile file(path);  // under ASan: no read outside the mapping
        for (const std::int64_t token : all_tokens(file)) {
          EXPECT_LT(token, file.vocab_size());
        }
        for (const DocumentSpan& document : file.documents()) {
          EXPECT_LE(document.begin, document.end);
          EXPECT_LE(document.end, file.size());
        }
      } catch (const UserError&) {
      }
    }
  }
}

TEST(TokenFile, SaysWhatIsWrong) {
  const TemporaryFolder folder;
  const std::string name = (folder / "a").string();
  write_text(folder / "a", "just text");
  EXPECT_EQ(message_of<UserError>([&] { TokenFile file(folder / "a"); }),
            name + " is not a token file (hyena tokenize makes one)");
  write_text(folder / "x", "hello");
  const std::filesystem::path text = folder / "x";
  tokenize_files(ByteTokenizer(), std::span(&text, 1), folder / "a");
  std::string bytes = read_text(folder / "a");
  std::string other = bytes;
  other[8] = 2;
  write_text(folder / "a", other);
  EXPECT_EQ(message_of<UserError>([&] { TokenFile file(folder / "a"); }),
            name + ": token file version 2: expected 1");
  write_text(folder / "a", bytes.substr(0, 150));
  EXPECT_EQ(message_of<UserError>([&] { TokenFile file(folder / "a"); }),
            name + ": damaged or cut short: its header does not fit its 150 bytes");
  other = bytes;
  other[129] = 7;  // the high byte of the first token
  write_text(folder / "a", other);
  EXPECT_EQ(message_of<UserError>([&] { (void)all_tokens(TokenFile(folder / "a")); }),
            name + ": damaged: token 0 is 1896, outside the vocabulary of 257");
}

}  // namespace
}  // namespace hyena::data
