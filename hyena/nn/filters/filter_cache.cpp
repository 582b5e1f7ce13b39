#include "hyena/nn/filters/filter_cache.h"

#include <algorithm>
#include <bit>
#include <utility>

#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/variable.h>

namespace hyena::nn {

bool FilterCache::Source::is(const at::Tensor& tensor) const {
  return alias.data_ptr() == tensor.data_ptr() && version == tensor._version() &&
         alias.scalar_type() == tensor.scalar_type() && alias.sizes() == tensor.sizes() &&
         alias.strides() == tensor.strides();
}

bool FilterCache::is_current(const std::vector<at::Tensor>& sources, std::int64_t length) const {
  // An inference tensor must not reach code that saves it for a gradient of something else.
  return length <= made_for_ && filters_->h().is_inference() <= c10::InferenceMode::is_enabled() &&
         std::ranges::equal(sources_, sources,
                            [](const Source& a, const at::Tensor& b) { return a.is(b); });
}

FilterCache::Shared FilterCache::get(const std::vector<at::Tensor>& sources, std::int64_t length,
                                     std::int64_t longest, const Make& make) {
  const bool needs_gradient =
      c10::GradMode::is_enabled() &&
      std::ranges::any_of(sources, [](const at::Tensor& t) { return t.requires_grad(); });
  const bool is_countable =
      std::ranges::none_of(sources, [](const at::Tensor& t) { return t.is_inference(); });
  if (needs_gradient || !is_countable) {
    return make(length);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!is_current(sources, length)) {
    const auto doubled =
        static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(length)));
    const std::int64_t taps = std::max(length, std::min(longest, doubled));
    // Versions from before `make`: what changes meanwhile is a change.
    std::vector<Source> current;
    current.reserve(sources.size());
    for (const at::Tensor& tensor : sources) {
      current.push_back({tensor.variable_data(), static_cast<std::uint32_t>(tensor._version())});
    }
    filters_ = make(taps);
    made_for_ = taps;
    sources_ = std::move(current);
  }
  return filters_;
}

void FilterCache::clear() {
  const std::lock_guard<std::mutex> lock(mutex_);
  sources_.clear();
  made_for_ = 0;
  filters_.reset();
}

}  // namespace hyena::nn
