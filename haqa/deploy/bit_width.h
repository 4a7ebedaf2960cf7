#pragma once
#include <optional>
#include <string>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/deploy/benchmark.h"
#include "haqa/hardware/roofline.h"
#include "haqa/model/memory_plan.h"

namespace haqa {

/// Everything known of one bit width when the choice is made.
struct BitWidthCandidate {
  MemoryRow memory;
  Prediction prediction;
  std::vector<Measurement> measured;  ///< empty where the device is not here, or the format failed
  std::optional<Json> quality;        ///< measure_quality()'s result; nothing where the format failed or does not fit
  std::string refused;                ///< why it is out: memory, quality, failure; empty while it is in
};

struct BitWidthDecision {
  std::optional<BitWidth> chosen;
  std::string basis;  ///< "measurement" or "prediction"
  std::string why;    ///< in words
};

/// The candidates of a memory plan with predictions on a device; those that do not fit are refused.
/// n_tokens: tokens in the KV cache while generating, half-way through the request.
std::vector<BitWidthCandidate> predict_bit_widths(const HardwareProfile& profile, const ModelInfo& model,
                                                  const MemoryPlan& plan, int n_tokens);

/// The fastest candidate that is not refused: by measurement where all of them were measured, else by prediction. Where
/// a wider one cannot be told from the fastest (the interval of the paired ratios holds 1), the wider one wins, as it
/// loses less quality.
BitWidthDecision decide_bit_width(const std::vector<BitWidthCandidate>& candidates);

/// [{"bit_width","gguf_type","total_bytes","fits","predicted_tokens_per_s","why","measured":
/// summarize(),"ratio_to_widest":
///   paired_ratio(),"quality","refused"}]
Json to_json(const std::vector<BitWidthCandidate>& candidates);

}  // namespace haqa
