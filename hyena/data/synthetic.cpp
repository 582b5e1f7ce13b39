#include "hyena/data/synthetic.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <span>
#include <unordered_set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"

namespace hyena::data {
namespace {

/// splitmix64: every row has a generator of its own, so that rows do not depend on one another.
class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t row) : state_(mix(seed) ^ mix(~row)) {}

  std::uint64_t next() { return mix(state_ += kGolden); }
  /// Uniform in [0, count), count < 2^31: the bias is below count / 2^32.
  std::int32_t below(std::int64_t count) {
    return static_cast<std::int32_t>(((next() >> 32) * static_cast<std::uint64_t>(count)) >> 32);
  }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  static constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15;
  static std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  std::uint64_t state_;
};

using Row = std::span<std::int32_t>;

void fill_recall(const SyntheticOptions& options, Random random, Row row, bool noisy) {
  const auto V = static_cast<std::int32_t>(options.vocab_size);
  const std::int32_t num_keys = (V - 2) / 2;
  const std::int32_t num_values = V - 2 - num_keys;
  std::vector<std::int32_t> value_of(static_cast<std::size_t>(num_keys));
  std::vector<bool> present(value_of.size());
  for (std::int32_t& value : value_of) {
    value = 1 + num_keys + random.below(num_values);
  }
  for (std::int64_t pair = 0; pair < options.length / 2; ++pair) {
    const auto at = static_cast<std::size_t>(2 * pair);
    if (noisy && pair > 0 && random.below(2) == 0) {
      row[at] = row[at + 1] = 0;
      continue;
    }
    const auto key = static_cast<std::size_t>(random.below(num_keys));
    present[key] = true;
    row[at] = static_cast<std::int32_t>(key) + 1;
    row[at + 1] = value_of[key];
  }
  std::size_t query = 0;
  do {
    query = static_cast<std::size_t>(random.below(num_keys));
  } while (!present[query]);
  row[row.size() - 3] = V - 1;
  row[row.size() - 2] = static_cast<std::int32_t>(query) + 1;
  row[row.size() - 1] = value_of[query];
}

void fill_induction_head(const SyntheticOptions& options, Random random, Row row) {
  const auto n = static_cast<std::size_t>(options.length);
  for (std::size_t i = 0; i < n; ++i) {
    row[i] = 1 + random.below(options.vocab_size - 2);
  }
  const auto trigger = static_cast<std::size_t>(random.below(options.length - 2));
  row[trigger] = row[n] = static_cast<std::int32_t>(options.vocab_size - 1);
  row[n + 1] = row[trigger + 1];
}

void fill_copy(const SyntheticOptions& options, Random random, Row row) {
  const std::size_t m = row.size() / 2;
  for (std::size_t i = 0; i < m; ++i) {
    row[i] = row[m + 1 + i] = 1 + random.below(options.vocab_size - 2);
  }
  row[m] = static_cast<std::int32_t>(options.vocab_size - 1);
}

void fill_majority(const SyntheticOptions& options, Random random, Row row) {
  std::vector<std::int64_t> count(static_cast<std::size_t>(options.vocab_size));
  const Row body = row.first(row.size() - 1);
  for (;;) {
    std::fill(count.begin(), count.end(), 0);
    for (std::int32_t& token : body) {
      token = random.below(options.vocab_size);
      ++count[static_cast<std::size_t>(token)];
    }
    const auto most = std::max_element(count.begin(), count.end());
    if (std::count(count.begin(), count.end(), *most) == 1) {
      row.back() = static_cast<std::int32_t>(most - count.begin());
      return;
    }
  }
}

void fill_counting(const SyntheticOptions& options, Random random, Row row) {
  const Row body = row.first(row.size() - 1);
  for (std::int32_t& token : body) {
    token = random.below(options.vocab_size);
  }
  const auto count = std::count(body.begin(), body.end(), body.back());
  row.back() = static_cast<std::int32_t>(options.vocab_size - 1 + count);
}

void fill_arithmetic(const SyntheticOptions& options, Random random, Row row) {
  const auto n = static_cast<std::size_t>(options.length);
  for (std::size_t i = 0; i < 2 * n; ++i) {
    row[i] = random.below(10);
  }
  std::int32_t carry = 0;
  for (std::size_t i = n; i-- > 0;) {  // from the least significant digit
    const std::int32_t sum = row[i] + row[n + i] + carry;
    row[2 * n + 1 + i] = sum % 10;
    carry = sum / 10;
  }
  row[2 * n] = carry;
}

void fill(const SyntheticOptions& options, const Random& random, Row row) {
  if (options.task == "associative_recall" || options.task == "noisy_recall") {
    fill_recall(options, random, row, options.task == "noisy_recall");
  } else if (options.task == "induction_head") {
    fill_induction_head(options, random, row);
  } else if (options.task == "copy") {
    fill_copy(options, random, row);
  } else if (options.task == "majority") {
    fill_majority(options, random, row);
  } else if (options.task == "counting") {
    fill_counting(options, random, row);
  } else {
    fill_arithmetic(options, random, row);
  }
}

std::uint64_t hash(Row row) {
  std::uint64_t h = 0xcbf29ce484222325;  // FNV-1a, a token at a time
  for (const std::int32_t token : row) {
    h = (h ^ static_cast<std::uint64_t>(token)) * 0x100000001b3;
    h ^= h >> 29;
  }
  return h;
}

void expect(bool holds, const char* what, const char* expected, std::int64_t got,
            const std::string& task) {
  if (!holds) {
    throw user_error("{}: {} needs {}, got {}", what, task, expected, got);
  }
}

}  // namespace

const std::vector<std::string>& synthetic_task_names() {
  static const std::vector<std::string> names{
      "associative_recall", "noisy_recall", "induction_head", "copy",
      "majority",           "counting",     "arithmetic"};
  return names;
}

SyntheticSet synthetic_shape(const SyntheticOptions& options) {
  const std::string& task = options.task;
  const std::int64_t n = options.length;
  const std::int64_t V = options.vocab_size;
  const auto& names = synthetic_task_names();
  if (std::find(names.begin(), names.end(), task) == names.end()) {
    throw user_error("task: expected one of {}, got '{}'{}", fmt::join(names, ", "), task,
                     did_you_mean(task, names));
  }
  if (options.examples < 1) {
    throw user_error("examples: expected at least 1, got {}", options.examples);
  }
  expect(n <= (std::int64_t{1} << 31) - 4, "length", "less than 2^31", n, task);
  expect(V <= (1 << 24), "vocab_size", "at most 2^24", V, task);
  SyntheticSet set{.examples = options.examples, .vocab_size = V};
  if (task == "associative_recall" || task == "noisy_recall") {
    expect(n >= 2, "length", "at least 2", n, task);
    expect(V >= 4, "vocab_size", "at least 4 (a key, a value, '.', '=>')", V, task);
    set.row_tokens = 2 * (n / 2) + 3;
    set.first_scored = set.row_tokens - 2;
  } else if (task == "induction_head") {
    expect(n >= 3, "length", "at least 3", n, task);
    expect(V >= 3, "vocab_size", "at least 3", V, task);
    set.row_tokens = n + 2;
    set.first_scored = set.row_tokens - 2;
  } else if (task == "copy") {
    expect(n >= 3, "length", "at least 3", n, task);
    expect(V >= 3, "vocab_size", "at least 3", V, task);
    const std::int64_t m = (n - 1) / 2;
    set.row_tokens = 2 * m + 1;
    set.first_scored = set.first_trained = m;
  } else if (task == "arithmetic") {
    expect(n >= 1, "length", "at least 1 digit", n, task);
    expect(V == 10, "vocab_size", "the 10 digits", V, task);
    set.row_tokens = 3 * n + 1;
    set.first_scored = set.first_trained = 2 * n - 1;
  } else {
    expect(n >= 1, "length", "at least 1", n, task);
    expect(V >= 2, "vocab_size", "at least 2", V, task);
    set.row_tokens = n + 1;
    set.first_scored = set.first_trained = n - 1;
    if (task == "counting") {
      set.vocab_size = V + n;
    }
  }
  return set;
}

SyntheticSet make_synthetic(const SyntheticOptions& options) {
  SyntheticSet set = synthetic_shape(options);
  const auto T = static_cast<std::size_t>(set.row_tokens);
  const auto N = static_cast<std::size_t>(set.examples);
  set.tokens_NT.resize(N * T);
  const std::uint64_t give_up = 1000 + 100 * static_cast<std::uint64_t>(N);
  std::unordered_set<std::uint64_t> seen;
  std::uint64_t candidate = 0;
  for (std::size_t i = 0; i < N; ++candidate) {
    if (candidate == give_up) {
      throw user_error(
          "{}: {} different rows were asked for, but {} draws at length {}, vocabulary {} gave "
          "only {}",
          options.task, N, give_up, options.length, options.vocab_size, i);
    }
    const Row row(set.tokens_NT.data() + i * T, T);
    fill(options, Random(static_cast<std::uint64_t>(options.seed), candidate), row);
    if (seen.insert(hash(row)).second) {
      ++i;
    }
  }
  return set;
}

LinearFunctionSet make_linear_functions(const SyntheticOptions& options) {
  const std::int64_t n = options.length;
  const std::int64_t V = options.vocab_size;
  expect(n >= 1, "length", "at least 1 point", n, "linear functions");
  expect(V >= 1, "vocab_size", "at least 1 dimension", V, "linear functions");
  LinearFunctionSet set{.examples = options.examples, .points = 2 * n - 1};
  set.prompts_NPV.reserve(static_cast<std::size_t>(set.examples * set.points * V));
  set.answers_NV.reserve(static_cast<std::size_t>(set.examples * V));
  std::vector<float> w(static_cast<std::size_t>(V));
  std::vector<float> x(w.size());
  for (std::int64_t i = 0; i < set.examples; ++i) {
    Random random(static_cast<std::uint64_t>(options.seed), static_cast<std::uint64_t>(i));
    const auto draw = [&](std::vector<float>& into) {
      for (float& value : into) {
        value = static_cast<float>(random.normal());
      }
    };
    draw(w);
    for (std::int64_t k = 0; k < n; ++k) {
      draw(x);
      set.prompts_NPV.insert(set.prompts_NPV.end(), x.begin(), x.end());
      auto& images = k + 1 < n ? set.prompts_NPV : set.answers_NV;
      for (std::size_t j = 0; j < w.size(); ++j) {
        images.push_back(w[j] * x[j]);
      }
    }
  }
  return set;
}

std::string token_text(std::int64_t id, std::int64_t vocab_size) {
  if (id < 0 || id >= vocab_size) {
    throw user_error("token id: expected 0 to {}, got {}", vocab_size - 1, id);
  }
  if (id == 0) {
    return ".";
  }
  if (id == vocab_size - 1) {
    return "=>";
  }
  std::vector<std::string> ordinary;
  for (std::int64_t i = 0; i < vocab_size - 2; ++i) {
    ordinary.push_back(std::to_string(i));
  }
  std::sort(ordinary.begin(), ordinary.end());
  return ordinary[static_cast<std::size_t>(id - 1)];
}

}  // namespace hyena::data
