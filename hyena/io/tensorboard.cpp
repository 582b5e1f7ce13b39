#include "hyena/io/tensorboard.h"

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <string>

#include <fmt/format.h>
#include <unistd.h>

#include "hyena/io/atomic_file.h"

namespace hyena::io {
namespace {

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) {
      remainder = (remainder >> 1U) ^ ((remainder & 1U) != 0 ? 0x82F63B78U : 0U);
    }
    table.at(byte) = remainder;
  }
  return table;
}

template <typename T>
std::string little_endian(T value) {
  static_assert(std::endian::native == std::endian::little);
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::uint32_t masked_crc(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8U;
}

// Protocol buffers: a field is (number << 3 | wire type), then its value.
constexpr std::uint64_t kVarint = 0;
constexpr std::uint64_t kFixed64 = 1;
constexpr std::uint64_t kBytes = 2;
constexpr std::uint64_t kFixed32 = 5;

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7U) {
    bytes += static_cast<char>(static_cast<unsigned char>(value | 0x80U));
  }
  return bytes += static_cast<char>(value);
}

std::string key(std::uint64_t field, std::uint64_t wire_type) {
  return varint(field << 3U | wire_type);
}

std::string bytes_field(std::uint64_t field, std::string_view bytes) {
  return key(field, kBytes).append(varint(bytes.size())).append(bytes);
}

/// Event: wall_time = 1.
std::string wall_time() {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return key(1, kFixed64) + little_endian(now.count());
}

std::filesystem::path event_file_name(const std::filesystem::path& folder) {
  static std::atomic<int> counter{0};  // two writers of one process and second must not collide
  std::array<char, 256> host{};
  ::gethostname(host.data(), host.size() - 1);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  return folder / fmt::format("events.out.tfevents.{}.{}.{}.{}", seconds, host.data(), ::getpid(),
                              counter++);
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_crc_table();
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc = kTable.at((crc ^ static_cast<unsigned char>(byte)) & 0xFFU) ^ (crc >> 8U);
  }
  return ~crc;
}

EventWriter::EventWriter(const std::filesystem::path& folder)
    : file_((make_directories(folder), event_file_name(folder)), FileWriter::Open::kNew) {
  write_record(wall_time() + bytes_field(3, "brain.Event:2"));  // file_version = 3
}

void EventWriter::add_scalar(std::string_view tag, std::int64_t step, double value) {
  // Event: step = 2, summary = 5; Summary: value = 1; Value: tag = 1, simple_value = 2.
  const std::string point =
      bytes_field(1, tag) + key(2, kFixed32) + little_endian(static_cast<float>(value));
  write_record(wall_time() + key(2, kVarint) + varint(static_cast<std::uint64_t>(step)) +
               bytes_field(5, bytes_field(1, point)));
}

void EventWriter::write_record(std::string_view payload) {
  const std::uint64_t size = payload.size();
  const std::string length = little_endian(size);
  file_.write(length);
  file_.write(little_endian(masked_crc(length)));
  file_.write(payload);
  file_.write(little_endian(masked_crc(payload)));
  file_.flush();
}

}  // namespace hyena::io
