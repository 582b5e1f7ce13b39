// Byte-pair merging: the adjacent pair of lowest rank becomes one token until no pair has a rank.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hyena::data {

struct Merge {
  std::uint32_t left;
  std::uint32_t right;
  std::uint32_t result;
};

/// Looks up pairs in an open-addressed table of 16-byte slots.
class BytePairMerges {
 public:
  /// `merges` in order of rank. Every result must come later than what it is made of, and be made
  /// by one merge only (the tokenizer checks): then merging the leftmost pair of lowest rank first
  /// gives what whole sweeps per rank give.
  explicit BytePairMerges(std::span<const Merge> merges);

  /// Reused between calls so that they do not allocate.
  struct Scratch {
    struct Node {
      std::uint32_t previous;
      std::uint32_t next;
      std::uint32_t rank;  // of the pair (this, next); kNone: no such merge
    };
    std::vector<Node> nodes;
    std::vector<std::uint64_t> heap;  // rank << 32 | position, smallest first
  };

  /// Merges `ids` in place. O(n log n): a run of a million equal letters takes a second, not a day.
  void apply(std::vector<std::uint32_t>& ids, Scratch& scratch) const;

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  struct Slot {
    std::uint64_t pair = UINT64_MAX;  // left << 32 | right; all ones: free
    std::uint32_t rank = kNone;
    std::uint32_t result = kNone;
  };

  [[nodiscard]] const Slot& find(std::uint32_t left, std::uint32_t right) const;

  std::vector<Slot> slots_;  // a power of two, at most half full
};

}  // namespace hyena::data
