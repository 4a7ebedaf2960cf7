#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "haqa/dataset/token_examples.h"

namespace haqa {

/// How the examples of an epoch are put together.
enum class Grouping {
  shuffled,   ///< in random order
  by_length,  ///< those of a batch of nearly one length; the batches in random order
  packed,     ///< as many as fit into rows of a length; the rows in random order
};

struct BatchOptions {
  Grouping grouping = Grouping::by_length;
  size_t rows = 8;      ///< of a batch: examples or, packed, rows of them; the last batch of an epoch may have fewer
  size_t length = 512;  ///< tokens of a packed row, at most; no example is longer
  uint64_t seed = 1;
};

/// The examples of each batch, by index.
using EpochPlan = std::vector<std::vector<size_t>>;

/// Every example once. The plan depends on the lengths, the options and the epoch alone, on every platform: training
/// that was interrupted goes on at batch b of epoch e without anything else being kept.
/// by_length: examples are shuffled, sorted within chunks of 50 batches (as in transformers' group_by_length), and the
/// batches shuffled. packed: row by row the longest example left, with those whose lengths fill the row best (the
/// minimum bin slack of Gupta and Ho 1999, exact by dynamic programming; 52,002 lengths from 60 to 189 in rows of 512
/// leave 0.02 % unused, where best fit decreasing leaves 2.3 %), equal lengths in random order: nearly every batch has
/// rows times length tokens. With both the batch of most tokens comes first in epoch 0, so that what does not fit into
/// memory shows at once.
/// Throws UsageError for no rows or, packed, an example longer than `length`.
EpochPlan plan_epoch(std::span<const TokenExample> examples, const BatchOptions& options, uint64_t epoch);

}  // namespace haqa
