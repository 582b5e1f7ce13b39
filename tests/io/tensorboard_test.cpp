#include "hyena/io/tensorboard.h"

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/io/temporary_folder.h"

namespace hyena::io {
namespace {

using testing_support::message_of;
using testing_support::read_text;
using testing_support::TemporaryFolder;

/// CRC-32C bit by bit, the definition: no table shared with the library.
std::uint32_t slow_crc32c(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const char c : bytes) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      const unsigned in = (static_cast<unsigned char>(c) >> bit) & 1U;
      crc = ((crc ^ in) & 1U) != 0 ? (crc >> 1U) ^ 0x82F63B78U : crc >> 1U;
    }
  }
  return crc ^ 0xFFFFFFFFU;
}

template <typename T>
T number_at(std::string_view bytes, std::size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// Cuts a file into payloads and checks lengths and checksums.
std::vector<std::string> payloads(std::string_view file) {
  std::vector<std::string> found;
  const auto masked = [](std::string_view bytes) {
    const std::uint32_t crc = slow_crc32c(bytes);
    return ((crc >> 15U) | (crc << 17U)) + 0xa282ead8U;
  };
  while (!file.empty()) {
    const auto size = number_at<std::uint64_t>(file, 0);
    EXPECT_EQ(number_at<std::uint32_t>(file, 8), masked(file.substr(0, 8)));
    found.emplace_back(file.substr(12, size));
    EXPECT_EQ(number_at<std::uint32_t>(file, 12 + size), masked(found.back()));
    file.remove_prefix(16 + size);
  }
  return found;
}

TEST(Crc32c, KnownValues) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(""), 0U);
  std::string all;
  for (int c = 0; c < 256; ++c) {
    all += static_cast<char>(c);
  }
  EXPECT_EQ(crc32c(all), slow_crc32c(all));
}

TEST(EventWriter, WritesTheRecordsThatTensorBoardReads) {
  const TemporaryFolder folder;
  EventWriter writer(folder / "run");
  EXPECT_NE(writer.path().filename().string().find("tfevents"), std::string::npos);
  // On disk after every call, without closing.
  std::vector<std::string> records = payloads(read_text(writer.path()));
  ASSERT_EQ(records.size(), 1U);
  // wall_time: key 0x09 and 8 bytes; file_version: key 0x1a, length 13.
  EXPECT_EQ(records[0].substr(0, 1), "\x09");
  EXPECT_GT(number_at<double>(records[0], 1), 1.5e9);
  EXPECT_EQ(records[0].substr(9),
            "\x1a\x0d"
            "brain.Event:2");

  writer.add_scalar("loss", 300, 2.5);
  records = payloads(read_text(writer.path()));
  ASSERT_EQ(records.size(), 2U);
  // step: key 0x10, 300 = ac 02; summary: key 0x2a { value: key 0x0a { tag, simple_value } }.
  const std::string value = std::string(
                                "\x0a\x04"
                                "loss"
                                "\x15") +
                            std::string("\0\0\x20\x40", 4);
  EXPECT_EQ(records[1].substr(9), std::string("\x10\xac\x02\x2a\x0d\x0a\x0b") + value);
}

TEST(EventWriter, ResumingAddsAFile) {
  const TemporaryFolder folder;
  const EventWriter first(folder.path());
  const EventWriter second(folder.path());
  EXPECT_NE(first.path(), second.path());
}

TEST(EventWriter, NamesTheFolderItCannotMake) {
  EXPECT_EQ(message_of<RunError>([] { EventWriter("/dev/null/run"); }),
            "cannot create the folder /dev/null/run: Not a directory");
}

}  // namespace
}  // namespace hyena::io
