// Scratch memory for the kernels: aligned, grows, is kept.
#pragma once

#include <cstddef>

namespace hyena::kernels {

/// A buffer that only grows. Keep one per thread, and one per spectrum: pages that were touched
/// before cost nothing, fresh ones cost more than the kernels at small sizes. Large buffers ask for
/// huge pages, which transforms of long sequences need: their passes walk a page per row otherwise.
class Workspace {
 public:
  Workspace() = default;
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// At least `bytes` on a 64-byte boundary, valid until the next call; contents are lost.
  /// @throws std::bad_alloc
  [[nodiscard]] void* at_least(std::size_t bytes);

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace hyena::kernels
