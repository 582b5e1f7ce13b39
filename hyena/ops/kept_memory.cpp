#include "hyena/ops/kept_memory.h"

#include <algorithm>
#include <list>
#include <memory>
#include <mutex>

#include <ATen/EmptyTensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include "hyena/kernels/workspace.h"

namespace hyena::ops::cpu {
namespace {

struct Block {
  kernels::Workspace memory;
  std::size_t bytes = 0;
};

class KeptMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    if (bytes < kLeastBytesKept) {
      return c10::GetCPUAllocator()->allocate(bytes);
    }
    std::unique_ptr<Block> block = take(bytes);
    if (block == nullptr) {
      block = std::make_unique<Block>();
      block->bytes = bytes;
    }
    void* const data = block->memory.at_least(block->bytes);
    return {data, block.release(), &give_back, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  std::size_t bytes_kept() {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

  static KeptMemory& instance() {
    // Never destroyed: tensors may outlive every static object.
    static auto* const memory = new KeptMemory;
    return *memory;
  }

 private:
  static void give_back(void* block) {
    instance().keep(std::unique_ptr<Block>(static_cast<Block*>(block)));
  }

  /// The smallest free block for `bytes`, or null.
  std::unique_ptr<Block> take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    auto best = free_.end();
    for (auto block = free_.begin(); block != free_.end(); ++block) {
      const std::size_t size = (*block)->bytes;
      if (size >= bytes && size / 4 * 3 <= bytes &&
          (best == free_.end() || size < (*best)->bytes)) {
        best = block;
      }
    }
    if (best == free_.end()) {
      return nullptr;
    }
    std::unique_ptr<Block> block = std::move(*best);
    free_.erase(best);
    bytes_ -= block->bytes;
    return block;
  }

  void keep(std::unique_ptr<Block> block) {
    std::list<std::unique_ptr<Block>> evicted;  // unmapped after the lock is released
    const std::lock_guard lock(mutex_);
    bytes_ += block->bytes;
    free_.push_back(std::move(block));
    while (bytes_ > kMostBytesKept) {
      bytes_ -= free_.front()->bytes;
      evicted.splice(evicted.end(), free_, free_.begin());
    }
  }

  std::mutex mutex_;
  std::list<std::unique_ptr<Block>> free_;  // the oldest first
  std::size_t bytes_ = 0;
};

}  // namespace

at::Tensor empty_kept(at::IntArrayRef sizes, at::ScalarType type) {
  return at::detail::empty_generic(sizes, &KeptMemory::instance(),
                                   c10::DispatchKeySet(c10::DispatchKey::CPU), type, std::nullopt);
}

std::size_t bytes_kept() {
  return KeptMemory::instance().bytes_kept();
}

}  // namespace hyena::ops::cpu
