/// @file
/// Filters that many calls without gradient share: evaluation and generation.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "hyena/ops/hyena_mixer.h"

namespace hyena::ops {

/// What a spectrum depends on beside its filter; each kernel has its own meaning of the numbers.
using SpectrumKey = std::array<std::int64_t, 5>;

/// Filters and skips as hyena_mixer takes them, and the spectrum of each, made by the first call
/// that wants it. A later change of the tensors in place is not noticed. Calls from several threads
/// are safe; on CUDA they share one stream, or the caller orders them. A call inside a CUDA graph's
/// capture keeps nothing, and where it finds a spectrum the graph needs this object for as long as
/// it is replayed, with no call of another length meanwhile.
///
/// Memory: on the CPU a spectrum of D filters is 2 N D scalars, N the transform's points.
class PreparedFilters {
 public:
  PreparedFilters(at::Tensor h_MDK, std::optional<at::Tensor> skip_MD);

  [[nodiscard]] const at::Tensor& h() const { return h_MDK_; }
  [[nodiscard]] const std::optional<at::Tensor>& skip() const { return skip_MD_; }

  /// What `make` gave for filter o with this key. The latest key of every filter is kept.
  [[nodiscard]] at::Tensor spectrum(std::int64_t o, const SpectrumKey& key,
                                    const std::function<at::Tensor()>& make) const;

 private:
  struct Kept {
    SpectrumKey key{};
    at::Tensor spectrum;  // undefined: none yet
  };

  at::Tensor h_MDK_;
  std::optional<at::Tensor> skip_MD_;
  mutable std::mutex mutex_;
  mutable std::vector<Kept> kept_;
};

/// hyena_mixer with the first L taps of `filters`, which may have more: the same bits. No gradient
/// flows. @throws c10::ValueError as hyena_mixer.
[[nodiscard]] at::Tensor hyena_mixer_prepared(const at::Tensor& p_BCL,
                                              const at::Tensor& short_weight_CT,
                                              const std::optional<at::Tensor>& short_bias_C,
                                              const PreparedFilters& filters,
                                              MixerMode mode = MixerMode::kSafari);

}  // namespace hyena::ops
