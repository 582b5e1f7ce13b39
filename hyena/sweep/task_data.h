// The rows of a cell as tensors on its device.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "hyena/sweep/grid.h"

namespace hyena::sweep {

/// Training, validation and test rows, generated up front (training rows on demand where they are
/// fresh), of three different seeds. Stored as bytes where the vocabulary allows it.
class TaskData {
 public:
  TaskData(const TaskOptions& options, at::Device device);

  /// int64 (count, T): rows number first .. first+count-1 of an endless training sequence, in which
  /// every epoch has an order of its own; a function of the cell's seed and `first` alone.
  [[nodiscard]] at::Tensor train_rows(std::int64_t first, std::int64_t count);

  [[nodiscard]] const at::Tensor& valid() const { return valid_NT_; }  ///< convert rows to int64
  [[nodiscard]] const at::Tensor& test() const { return test_NT_; }
  [[nodiscard]] std::int64_t first_trained() const { return shape_.first_trained; }
  [[nodiscard]] std::int64_t first_scored() const { return shape_.first_scored; }

 private:
  [[nodiscard]] at::Tensor make(std::int64_t examples, std::int64_t seed) const;
  [[nodiscard]] std::int64_t place(std::int64_t sample);

  TaskOptions options_;
  at::Device device_;
  data::SyntheticSet shape_;
  at::Tensor train_NT_, valid_NT_, test_NT_;
  std::int64_t epoch_ = -1;  // whose order it is
  std::vector<std::int64_t> order_;
  std::int64_t window_first_ = 0;  // of the samples whose rows window_ holds
  at::Tensor window_;              // int64, on the device
};

}  // namespace hyena::sweep
