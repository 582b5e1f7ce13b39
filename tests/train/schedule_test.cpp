#include "hyena/train/schedule.h"

#include <gtest/gtest.h>

namespace hyena::train {
namespace {

TEST(Schedule, CosineIsThePublishedOne) {
  const ScheduleOptions options{.kind = "cosine",
                                .warmup_steps = 100,
                                .decay_steps = 10000,
                                .initial_lr = 1e-6,
                                .min_lr = 6e-5};
  const double base = 6e-4;
  EXPECT_DOUBLE_EQ(learning_rate(options, 0, base), 1e-6);
  EXPECT_DOUBLE_EQ(learning_rate(options, 50, base), 1e-6 + 0.5 * (6e-4 - 1e-6));
  EXPECT_DOUBLE_EQ(learning_rate(options, 99, base), 1e-6 + 0.99 * (6e-4 - 1e-6));
  // Not shifted by the warm-up: at t = 100 the cosine stands at pi/100, cos = 0.99950656036573...
  EXPECT_NEAR(learning_rate(options, 100, base), 6e-5 + 2.7e-4 * 1.9995065603657316, 1e-18);
  EXPECT_NEAR(learning_rate(options, 5000, base), 3.3e-4, 1e-18);
  EXPECT_DOUBLE_EQ(learning_rate(options, 10000, base), 6e-5);
  EXPECT_DOUBLE_EQ(learning_rate(options, 123456, base), 6e-5);
  // initial and minimum are absolute: a group with another rate meets the same ends.
  EXPECT_DOUBLE_EQ(learning_rate(options, 0, 1e-3), 1e-6);
  EXPECT_DOUBLE_EQ(learning_rate(options, 10000, 1e-3), 6e-5);
}

TEST(Schedule, LinearGoesToZero) {
  const ScheduleOptions options{.kind = "linear", .warmup_steps = 10, .decay_steps = 110};
  EXPECT_DOUBLE_EQ(learning_rate(options, 0, 2.0), 0.0);
  EXPECT_DOUBLE_EQ(learning_rate(options, 5, 2.0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(options, 10, 2.0), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(options, 60, 2.0), 1.0);
  EXPECT_DOUBLE_EQ(learning_rate(options, 110, 2.0), 0.0);
  EXPECT_DOUBLE_EQ(learning_rate(options, 111, 2.0), 0.0);
}

TEST(Schedule, ConstantStaysAfterItsWarmUp) {
  const ScheduleOptions options{.kind = "constant", .warmup_steps = 4, .decay_steps = 5};
  EXPECT_DOUBLE_EQ(learning_rate(options, 1, 2.0), 0.5);
  EXPECT_DOUBLE_EQ(learning_rate(options, 4, 2.0), 2.0);
  EXPECT_DOUBLE_EQ(learning_rate(options, 4000, 2.0), 2.0);
}

TEST(Schedule, WithoutWarmUpStartsAtTheBase) {
  const ScheduleOptions options{.kind = "cosine", .warmup_steps = 0, .decay_steps = 10};
  EXPECT_DOUBLE_EQ(learning_rate(options, 0, 2.0), 2.0);
}

}  // namespace
}  // namespace hyena::train
