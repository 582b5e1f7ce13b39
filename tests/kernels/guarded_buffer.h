// Memory that notices what a kernel should not do: filled with not-a-number, so that an element
// nobody wrote, or scratch read before it is written, shows in the result; and fenced by sentinels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace hyena::kernels {

template <class T>
class GuardedBuffer {
 public:
  explicit GuardedBuffer(std::size_t count) : count_(count), memory_(count + 2 * kFence) {
    const auto fence = static_cast<std::ptrdiff_t>(kFence * sizeof(T));
    auto* bytes = reinterpret_cast<std::uint8_t*>(memory_.data());
    std::fill_n(bytes, memory_.size() * sizeof(T), kNotANumber);
    std::fill_n(bytes, fence, kSentinel);
    std::fill_n(bytes + memory_.size() * sizeof(T) - fence, fence, kSentinel);
  }

  [[nodiscard]] T* data() { return memory_.data() + kFence; }
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] T& operator[](std::size_t i) { return memory_[kFence + i]; }

  /// False once something was written outside.
  [[nodiscard]] bool intact() const {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(memory_.data());
    const auto sentinel = [](std::uint8_t x) { return x == kSentinel; };
    return std::all_of(bytes, bytes + kFence * sizeof(T), sentinel) &&
           std::all_of(bytes + (kFence + count_) * sizeof(T), bytes + memory_.size() * sizeof(T),
                       sentinel);
  }

 private:
  static constexpr std::size_t kFence = 67;  // odd: the contents are never aligned by accident
  static constexpr std::uint8_t kNotANumber = 0xFF;  // of every floating-point type
  static constexpr std::uint8_t kSentinel = 0xA5;
  std::size_t count_;
  std::vector<T> memory_;
};

/// Memory that ends where the next page may not be read: whoever reads behind it, even what is then
/// thrown away, dies of it.
template <class T>
class UnreadableBehind {
 public:
  explicit UnreadableBehind(std::size_t count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = (count * sizeof(T) + page - 1) / page * page;
    bytes_ = bytes + page;
    pages_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages_ == MAP_FAILED) throw std::bad_alloc();
    auto* const end = static_cast<std::uint8_t*>(pages_) + bytes;
    if (mprotect(end, page, PROT_NONE) != 0) throw std::bad_alloc();
    data_ = reinterpret_cast<T*>(end) - count;
  }
  UnreadableBehind(const UnreadableBehind&) = delete;
  UnreadableBehind& operator=(const UnreadableBehind&) = delete;
  ~UnreadableBehind() { munmap(pages_, bytes_); }

  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] T& operator[](std::size_t i) { return data_[i]; }

 private:
  void* pages_ = nullptr;
  std::size_t bytes_ = 0;
  T* data_ = nullptr;
};

}  // namespace hyena::kernels
