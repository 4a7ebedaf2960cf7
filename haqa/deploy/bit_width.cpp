#include "haqa/deploy/bit_width.h"

#include <fmt/format.h>

#include <algorithm>

#include "haqa/base/bytes.h"

namespace haqa {
namespace {

std::string label(const BitWidthCandidate& c) {
  return fmt::format("{} ({})", to_string(c.memory.bit_width), c.memory.gguf_type);
}

double measured_rate(const BitWidthCandidate& c) {
  std::vector<double> rates;
  for (const Measurement& m : c.measured) rates.push_back(m.tokens_per_s);
  return median(rates);
}

std::string refusals(const std::vector<BitWidthCandidate>& candidates) {
  std::string text;
  for (const BitWidthCandidate& c : candidates)
    if (!c.refused.empty()) text += fmt::format(" {} is out: {}.", label(c), c.refused);
  return text;
}

using Candidates = std::vector<const BitWidthCandidate*>;

BitWidthDecision decide_by_prediction(const Candidates& in) {
  const auto slower = [](auto* a, auto* b) { return a->prediction.tokens_per_s < b->prediction.tokens_per_s; };
  const BitWidthCandidate& best = **std::max_element(in.begin(), in.end(), slower);  // the widest of equals
  if (best.prediction.tokens_per_s <= 0)
    return {best.memory.bit_width, "prediction",
            fmt::format("No speed can be predicted ({}); {} loses the least quality of those that fit.",
                        best.prediction.why, label(best))};
  return {best.memory.bit_width, "prediction",
          fmt::format("{} is predicted to be the fastest of those that fit, {:.4g} tokens/s: it {}.", label(best),
                      best.prediction.tokens_per_s, best.prediction.why)};
}

BitWidthDecision decide_by_measurement(const Candidates& in) {
  const auto slower = [](auto* a, auto* b) { return measured_rate(*a) < measured_rate(*b); };
  const BitWidthCandidate& fastest = **std::max_element(in.begin(), in.end(), slower);
  for (const BitWidthCandidate* wider : in) {  // widest first
    if (wider == &fastest) break;
    const Estimate ratio = paired_ratio(wider->measured, fastest.measured);
    if (ratio.high < 1) continue;
    return {wider->memory.bit_width, "measurement",
            fmt::format("{} at {:.4g} tokens/s cannot be told from the fastest, {} (ratio {:.3f}, {:.3f} to {:.3f}), "
                        "and loses less quality.",
                        label(*wider), measured_rate(*wider), label(fastest), ratio.median, ratio.low, ratio.high)};
  }
  return {fastest.memory.bit_width, "measurement",
          fmt::format("{} was measured as the fastest of those allowed, {:.4g} tokens/s.", label(fastest),
                      measured_rate(fastest))};
}

}  // namespace

std::vector<BitWidthCandidate> predict_bit_widths(const HardwareProfile& profile, const ModelInfo& model,
                                                  const MemoryPlan& plan, int n_tokens) {
  MemoryUse cached = plan.use;
  cached.n_ctx = n_tokens;
  std::vector<BitWidthCandidate> candidates;
  for (const MemoryRow& row : plan.rows) {
    BitWidthCandidate c;
    c.memory = row;
    const DecodeWork work = {row.gguf_type, row.weights + kv_cache_bytes(model, cached),
                             static_cast<double>(model.parameters())};
    c.prediction = predict_generation(profile, work);
    if (!row.fits)
      c.refused = fmt::format("it needs {}, more than the limit of {}", format_bytes(row.total()),
                              format_bytes(plan.limit.value_or(0)));
    candidates.push_back(std::move(c));
  }
  return candidates;
}

BitWidthDecision decide_bit_width(const std::vector<BitWidthCandidate>& candidates) {
  Candidates in;
  for (const BitWidthCandidate& c : candidates)
    if (c.refused.empty()) in.push_back(&c);
  if (in.empty()) return {std::nullopt, "none", "No bit width is left." + refusals(candidates)};
  const bool measured = std::none_of(in.begin(), in.end(), [](auto* c) { return c->measured.empty(); });
  BitWidthDecision decision = measured ? decide_by_measurement(in) : decide_by_prediction(in);
  decision.why += refusals(candidates);
  return decision;
}

Json to_json(const std::vector<BitWidthCandidate>& candidates) {
  Json rows = Json::array();
  std::span<const Measurement> widest;  // of those that were measured; they stand first
  for (const BitWidthCandidate& c : candidates)
    if (widest.empty()) widest = c.measured;
  for (const BitWidthCandidate& c : candidates)
    rows.push_back({{"bit_width", to_string(c.memory.bit_width)},
                    {"gguf_type", c.memory.gguf_type},
                    {"total_bytes", c.memory.total()},
                    {"fits", c.memory.fits},
                    {"predicted_tokens_per_s", c.prediction.tokens_per_s},
                    {"why", c.prediction.why},
                    {"measured", c.measured.empty() ? Json(nullptr) : summarize(c.measured)},
                    {"ratio_to_widest", c.measured.empty() ? Json(nullptr) : to_json(paired_ratio(c.measured, widest))},
                    {"quality", c.quality.value_or(Json(nullptr))},
                    {"refused", c.refused}});
  return rows;
}

}  // namespace haqa
