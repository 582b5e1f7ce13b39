// The synthetic tasks of the paper (PAPER section 8): generated, never stored.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hyena::data {

/// associative_recall, noisy_recall, induction_head, copy, majority, counting, arithmetic.
[[nodiscard]] const std::vector<std::string>& synthetic_task_names();

/// V is `vocab_size`, n is `length`. Ordinary tokens of the first four tasks are the ids 1 .. V-2;
/// id 0 is "." and id V-1 is "=>" (token_text).
///
/// | task               | tokens of a row                                      | scored         |
/// |--------------------|------------------------------------------------------|----------------|
/// | associative_recall | n/2 pairs key value, "=>", a key that occurred, its  | last           |
/// |                    | value: 2 (n/2) + 3 tokens. Every row draws a value   |                |
/// |                    | for each key; keys are the ids 1 .. (V-2)/2          |                |
/// | noisy_recall       | the same, but each pair is ". ." with probability ½; | last           |
/// |                    | the first is always a pair                           |                |
/// | induction_head     | n ordinary tokens, one of them (not the last two)    | last           |
/// |                    | replaced by "=>"; then "=>" and the token behind the |                |
/// |                    | first: n + 2 tokens                                  |                |
/// | copy               | m = (n-1)/2 ordinary tokens, "=>", the same m        | last m         |
/// | majority           | n tokens 0 .. V-1, then the most frequent (a tie is  | last           |
/// |                    | drawn again)                                         |                |
/// | counting           | n tokens 0 .. V-1, then V - 1 + the number of times  | last           |
/// |                    | that the n-th occurred                               |                |
/// | arithmetic         | n digits of a, n of b, n + 1 of a + b: ids 0 .. 9,   | last n + 1     |
/// |                    | most significant first; V must be 10                 |                |
///
/// Training scores every target in the first three rows, as published; the others train on what is
/// scored, because the rest is noise.
struct SyntheticOptions {
  std::string task = "associative_recall";
  std::int64_t length = 256;     ///< n, the published input_seq_len; of arithmetic: digits
  std::int64_t vocab_size = 10;  ///< V
  std::int64_t examples = 2000;
  std::int64_t seed = 0;
};

/// Rows of tokens: inputs are all but the last column, targets all but the first.
struct SyntheticSet {
  std::int64_t examples = 0;       ///< N
  std::int64_t row_tokens = 0;     ///< T; an input has T-1 tokens
  std::int64_t vocab_size = 0;     ///< ids are below it (counting: V + n)
  std::int64_t first_trained = 0;  ///< the training loss sums targets [first_trained, T-1)
  std::int64_t first_scored = 0;   ///< accuracy is over targets [first_scored, T-1)
  std::vector<std::int32_t> tokens_NT{};
};

/// The shape of the set, tokens left empty: what a model needs to know.
/// @throws UserError for an unknown task or sizes with which it has no sample.
[[nodiscard]] SyntheticSet synthetic_shape(const SyntheticOptions& options);

/// Row number i is a function of (task, n, V, seed, i), the same on every machine. Equal rows are
/// left out and replaced by later ones, as published. About 5 ns per token.
/// @throws UserError as above, or if the task has fewer different rows than were asked for.
[[nodiscard]] SyntheticSet make_synthetic(const SyntheticOptions& options);

/// Linear functions in context (PAPER 8.1): row i holds n prompts x_1, w x_1, .., x_n with w, x_k
/// standard normal in R^V and the product element by element; the answer is w x_n.
struct LinearFunctionSet {
  std::int64_t examples = 0;         ///< N
  std::int64_t points = 0;           ///< 2n - 1 vectors of a prompt
  std::vector<float> prompts_NPV{};  ///< (N, 2n-1, V)
  std::vector<float> answers_NV{};   ///< (N, V)
};

/// `length` is n and `vocab_size` the dimension V; `task` is not used.
[[nodiscard]] LinearFunctionSet make_linear_functions(const SyntheticOptions& options);

/// The text of an id in the first four tasks (PAPER 8.2): 0 is ".", V-1 is "=>", and the others are
/// the numbers 0 .. V-3 sorted as text, so that V = 30 gives "0", "1", "10", .. "19", "2", "20" ..
[[nodiscard]] std::string token_text(std::int64_t id, std::int64_t vocab_size);

}  // namespace hyena::data
