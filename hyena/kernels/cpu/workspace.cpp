#include "hyena/kernels/workspace.h"

#include <cstdlib>
#include <new>

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
#ifdef __linux__
  if (boundary == kHugePage) {
    static_cast<void>(madvise(data_, bytes_, MADV_HUGEPAGE));  // advice: failing costs only speed
  }
#endif
  return data_;
}

}  // namespace hyena::kernels
