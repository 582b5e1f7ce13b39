// Cuts a caller's workspace into arrays. With a null base it only counts bytes, so that the size of
// a workspace and its use come from the same lines.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hyena::kernels::cpu {

class Arena {
 public:
  static constexpr std::size_t kAlignment = 64;  // a cache line, an AVX-512 vector

  explicit Arena(void* base) : base_(static_cast<std::byte*>(base)) {}

  template <class T>
  T* take(std::int64_t count) {
    std::byte* begin = base_ == nullptr ? nullptr : base_ + used_;
    used_ +=
        (static_cast<std::size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(begin);
  }

  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

}  // namespace hyena::kernels::cpu
