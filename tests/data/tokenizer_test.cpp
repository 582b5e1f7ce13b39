#include "hyena/data/tokenizer.h"

#include <random>
#include <string>

#include <gtest/gtest.h>

#include "hyena/base/text.h"
#include "tests/data/gpt2_files.h"

namespace hyena::data {
namespace {

using testing_support::message_of;
using testing_support::TemporaryFolder;

TEST(ByteTokenizer, IsTheBytes) {
  const ByteTokenizer tokenizer;
  EXPECT_EQ(tokenizer.vocab_size(), 257);
  EXPECT_EQ(tokenizer.encode(std::string_view("a\0\xFF", 3)),
            (std::vector<std::uint32_t>{97, 0, 255}));
  std::string all;
  for (int i = 0; i < 50'000; ++i) {
    all += static_cast<char>(static_cast<unsigned char>(i * 7));
  }
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(all)), all);
  const std::vector<std::uint32_t> with_end{104, 105, *tokenizer.end_of_text()};
  EXPECT_EQ(tokenizer.decode(with_end), "hi");
  EXPECT_EQ(message_of<UserError>([&] { (void)tokenizer.decode(std::vector<std::uint32_t>{257}); }),
            "token id 257 is outside the vocabulary of 257");
}

TEST(ByteTokenizer, ReportsProgressInBytes) {
  const std::string text(40'000, 'x');
  std::int64_t last = 0;
  std::int64_t ids = 0;
  ByteTokenizer().encode_to(text, [&](std::span<const std::uint32_t> batch, std::int64_t done) {
    ids += std::ssize(batch);
    EXPECT_EQ(done, ids);
    EXPECT_GT(done, last);
    last = done;
  });
  EXPECT_EQ(last, 40'000);
}

TEST(LoadTokenizer, SaysWhatIsMissing) {
  EXPECT_EQ(load_tokenizer("byte")->name(), "byte");
  const TemporaryFolder folder;
  const std::string name = folder.path().string();
  EXPECT_EQ(message_of<UserError>([&] { (void)load_tokenizer(name); }),
            "tokenizer '" + name +
                "': expected 'byte' or a folder with vocab.json and merges.txt, but " + name +
                "/vocab.json does not exist");
  EXPECT_EQ(message_of<UserError>([&] { (void)load_tokenizer("bytes"); }),
            "tokenizer 'bytes': expected 'byte' or a folder with vocab.json and merges.txt, but "
            "bytes/vocab.json does not exist");
}

TEST(Utf8Streamer, HoldsBackUnfinishedCharacters) {
  Utf8Streamer stream;
  EXPECT_EQ(stream.push("a\xE2"), "a");
  EXPECT_EQ(stream.push("\x82"), "");
  EXPECT_EQ(stream.push("\xAC!"), "\xE2\x82\xAC!");
  EXPECT_EQ(stream.push("\xF0\x9F\x98"), "");
  EXPECT_EQ(stream.finish(), "\xF0\x9F\x98");
  EXPECT_EQ(stream.finish(), "");
  // What can no longer become a character does not wait.
  EXPECT_EQ(stream.push("\x80"), "\x80");
  EXPECT_EQ(stream.push("\xC0"), "\xC0");
  EXPECT_EQ(stream.push("\xED\xA0"), "\xED\xA0");
  EXPECT_EQ(stream.push("\xF4\x90"), "\xF4\x90");
  EXPECT_EQ(stream.push("\xFF"), "\xFF");
}

TEST(Utf8Streamer, EveryCutOfValidTextGivesValidParts) {
  const std::string text = "a\xC3\xA9\xE0\xA4\x80\xED\x9F\xBF\xF0\x90\x80\x80z\xF4\x8F\xBF\xBF";
  for (std::size_t first = 0; first <= text.size(); ++first) {
    for (std::size_t second = first; second <= text.size(); ++second) {
      Utf8Streamer stream;
      std::string joined;
      for (const std::string& part :
           {stream.push(text.substr(0, first)), stream.push(text.substr(first, second - first)),
            stream.push(text.substr(second)), stream.finish()}) {
        EXPECT_TRUE(is_utf8(part)) << first << " " << second;
        joined += part;
      }
      EXPECT_EQ(joined, text);
    }
  }
}

TEST(Utf8Streamer, RandomBytesPassWithoutLoss) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 2000; ++trial) {
    Utf8Streamer stream;
    std::string all;
    std::string joined;
    for (int part = 0; part < 5; ++part) {
      std::string bytes;
      for (std::uint_fast32_t i = random() % 4; i > 0; --i) {
        bytes += static_cast<char>(static_cast<unsigned char>(0x70U + random() % 0x90U));
      }
      all += bytes;
      joined += stream.push(bytes);
    }
    EXPECT_EQ(joined + stream.finish(), all);
  }
}

}  // namespace
}  // namespace hyena::data
