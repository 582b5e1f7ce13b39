#include "hyena/sweep/task_data.h"

#include <numeric>
#include <random>
#include <utility>

#include <torch/torch.h>

namespace hyena::sweep {
namespace {

// Three streams per seed that never meet for seeds below 2^40.
constexpr std::int64_t kStreams = 3;
enum Stream : std::int64_t { kTrain, kValid, kTest };
constexpr std::int64_t kFreshSeeds = std::int64_t{1} << 42;
constexpr std::int64_t kBatchesPerCopy = 256;

}  // namespace

TaskData::TaskData(const TaskOptions& options, at::Device device)
    : options_(options), device_(device), shape_(data::synthetic_shape(options.synthetic)) {
  window_ = at::empty({0}, at::kLong);
  const std::int64_t base = options.synthetic.seed * kStreams;
  if (!options.fresh) {
    train_NT_ = make(options.synthetic.examples, base + kTrain);
  }
  valid_NT_ = make(options.valid_examples, base + kValid);
  test_NT_ = make(options.test_examples, base + kTest);
}

at::Tensor TaskData::make(std::int64_t examples, std::int64_t seed) const {
  data::SyntheticOptions options = options_.synthetic;
  options.examples = examples;
  options.seed = seed;
  data::SyntheticSet set = data::make_synthetic(options);
  const at::Tensor tokens =
      at::from_blob(set.tokens_NT.data(), {examples, set.row_tokens}, at::kInt);
  const bool is_small = set.vocab_size <= 256;
  return is_small ? tokens.to(at::kByte).to(device_) : tokens.clone().to(device_);
}

std::int64_t TaskData::place(std::int64_t sample) {
  const std::int64_t N = options_.synthetic.examples;
  if (sample / N != epoch_) {
    epoch_ = sample / N;
    order_.resize(static_cast<std::size_t>(N));
    std::iota(order_.begin(), order_.end(), 0);
    std::seed_seq seeds{options_.synthetic.seed, epoch_};
    std::mt19937_64 random(seeds);
    for (std::size_t i = order_.size(); i > 1; --i) {  // std::shuffle differs between libraries
      std::swap(order_[i - 1], order_[random() % i]);
    }
  }
  return order_[static_cast<std::size_t>(sample % N)];
}

at::Tensor TaskData::train_rows(std::int64_t first, std::int64_t count) {
  if (options_.fresh) {
    return make(count, kFreshSeeds + options_.synthetic.seed * kFreshSeeds + first).to(at::kLong);
  }
  if (first < window_first_ || first + count > window_first_ + window_.numel()) {
    // Many batches' places at once: a copy from the host waits for the device.
    std::vector<std::int64_t> rows;
    for (std::int64_t i = 0; i < count * kBatchesPerCopy; ++i) {
      rows.push_back(place(first + i));
    }
    window_first_ = first;
    window_ = at::tensor(rows).to(device_);
  }
  return train_NT_.index_select(0, window_.narrow(0, first - window_first_, count)).to(at::kLong);
}

}  // namespace hyena::sweep
