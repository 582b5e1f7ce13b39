#include "hyena/data/batch_loader.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "hyena/base/error.h"
#include "hyena/data/hash.h"
#include "hyena/io/field_reader.h"

namespace hyena::data {
namespace {

/// Independent draws of one epoch.
enum class Draw : std::uint64_t { kOrder, kOffset };

std::uint64_t epoch_key(std::int64_t seed, std::int64_t epoch, Draw draw) {
  const std::uint64_t base = mix64(static_cast<std::uint64_t>(seed));
  return mix64(mix64(base ^ static_cast<std::uint64_t>(epoch)) + static_cast<std::uint64_t>(draw));
}

void require_positive(const char* name, std::int64_t value) {
  if (value < 1) {
    throw user_error("{}: expected at least 1, got {}", name, value);
  }
}

}  // namespace

std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t key) {
  const auto limit = static_cast<std::uint64_t>(size);
  const int half_bits = std::max(1, (static_cast<int>(std::bit_width(limit - 1)) + 1) / 2);
  const std::uint64_t mask = (std::uint64_t{1} << half_bits) - 1;
  auto value = static_cast<std::uint64_t>(index);
  do {
    std::uint64_t left = value >> half_bits;
    std::uint64_t right = value & mask;
    for (std::uint64_t round = 0; round < 6; ++round) {
      const std::uint64_t mixed = mix64(key ^ mix64(right + (round << 56U))) & mask;
      left = std::exchange(right, left ^ mixed);
    }
    value = left << half_bits | right;
  } while (value >= limit);
  return static_cast<std::int64_t>(value);
}

BatchLoader::BatchLoader(std::shared_ptr<const Corpus> corpus, const BatchLoaderOptions& options)
    : corpus_(std::move(corpus)), options_(options) {
  require_positive("sequence length", options.sequence_length);
  require_positive("batch size", options.batch_size);
  const std::int64_t targets = corpus_->num_tokens() - 1;
  if (targets < options.sequence_length) {
    throw user_error(
        "the text is shorter than one sequence: it has {} tokens, a sequence of {} needs {}",
        corpus_->num_tokens(), options.sequence_length, options.sequence_length + 1);
  }
  // With random offsets the same number of windows must fit behind every offset.
  const bool is_shifted = options.offset == BatchLoaderOptions::Offset::kRandom;
  const std::int64_t longest_offset = is_shifted ? options.sequence_length - 1 : 0;
  num_windows_ = std::max<std::int64_t>(1, (targets - longest_offset) / options.sequence_length);
}

std::int64_t BatchLoader::window_begin(std::int64_t epoch, std::int64_t index) const {
  const std::int64_t length = options_.sequence_length;
  std::int64_t offset = 0;
  if (options_.offset == BatchLoaderOptions::Offset::kRandom) {
    const std::int64_t room = corpus_->num_tokens() - 1 - num_windows_ * length;
    const auto choices = static_cast<std::uint64_t>(std::min(length, room + 1));
    const std::uint64_t draw = epoch_key(options_.seed, epoch, Draw::kOffset);
    offset = static_cast<std::int64_t>(draw % choices);
  }
  const std::uint64_t key = epoch_key(options_.seed, epoch, Draw::kOrder);
  return offset + permuted(index, num_windows_, key) * length;
}

void BatchLoader::next(std::int64_t* inputs_BL, std::int64_t* targets_BL) {
  const std::int64_t length = options_.sequence_length;
  std::vector<std::int64_t> window(static_cast<std::size_t>(length + 1));
  for (std::int64_t b = 0; b < options_.batch_size; ++b) {
    corpus_->copy(window_begin(epoch(), samples_ % num_windows_), window);
    std::copy_n(window.begin(), length, inputs_BL + b * length);
    std::copy_n(window.begin() + 1, length, targets_BL + b * length);
    ++samples_;
  }
}

io::Json BatchLoader::state() const {
  io::Json state;
  state["samples"] = samples_;
  state["seed"] = options_.seed;
  state["sequence_length"] = options_.sequence_length;
  state["random_offset"] = options_.offset == BatchLoaderOptions::Offset::kRandom;
  state["num_tokens"] = corpus_->num_tokens();
  return state;
}

void BatchLoader::restore(const io::Json& state) {
  io::FieldReader reader(state, "data");
  std::int64_t samples = 0;
  if (!reader.read("samples", samples, {.min = 0})) {
    throw user_error("data.samples: missing in the saved state");
  }
  io::Json expected = this->state();
  for (const auto& [key, value] : expected.items()) {
    const io::Json* saved = reader.find(key);
    if (key != "samples" && (saved == nullptr || *saved != value)) {
      throw user_error("cannot resume: data.{} was {}, is now {}", key,
                       saved == nullptr ? "absent" : saved->dump(), value.dump());
    }
  }
  reader.finish();
  samples_ = samples;
}

EvalWindows::EvalWindows(std::shared_ptr<const Corpus> corpus, std::int64_t sequence_length,
                         std::int64_t stride)
    : corpus_(std::move(corpus)), sequence_length_(sequence_length), stride_(stride) {
  require_positive("sequence length", sequence_length);
  if (stride < 1 || stride > sequence_length) {
    throw user_error("stride: expected 1 to the sequence length {}, got {}", sequence_length,
                     stride);
  }
  for (const Corpus::File& file : corpus_->files()) {
    const std::int64_t targets = file.end - file.begin - 1;
    if (targets > 0) {
      files_.push_back({.begin = file.begin, .targets = targets, .first_window = size_});
      const std::int64_t further = std::max<std::int64_t>(0, targets - sequence_length);
      size_ += 1 + (further + stride - 1) / stride;
      num_targets_ += targets;
    }
  }
  if (size_ == 0) {
    throw user_error("nothing to score: no file has two tokens (the first is context only)");
  }
}

void EvalWindows::fill(std::int64_t first, std::int64_t count, std::int64_t* inputs_BL,
                       std::int64_t* targets_BL) const {
  std::fill_n(inputs_BL, count * sequence_length_, 0);
  std::fill_n(targets_BL, count * sequence_length_, kIgnored);
  std::vector<std::int64_t> tokens;
  for (std::int64_t row = 0; row < count; ++row) {
    const auto file = std::prev(std::upper_bound(
        files_.begin(), files_.end(), first + row,
        [](std::int64_t window, const File& f) { return window < f.first_window; }));
    const std::int64_t step = first + row - file->first_window;
    const auto end_of_window = [&](std::int64_t k) {
      return k < 0 ? 0 : std::min(file->targets, sequence_length_ + k * stride_);
    };
    const std::int64_t end = end_of_window(step);
    const std::int64_t begin = std::max<std::int64_t>(0, end - sequence_length_);
    tokens.resize(static_cast<std::size_t>(end - begin + 1));
    corpus_->copy(file->begin + begin, tokens);
    std::copy(tokens.begin(), tokens.end() - 1, inputs_BL + row * sequence_length_);
    const std::int64_t unscored = end_of_window(step - 1) - begin;
    std::copy(tokens.begin() + 1 + unscored, tokens.end(),
              targets_BL + row * sequence_length_ + unscored);
  }
}

}  // namespace hyena::data
