#pragma once
#include <filesystem>
#include <vector>

#include "haqa/adapter/adapter.h"

namespace haqa {

/// A pair as a file has it, with a rank and a factor of its own: W + scale · B · A.
struct ScaledPair {
  LoraPair pair;
  int64_t rank = 0;
  double scale = 1;
};

/// The same changes under one rank and one alpha: the largest rank, smaller ones filled up with zeros, and B multiplied
/// where its factor is not the first pair's. Where all are alike, every number stays as it is.
/// Each A and B must be of whole rows of their rank. Throws Error where no pair is there, a rank lies outside
/// [1, highest], or they differ so much that filling up would take the memory.
LoraAdapter with_one_rank(std::vector<ScaledPair> pairs, int64_t highest, const std::filesystem::path& file);

}  // namespace haqa
