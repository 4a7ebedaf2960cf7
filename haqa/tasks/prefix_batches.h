#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "haqa/tasks/request_tokens.h"

namespace haqa {

/// Requests as batches of tokens in which each beginning that several requests share stands once: the choices of a
/// question share its context, questions about one passage share the passage.

struct BatchToken {
  int32_t token = 0, position = 0;
  int32_t first_sequence = 0, last_sequence = 0;  ///< those that it is part of, numbered within the batch, without gaps
  bool output = false;                            ///< whether its prediction is asked for
};

/// The prediction after batch token `at`, for `token`, counts for `request`.
struct Wanted {
  int32_t at = 0, token = 0;
  size_t request = 0;
};

struct PrefixBatch {
  std::vector<BatchToken> tokens;  ///< each after all that stand before it in its sequences
  std::vector<Wanted> wanted;      ///< ordered by `at`
  int32_t n_sequences = 0;
};

/// max_tokens: of a batch, but for a request that is longer alone; max_sequences: of a batch, at least 1.
/// Requests are taken in the order of their tokens, so that those that share the most are neighbours; what the border
/// of two batches cuts is computed in both.
std::vector<PrefixBatch> prefix_batches(std::span<const RequestTokens> requests, int max_tokens, int max_sequences);

}  // namespace haqa
