// Memory of large outputs comes back, is bounded, and belongs to one tensor at a time.
#include "hyena/ops/kept_memory.h"

#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "hyena/ops/long_conv.h"

namespace hyena::ops::cpu {
namespace {

constexpr std::int64_t kMega = std::int64_t{1} << 20;

at::Tensor bytes(std::int64_t count) {
  return empty_kept({count}, at::kByte);
}

TEST(KeptMemory, AFreedBlockIsLentToWhatFillsThreeQuartersOfIt) {
  const auto kept = bytes_kept();
  const void* const block = bytes(8 * kMega).data_ptr();
  EXPECT_GE(bytes_kept(), kept);
  EXPECT_EQ(bytes(7 * kMega).data_ptr(), block);
  EXPECT_NE(bytes(9 * kMega).data_ptr(), block);
  EXPECT_NE(bytes(5 * kMega).data_ptr(), block);
}

TEST(KeptMemory, TwoTensorsNeverShareABlock) {
  at::Tensor a = bytes(4 * kMega).fill_(1);
  at::Tensor b = bytes(4 * kMega).fill_(2);
  const at::Tensor view = a.narrow(0, 5, 10);
  a = at::Tensor();  // the view still holds the block
  const at::Tensor c = bytes(4 * kMega).fill_(3);
  EXPECT_TRUE(view.eq(1).all().item<bool>());
  EXPECT_TRUE(b.eq(2).all().item<bool>());
}

TEST(KeptMemory, IsBounded) {
  for (std::int64_t i = 0; i < 12; ++i) {
    static_cast<void>(bytes((100 + 40 * i) * kMega));
    EXPECT_LE(bytes_kept(), kMostBytesKept);
  }
}

TEST(KeptMemory, SmallOrEmptyTensorsAreNotKept) {
  const auto kept = bytes_kept();
  static_cast<void>(bytes(kMega - 1));
  static_cast<void>(bytes(0));
  EXPECT_EQ(bytes_kept(), kept);
}

TEST(KeptMemory, ATensorGrowsLikeAnyOther) {
  at::Tensor x = bytes(2 * kMega).fill_(7);
  x.resize_({5 * kMega});
  EXPECT_TRUE(x.narrow(0, 0, 2 * kMega).eq(7).all().item<bool>());
}

TEST(KeptMemory, ThreadsAllocateAndFreeEachOthersTensors) {
  std::vector<at::Tensor> made(4);
  std::vector<std::thread> threads;
  for (std::uint8_t i = 0; i < 4; ++i) {
    threads.emplace_back([&made, i] {
      for (int round = 0; round < 20; ++round) {
        made[i] = bytes((2 + round % 3) * kMega).fill_(i);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (std::uint8_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(made[i].eq(i).all().item<bool>());
  }
}

// What a reused block held must not show: every element of an output is written.
TEST(KeptMemory, AnOutputInAUsedBlockIsTheSame) {
  const at::Tensor u = at::randn({1, 40, 9001}).transpose(1, 2).contiguous().transpose(1, 2);
  const at::Tensor h = at::randn({40, 9001});
  const at::Tensor first = long_conv(u, h).clone();
  for (int i = 0; i < 4; ++i) {
    empty_kept({1, 9001, 40}, at::kFloat).fill_(NAN);
  }
  EXPECT_TRUE(long_conv(u, h).equal(first));
}

}  // namespace
}  // namespace hyena::ops::cpu
