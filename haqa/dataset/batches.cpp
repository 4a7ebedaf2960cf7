#include "haqa/dataset/batches.h"

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/dataset/split.h"

namespace haqa {
namespace {

/// Batches of one chunk are sorted together; as many as transformers takes at most.
constexpr size_t kBatchesOfAChunk = 50;

using Examples = std::span<const TokenExample>;

size_t tokens_of(Examples examples, const std::vector<size_t>& batch) {
  size_t tokens = 0;
  for (const size_t i : batch) tokens += examples[i].tokens.size();
  return tokens;
}

/// The longest first; equal ones stay as they are.
void sort_by_length(Examples examples, std::span<size_t> indices) {
  std::stable_sort(indices.begin(), indices.end(),
                   [&](size_t a, size_t b) { return examples[a].tokens.size() > examples[b].tokens.size(); });
}

/// The lengths, with at most counts[l] of each l, whose sum is the largest within `room`; long ones are preferred, as
/// short ones fit later as well.
std::vector<size_t> best_filling(size_t room, const std::vector<size_t>& counts) {
  std::vector<size_t> last(room + 1, 0), used(room + 1, 0);  // of each sum: its last length, and how many of that
  for (size_t l = room; l > 0 && last[room] == 0; --l) {
    if (counts[l] == 0) continue;
    std::fill(used.begin(), used.end(), size_t{0});
    for (size_t sum = l; sum <= room; ++sum) {
      const bool reached = sum == l || last[sum - l] > 0;
      if (last[sum] > 0 || !reached || used[sum - l] == counts[l]) continue;
      last[sum] = l;
      used[sum] = used[sum - l] + 1;
    }
  }
  size_t sum = room;
  while (sum > 0 && last[sum] == 0) --sum;
  std::vector<size_t> lengths;
  for (; sum > 0; sum -= last[sum]) lengths.push_back(last[sum]);
  return lengths;
}

/// Row by row: the longest example that is left, and with it those that fill its row best.
std::vector<std::vector<size_t>> pack(Examples examples, const std::vector<size_t>& indices, size_t length) {
  std::vector<std::vector<size_t>> of_length(length + 1);
  std::vector<size_t> counts(length + 1, 0);
  for (const size_t i : indices) {
    const size_t needed = examples[i].tokens.size();
    if (needed > length)
      throw UsageError("an example of {} tokens does not fit into rows of {}; allow longer rows", needed, length);
    of_length[needed].push_back(i);
    ++counts[needed];
  }
  std::vector<std::vector<size_t>> rows;
  const auto take = [&](size_t l) {
    rows.back().push_back(of_length[l].back());
    of_length[l].pop_back();
    --counts[l];
  };
  for (size_t longest = length; longest > 0; --longest)
    while (counts[longest] > 0) {
      rows.emplace_back();
      take(longest);
      for (const size_t l : best_filling(length - longest, counts)) take(l);
    }
  return rows;
}

/// So many values a part, the last one with what is left.
template <typename T>
std::vector<std::vector<T>> parts(const std::vector<T>& values, size_t of_a_part) {
  std::vector<std::vector<T>> all;
  for (size_t begin = 0; begin < values.size(); begin += of_a_part) {
    const auto from = values.begin() + static_cast<std::ptrdiff_t>(begin);
    all.emplace_back(from, from + static_cast<std::ptrdiff_t>(std::min(of_a_part, values.size() - begin)));
  }
  return all;
}

template <typename T>
void reorder(std::vector<T>& values, std::span<const size_t> order) {
  std::vector<T> reordered;
  reordered.reserve(values.size());
  for (const size_t i : order) reordered.push_back(std::move(values[i]));
  values = std::move(reordered);
}

void put_largest_first(Examples examples, EpochPlan& plan) {
  const auto largest = std::max_element(plan.begin(), plan.end(), [&](const auto& a, const auto& b) {
    return tokens_of(examples, a) < tokens_of(examples, b);
  });
  if (largest != plan.end()) std::iter_swap(plan.begin(), largest);
}

/// Sorted within chunks, so that a batch's examples are of nearly one length; the order of the batches is random.
EpochPlan grouped(Examples examples, std::vector<size_t> order, const BatchOptions& options, uint64_t stream) {
  const size_t chunk = kBatchesOfAChunk * options.rows;
  for (size_t begin = 0; begin < order.size(); begin += chunk)
    sort_by_length(examples, std::span(order).subspan(begin, std::min(chunk, order.size() - begin)));
  EpochPlan plan = parts(order, options.rows);
  reorder(plan, shuffled_indices(plan.size(), options.seed, stream));
  return plan;
}

EpochPlan packed(Examples examples, const std::vector<size_t>& order, const BatchOptions& options, uint64_t stream) {
  std::vector<std::vector<size_t>> rows = pack(examples, order, options.length);
  reorder(rows, shuffled_indices(rows.size(), options.seed, stream));
  EpochPlan plan;
  for (const auto& rows_of_batch : parts(rows, options.rows)) {
    plan.emplace_back();
    for (const auto& row : rows_of_batch) plan.back().insert(plan.back().end(), row.begin(), row.end());
  }
  return plan;
}

}  // namespace

EpochPlan plan_epoch(Examples examples, const BatchOptions& options, uint64_t epoch) {
  if (options.rows == 0) throw UsageError("a batch needs at least one row");
  std::vector<size_t> order = shuffled_indices(examples.size(), options.seed, 2 * epoch);
  if (options.grouping == Grouping::shuffled) return parts(order, options.rows);
  EpochPlan plan = options.grouping == Grouping::packed ? packed(examples, order, options, 2 * epoch + 1)
                                                        : grouped(examples, std::move(order), options, 2 * epoch + 1);
  if (epoch == 0) put_largest_first(examples, plan);
  return plan;
}

}  // namespace haqa
