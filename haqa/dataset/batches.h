#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "haqa/dataset/token_examples.h"

namespace haqa {

/// How the examples of an epoch are put together.
enum class Grouping {
  shuffled,   ///< one example a row, in random order
  by_length,  ///< one example a row, those of a batch of nearly one length; the batches in random order
  packed,     ///< several examples a row, as many as fit; the rows in random order
};

struct BatchOptions {
  Grouping grouping = Grouping::by_length;
  size_t rows = 8;      ///< of a batch; the last one of an epoch may have fewer
  size_t length = 512;  ///< tokens of a packed row, at most; no example is longer
  uint64_t seed = 1;
};

/// The examples of a row, by index, in the order in which they lie in it.
using RowPlan = std::vector<size_t>;
/// The rows of each batch.
using EpochPlan = std::vector<std::vector<RowPlan>>;

/// Every example once. The plan depends on the lengths, the options and the epoch alone, on every platform: training
/// that was interrupted goes on at batch b of epoch e without anything else being kept.
/// by_length: examples are shuffled, sorted within chunks of 50 batches, and the batches shuffled, as transformers'
/// group_by_length does. packed: row by row the longest example left, with those whose lengths fill the row best (the
/// minimum bin slack of Gupta and Ho 1999, exact by dynamic programming; 52,002 lengths from 60 to 189 in rows of 512
/// leave 0.02 % padding, where best fit decreasing leaves 2.3 %), equal lengths in random order. With both the batch of
/// most tokens comes first in epoch 0, so that what does not fit into memory shows at once.
/// Throws UsageError for no rows or, packed, an example longer than `length`.
EpochPlan plan_epoch(std::span<const TokenExample> examples, const BatchOptions& options, uint64_t epoch);

/// What PyTorch's cross_entropy passes over by default.
inline constexpr int64_t kNoTarget = -100;

/// A batch as matrices [rows, length], row-major. Padding is at the end of a row.
struct Batch {
  size_t rows = 0, length = 0;
  std::vector<int32_t> tokens;     ///< `pad` in the padding
  std::vector<int64_t> targets;    ///< the token that follows within the example where it counts, else kNoTarget
  std::vector<int32_t> positions;  ///< from 0 within each example; 0 in the padding
  std::vector<int32_t> segments;   ///< the example's place in its row, from 0; -1 in the padding. Attention goes from a
                                   ///< token to those before it of the same segment, and to no other
  size_t used = 0;                 ///< tokens that are no padding
  size_t counted = 0;              ///< targets that count
};

/// Lays a batch of a plan out. Its length is that of the longest row, rounded up to a multiple of `multiple`.
Batch lay_out(std::span<const TokenExample> examples, std::span<const RowPlan> rows, int32_t pad, size_t multiple = 8);

/// What a plan costs.
struct BatchStatistics {
  size_t batches = 0, rows = 0;
  size_t used = 0;   ///< tokens
  size_t slots = 0;  ///< tokens and padding: rows times length, over all batches
  double padding_share() const { return slots == 0 ? 0 : 1 - static_cast<double>(used) / static_cast<double>(slots); }
};
BatchStatistics statistics_of(std::span<const TokenExample> examples, const EpochPlan& plan, size_t multiple = 8);

}  // namespace haqa
