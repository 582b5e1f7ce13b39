// How far our evaluation may be from a float32 reference, derived from the entry itself.
#pragma once

#include <algorithm>
#include <map>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/support/tensors.h"

namespace hyena::testing_support {

using Tensors = std::map<std::string, at::Tensor>;

/// What ran, printed at the end: a skipped comparison must be visible.
struct FixtureCounts {
  int entries = 0;
  int outputs = 0;
  int gradients = 0;
  int states = 0;
  std::map<std::string, int> skipped;
};
inline FixtureCounts& fixture_counts() {
  static FixtureCounts counts;
  return counts;
}

/// One class of tensors of an entry (its outputs, or its gradients).
///
/// The reference was computed in float32. Our float64 run has no rounding to speak of, so what is
/// left between the two is the reference's own rounding. How large that may be, our float32 run of
/// the same entry tells: it rounds the same formula in the same format, in another order. Per
/// tensor such errors are random; the largest over the class is what both have in common, and
/// a factor of 4 is more than two maxima over hundreds of numbers differ by. 2^-22 covers
/// entries so small that they round to nothing. An entry whose float32 run is off by 1e-3 has
/// a fault, not rounding: without that limit a broken float32 path would loosen its own bound.
///
/// float32 against float32 may be apart by both errors; never held tighter than `floor32`, the
/// customary 1e-5 for outputs and 1e-4 for gradients.
inline void compare_with_reference(const std::string& entry, const std::string& what,
                                   const Tensors& reference, const Tensors& in_float64,
                                   const Tensors& in_float32, double floor32) {
  double level = 0.0;
  for (const auto& [name, expected] : reference) {
    ASSERT_TRUE(in_float64.contains(name)) << entry << ": we have no " << what << " " << name;
    ASSERT_EQ(in_float64.at(name).sizes(), expected.sizes()) << entry << ": " << name;
    EXPECT_GT(expected.abs().max().item<double>(), 0.0) << entry << ": " << name << " is zero";
    level = std::max(level, relative_error(in_float32.at(name), in_float64.at(name)));
  }
  for (const auto& [name, ours] : in_float64) {
    EXPECT_TRUE(reference.contains(name))
        << entry << ": the reference has no " << what << " " << name;
  }
  EXPECT_LT(level, 1e-3) << entry << ": our float32 run is not rounding any more";
  const double bound64 = 4.0 * level + 0x1p-22;
  const double bound32 = std::max(floor32, bound64 + level);
  double worst64 = 0.0;
  double worst32 = 0.0;
  for (const auto& [name, expected] : reference) {
    const double error64 = relative_error(expected, in_float64.at(name));
    const double error32 = relative_error(in_float32.at(name), expected);
    EXPECT_LE(error64, bound64) << entry << ": " << name << ", our float64 run";
    EXPECT_LE(error32, bound32) << entry << ": " << name << ", our float32 run";
    worst64 = std::max(worst64, error64);
    worst32 = std::max(worst32, error32);
  }
  fmt::print("{}: {} {}: reference is {:.1e} from float64 (bound {:.1e}), {:.1e} from float32\n",
             entry, reference.size(), what, worst64, bound64, worst32);
}

}  // namespace hyena::testing_support
