#include "hyena/kernels/workspace.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace hyena::kernels {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kCacheLine = 64;

}  // namespace

Workspace::~Workspace() {
  std::free(data_);
}

void* Workspace::at_least(std::size_t bytes) {
  if (bytes <= bytes_) {
    return data_;
  }
  const std::size_t boundary = bytes >= kHugePage ? kHugePage : kCacheLine;
  const std::size_t rounded = (bytes + boundary - 1) / boundary * boundary;
  std::free(data_);
  bytes_ = 0;
  data_ = std::aligned_alloc(boundary, rounded);
  if (data_ == nullptr) {
    throw std::bad_alloc();
  }
  bytes_ = rounded;
  advise_huge_pages(data_, bytes_);
  return data_;
}

WorkspacePool::Lease::Lease(WorkspacePool& pool, std::size_t bytes) : pool_(pool), bytes_(bytes) {
  {
    const std::lock_guard lock(pool_.mutex_);
    if (!pool_.free_.empty()) {
      workspace_ = std::move(pool_.free_.back());
      pool_.free_.pop_back();
    }
  }
  if (workspace_ == nullptr) {
    workspace_ = std::make_unique<Workspace>();
  }
  data_ = workspace_->at_least(bytes);
}

WorkspacePool::Lease::~Lease() {
  if (bytes_ <= kMostBytesKept) {
    const std::lock_guard lock(pool_.mutex_);
    pool_.free_.push_back(std::move(workspace_));
  }
}

void advise_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] std::size_t bytes) {
#ifdef __linux__
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  const std::uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const std::uintptr_t last = (begin + bytes) / kHugePage * kHugePage;
  if (first < last) {  // advice: failing costs only speed
    static_cast<void>(
        madvise(static_cast<std::byte*>(data) + (first - begin), last - first, MADV_HUGEPAGE));
  }
#endif
}

}  // namespace hyena::kernels
