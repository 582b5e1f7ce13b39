#include "hyena/data/byte_pair_merges.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "hyena/data/hash.h"

namespace hyena::data {

BytePairMerges::BytePairMerges(std::span<const Merge> merges)
    : slots_(std::bit_ceil(2 * merges.size() + 2)) {
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    const std::uint64_t pair = std::uint64_t{merge.left} << 32U | merge.right;
    std::size_t at = mix64(pair) & (slots_.size() - 1);
    while (slots_[at].pair != UINT64_MAX && slots_[at].pair != pair) {
      at = (at + 1) & (slots_.size() - 1);
    }
    slots_[at] = {pair, static_cast<std::uint32_t>(rank), merge.result};
  }
}

const BytePairMerges::Slot& BytePairMerges::find(std::uint32_t left, std::uint32_t right) const {
  const std::uint64_t pair = std::uint64_t{left} << 32U | right;
  std::size_t at = mix64(pair) & (slots_.size() - 1);
  while (slots_[at].pair != pair && slots_[at].pair != UINT64_MAX) {
    at = (at + 1) & (slots_.size() - 1);
  }
  return slots_[at];  // a free slot has rank kNone
}

void BytePairMerges::apply(std::vector<std::uint32_t>& ids, Scratch& scratch) const {
  // A linked list over the positions of `ids`; a heap of its pairs. Entries of the heap whose pair
  // is gone are recognised by their rank and skipped.
  std::vector<Scratch::Node>& nodes = scratch.nodes;
  std::vector<std::uint64_t>& heap = scratch.heap;
  const auto count = static_cast<std::uint32_t>(ids.size());
  nodes.resize(count);
  heap.clear();
  const auto rank_pair_at = [&](std::uint32_t position) {
    Scratch::Node& node = nodes[position];
    node.rank = node.next < count ? find(ids[position], ids[node.next]).rank : kNone;
    return node.rank != kNone;
  };
  const auto entry = [&](std::uint32_t position) {
    return std::uint64_t{nodes[position].rank} << 32U | position;
  };
  for (std::uint32_t i = 0; i < count; ++i) {
    nodes[i] = {.previous = i == 0 ? kNone : i - 1, .next = i + 1, .rank = kNone};
    if (rank_pair_at(i)) {
      heap.push_back(entry(i));
    }
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](std::uint32_t position) {
    heap.push_back(entry(position));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    const std::uint64_t lowest = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    const auto position = static_cast<std::uint32_t>(lowest);
    Scratch::Node& node = nodes[position];
    if (node.rank != lowest >> 32U) {
      continue;
    }
    const std::uint32_t absorbed = node.next;
    ids[position] = find(ids[position], ids[absorbed]).result;
    node.next = nodes[absorbed].next;
    nodes[absorbed].rank = kNone;
    if (node.next < count) {
      nodes[node.next].previous = position;
    }
    if (rank_pair_at(position)) {
      push(position);
    }
    if (node.previous != kNone && rank_pair_at(node.previous)) {
      push(node.previous);
    }
  }
  std::size_t kept = 0;
  for (std::uint32_t i = 0; i < count; i = nodes[i].next) {
    ids[kept++] = ids[i];
  }
  ids.resize(kept);
}

}  // namespace hyena::data
