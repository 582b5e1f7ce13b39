#include "hyena/ops/prepared_filters.h"

#include <utility>

namespace hyena::ops {

PreparedFilters::PreparedFilters(at::Tensor h_MDK, std::optional<at::Tensor> skip_MD)
    : h_MDK_(std::move(h_MDK)),
      skip_MD_(std::move(skip_MD)),
      kept_(static_cast<std::size_t>(h_MDK_.size(0))) {}

at::Tensor PreparedFilters::spectrum(std::int64_t o, const SpectrumKey& key,
                                     const std::function<at::Tensor()>& make) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  Kept& kept = kept_.at(static_cast<std::size_t>(o));
  if (!kept.spectrum.defined() || kept.key != key) {
    kept = {};  // the old one's memory serves the new one
    kept = {key, make()};
  }
  return kept.spectrum;
}

}  // namespace hyena::ops
