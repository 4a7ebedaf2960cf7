#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "haqa/report/findings.h"

namespace haqa {

inline constexpr const char* kDeployed = "deployed";

/// A model that a run measured, by its three goals.
struct TradeOff {
  std::string name;     ///< "int4 (Q4_0), untuned", "round 3", "deployed"
  double accuracy = 0;  ///< on the questions that rounds choose by, from 0 to 1
  double speed = 0;     ///< against the widest bit width measured with llama.cpp's defaults, by ratios measured in turn
  uint64_t bytes = 0;   ///< llama.cpp's memory at its peak
  bool on_front = false;  ///< none of the others is better in one goal and no worse in the others; memory counts
                          ///< in steps of a hundredth

  bool operator==(const TradeOff&) const = default;
};

/// Of a run that fine-tuned and deployed: the untuned model in each bit width, each round, and what is deployed. Rounds
/// whose options change what the accuracy depends on (the GGUF type, the types of the cache) are left out, as no one
/// measured it with them. A round's speed is the median of its pairs, of the one that was verified the fresh one, and
/// was timed on the best model so far, which is of the same shape. Empty where the summary has no fine-tuning, or no
/// speed was measured.
std::vector<TradeOff> trade_offs(const Part& summary);

/// The same for summary.json: [{"name", "accuracy", "speed", "peak_bytes", "on_front"}].
Json trade_offs_json(const Json& summary);

/// A row each, the front's marked.
Table trade_off_table(const std::vector<TradeOff>& all);

}  // namespace haqa
