#include "hyena/kernels/workspace.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace hyena::kernels {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::uintptr_t address(const void* data) {
  return reinterpret_cast<std::uintptr_t>(data);
}

TEST(Workspace, IsAlignedAndWritableAtEverySize) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{63}, std::size_t{64}, std::size_t{65},
                                  kPage + 1, kHugePage - 1, kHugePage, kHugePage + 1}) {
    Workspace workspace;
    auto* data = static_cast<unsigned char*>(workspace.at_least(bytes));
    EXPECT_EQ(address(data) % (bytes >= kHugePage ? kHugePage : 64), 0U) << bytes;
    std::fill_n(data, bytes, 0xA5);
    EXPECT_EQ(std::count(data, data + bytes, 0xA5), static_cast<std::ptrdiff_t>(bytes));
  }
}

TEST(Workspace, OnlyGrows) {
  Workspace workspace;
  const void* large = workspace.at_least(kHugePage);
  EXPECT_EQ(workspace.at_least(1), large);
  EXPECT_EQ(workspace.at_least(0), large);
  EXPECT_EQ(workspace.at_least(kHugePage), large);
}

// Large, so that what the allocator gives for 64 bytes is not the same by chance.
TEST(WorkspacePool, LendsWhatCameBack) {
  WorkspacePool pool;
  const void* first = nullptr;
  {
    const WorkspacePool::Lease lease(pool, kHugePage);
    first = lease.data();
  }
  const WorkspacePool::Lease again(pool, 64);
  EXPECT_EQ(again.data(), first);
  const WorkspacePool::Lease other(pool, 64);
  EXPECT_NE(other.data(), first) << "lent twice";
}

TEST(WorkspacePool, KeepsAsManyAsWereInUseAtOneTime) {
  constexpr std::size_t kCount = 5;
  WorkspacePool pool;
  const auto lend = [&](std::size_t bytes) {
    std::vector<std::unique_ptr<WorkspacePool::Lease>> leases;
    std::vector<const void*> blocks;
    for (std::size_t i = 0; i < kCount; ++i) {
      leases.push_back(std::make_unique<WorkspacePool::Lease>(pool, bytes));
      blocks.push_back(leases.back()->data());
    }
    std::sort(blocks.begin(), blocks.end());
    EXPECT_EQ(std::unique(blocks.begin(), blocks.end()), blocks.end()) << "lent twice";
    return blocks;
  };
  const auto blocks = lend(kHugePage);
  EXPECT_EQ(lend(64), blocks);
  EXPECT_EQ(lend(kHugePage), blocks);
}

// Address space only: nothing but one page is touched. A block that is kept keeps its contents.
TEST(WorkspacePool, GivesBackWhatIsTooLargeToKeep) {
  for (const bool kept : {true, false}) {
    WorkspacePool pool;
    const std::size_t bytes = WorkspacePool::kMostBytesKept + (kept ? 0 : 1);
    constexpr unsigned char kMark = 0x5A;
    {
      const WorkspacePool::Lease lease(pool, bytes);
      static_cast<unsigned char*>(lease.data())[kPage] = kMark;
    }
    const WorkspacePool::Lease lease(pool, kHugePage);
    EXPECT_EQ(static_cast<const unsigned char*>(lease.data())[kPage] == kMark, kept) << bytes;
  }
}

// Each thread writes its own number into its block and finds nothing else there. Blocks are small
// and go back at once, so that threads are in the pool most of the time: ThreadSanitizer then sees
// a missing lock for certain, two cores most of the time.
TEST(WorkspacePool, ThreadsNeverShareABlock) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 2'000'000;
  WorkspacePool pool;
  std::vector<int> foreign(kThreads);
  std::latch start(kThreads);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int id = 0; id < kThreads; ++id) {
    threads.emplace_back([&pool, &foreign, &start, id] {
      start.arrive_and_wait();
      for (int round = 0; round < kRounds; ++round) {
        const WorkspacePool::Lease lease(pool, static_cast<std::size_t>(64 * (1 + round % 3)));
        auto* data = static_cast<volatile int*>(lease.data());
        for (int i = 0; i < 16; ++i) {
          data[i] = id;
        }
        for (int i = 0; i < 16; ++i) {
          foreign[static_cast<std::size_t>(id)] += data[i] != id;
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(foreign, std::vector<int>(kThreads));
}

}  // namespace
}  // namespace hyena::kernels
