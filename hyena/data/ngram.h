// What counting alone achieves: the yardstick beside a small language model's bits per byte.
#pragma once

#include "hyena/data/corpus.h"

namespace hyena::data {

/// Cross-entropy of the held-out text in bits per byte of text.
struct NgramBits {
  double unigram = 0.0;
  double bigram = 0.0;
  double trigram = 0.0;
};

/// Counts n-grams of tokens in `train` and scores `held_out` with them, file by file, every token
/// but the first of a file (as EvalWindows does; at a file's second token the trigram has one token
/// of context only).
///
/// Witten-Bell smoothing, which has nothing to tune: with c(h w) the count of w after context h,
/// T(h) the number of different tokens seen after h, and h' the context without its oldest token,
///
///     p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h)),     p(w | nothing) over 1/V.
///
/// A context never seen in training gives p(w | h'). Cost: one pass over each corpus; memory grows
/// with the number of different trigrams (a few MB for English bytes).
/// @throws UserError if the vocabularies differ, V > 2^21, or held_out has nothing to score.
[[nodiscard]] NgramBits ngram_bits_per_byte(const Corpus& train, const Corpus& held_out);

}  // namespace hyena::data
