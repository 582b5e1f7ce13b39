#include "hyena/generate/sampler.h"

#include <algorithm>
#include <cmath>

#include "hyena/base/error.h"

namespace hyena::generate {

Sampler::Sampler(const SamplerOptions& options) : options_(options), generator_(options.seed) {
  if (!(options.temperature >= 0.0) || !std::isfinite(options.temperature)) {
    throw user_error("temperature: expected a number of at least 0, got {}", options.temperature);
  }
  if (options.top_k < 0) {
    throw user_error("top_k: expected at least 0, got {}", options.top_k);
  }
  if (!(options.top_p > 0.0 && options.top_p <= 1.0)) {
    throw user_error("top_p: expected a number above 0 and at most 1, got {}", options.top_p);
  }
}

std::int64_t Sampler::next(std::span<const float> logits) {
  candidates_.clear();
  for (std::size_t id = 0; id < logits.size(); ++id) {
    candidates_.emplace_back(static_cast<double>(logits[id]), static_cast<std::int64_t>(id));
    if (std::isnan(logits[id])) {
      throw run_error("the model's output for token {} is not a number", id);
    }
  }
  const auto is_likelier = [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  };
  const auto best = std::min_element(candidates_.begin(), candidates_.end(), is_likelier);
  if (best == candidates_.end() || !std::isfinite(best->first)) {
    throw run_error("the model's output holds no finite value");
  }
  if (options_.temperature == 0.0) {
    return best->second;
  }
  const double highest = best->first;
  const auto k = static_cast<std::size_t>(options_.top_k);
  if (k > 0 && k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(),
                     is_likelier);
    candidates_.resize(k);
  }
  std::sort(candidates_.begin(), candidates_.end(), is_likelier);
  double total = 0.0;
  for (auto& [value, id] : candidates_) {
    value = std::exp((value - highest) / options_.temperature);  // at most 1
    total += value;
  }
  if (options_.top_p < 1.0) {
    double mass = 0.0;
    std::size_t kept = 0;
    while (kept < candidates_.size() && mass < options_.top_p * total) {
      mass += candidates_[kept].first;
      ++kept;
    }
    candidates_.resize(kept);
    total = mass;
  }
  // 53 random bits: std::uniform_real_distribution differs between standard libraries.
  double rest = std::ldexp(static_cast<double>(generator_() >> 11U), -53) * total;
  for (const auto& [weight, id] : candidates_) {
    rest -= weight;
    if (rest < 0.0) {
      return id;
    }
  }
  return candidates_.front().second;  // rounding left a sliver
}

}  // namespace hyena::generate
