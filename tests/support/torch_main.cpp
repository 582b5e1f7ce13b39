// main() of the tests that use LibTorch: one thread. Their tensors are small, and OpenMP's threads
// wait for one another by spinning: on a busy machine the same tests took 40 times as long with
// two. What must hold for several threads is tested by asking for them.
#include <gtest/gtest.h>
#include <torch/torch.h>

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  return RUN_ALL_TESTS();
}
