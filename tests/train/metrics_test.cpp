#include "hyena/train/metrics.h"

#include <gtest/gtest.h>

namespace hyena::train {
namespace {

TEST(Metrics, ResumedRunKeepsWholeLinesUpToItsStep) {
  const std::string one = "{\"step\":1,\"train_loss\":2.5}\n";
  const std::string two = "{\"step\":2,\"train_loss\":2.25}\n";
  const std::string scored = "{\"step\":2,\"valid_loss\":2}\n";
  const std::string three = "{\"step\":3,\"train_loss\":2}\n";
  EXPECT_EQ(lines_until(one + two + scored + three, 2), one + two + scored);
  EXPECT_EQ(lines_until(one + two.substr(0, 12), 2), one) << "torn by a kill";
  EXPECT_EQ(lines_until(one + "garbage\n[1]\n{\"step\":\"x\"}\n" + two, 9), one + two);
  EXPECT_EQ(lines_until("", 5), "");
  EXPECT_EQ(lines_until(one, 0), "");
}

}  // namespace
}  // namespace hyena::train
