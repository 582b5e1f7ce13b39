// Filters of evaluation mode, kept until something they were made from changes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include <ATen/core/Tensor.h>

#include "hyena/ops/prepared_filters.h"

namespace hyena::nn {

using ops::PreparedFilters;

/// Holds one set of filters, (M, D, K), and with it their spectra. A change of its sources is
/// noticed when LibTorch counts it: an operation in place (an optimizer, a loaded checkpoint),
/// another dtype or device, other data. What writes to the memory uncounted is not: data_ptr(),
/// .data(), LibTorch's fused optimizer kernels, a replayed CUDA graph. Calls from several threads
/// are safe; on CUDA they share one stream, or the caller orders them.
class FilterCache {
 public:
  using Shared = std::shared_ptr<const PreparedFilters>;
  using Make = std::function<Shared(std::int64_t)>;

  /// What `make(n)` gave for some n with length <= n <= longest; `make` must give prefixes of one
  /// another (LongFilter::filters). `make` runs again when a source changed, for longer filters (n
  /// doubles, so that generation of one token after another makes few), and always where the result
  /// could need a gradient.
  [[nodiscard]] Shared get(const std::vector<at::Tensor>& sources, std::int64_t length,
                           std::int64_t longest, const Make& make);
  void clear();

 private:
  /// Keeps the memory alive, so that its address cannot come back with other contents.
  struct Source {
    at::Tensor alias;
    std::uint32_t version = 0;
    [[nodiscard]] bool is(const at::Tensor& tensor) const;
  };

  [[nodiscard]] bool is_current(const std::vector<at::Tensor>& sources, std::int64_t length) const;

  std::mutex mutex_;
  std::vector<Source> sources_;
  std::int64_t made_for_ = 0;  // 0: empty
  Shared filters_;
};

}  // namespace hyena::nn
