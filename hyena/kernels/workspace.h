// Scratch memory for the kernels: aligned, grows, is kept.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace hyena::kernels {

/// A buffer that only grows. Keep one per thread: pages that were touched
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

/// Workspaces that are lent and come back; any number of threads may share one pool. It keeps the
/// buffers that were in use at one time, less those above kMostBytesKept.
class WorkspacePool {
 public:
  static constexpr std::size_t kMostBytesKept = std::size_t{256} << 20;

  /// A buffer until its destruction.
  class Lease {
   public:
    Lease(WorkspacePool& pool, std::size_t bytes);
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    [[nodiscard]] void* data() const { return data_; }

   private:
    WorkspacePool& pool_;
    std::unique_ptr<Workspace> workspace_;
    void* data_;
    std::size_t bytes_;
  };

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

/// Asks for huge pages behind [data, data + bytes), for memory that nothing was written to yet:
/// fewer page faults now and fewer page walks after. Nothing happens where the system has none.
void advise_huge_pages(void* data, std::size_t bytes);

}  // namespace hyena::kernels
