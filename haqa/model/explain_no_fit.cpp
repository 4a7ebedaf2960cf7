#include <algorithm>
#include <optional>
#include <vector>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/model/memory_plan.h"

namespace haqa {
namespace {

constexpr int kSmallContext = 256;  // llama.cpp's smallest cache
constexpr int kSmallBatch = 128;    // below, prompt processing slows down markedly

/// One way to need less memory: what it is called and how the model would be run then.
struct Lever {
  std::string name;
  MemoryUse use;
};

/// The largest context that fits, so that no more is given up than needed; the smallest where none does.
std::optional<Lever> smaller_context(const ModelInfo& model, const MemoryRow& row, const MemoryPlan& plan) {
  const int now = plan.use.n_ctx == 0 ? model.n_ctx_train : plan.use.n_ctx;
  if (now <= kSmallContext) return std::nullopt;
  Lever lever{"", plan.use};
  int low = 1, high = (now - 1) / kSmallContext;  // in cells that llama.cpp rounds up to
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    lever.use.n_ctx = middle * kSmallContext;
    if (plan_row(model, row.gguf_type, lever.use).total() <= *plan.limit)
      low = middle;
    else
      high = middle - 1;
  }
  lever.use.n_ctx = low * kSmallContext;
  lever.name = fmt::format("a context of {} tokens", lever.use.n_ctx);
  return lever;
}

std::optional<Lever> smaller_cache_type(const MemoryUse& use, const std::string& type) {
  if (use.type_k == type && use.type_v == type) return std::nullopt;
  Lever lever{fmt::format("a {} KV cache", type), use};
  lever.use.type_k = lever.use.type_v = type;
  lever.use.flash_attention = true;  // llama.cpp refuses a quantized V cache without
  return lever;
}

std::optional<Lever> smaller_batch(const MemoryUse& use) {
  if (use.n_ubatch > 0 && use.n_ubatch <= kSmallBatch) return std::nullopt;
  Lever lever{fmt::format("a micro-batch (n_ubatch) of {}", kSmallBatch), use};
  lever.use.n_ubatch = kSmallBatch;
  return lever;
}

Lever everything(const MemoryUse& use) {
  Lever lever{"all of it together, with the smallest context,", use};
  lever.use.n_ctx = use.n_ctx == 0 ? kSmallContext : std::min(use.n_ctx, kSmallContext);
  lever.use.type_k = lever.use.type_v = "q4_0";
  lever.use.flash_attention = true;
  lever.use.n_ubatch = use.n_ubatch == 0 ? kSmallBatch : std::min(use.n_ubatch, kSmallBatch);
  return lever;
}

/// Total with this lever; empty where llama.cpp would refuse it, as a quantized cache of narrow heads.
std::optional<uint64_t> total_with(const ModelInfo& model, const MemoryRow& row, const MemoryUse& use) {
  try {
    return plan_row(model, row.gguf_type, use).total();
  } catch (const UsageError&) {
    return std::nullopt;
  }
}

/// The largest known model that is smaller than this one and fits.
std::optional<std::pair<ModelInfo, uint64_t>> smaller_model(const ModelInfo& model, const MemoryRow& row,
                                                            const MemoryPlan& plan) {
  std::optional<std::pair<ModelInfo, uint64_t>> best;
  for (const std::string& name : architecture_names()) {
    ModelInfo other = architecture(name);
    const auto total = total_with(other, row, plan.use);
    const bool helps = total && *total <= *plan.limit && other.parameters() < model.parameters();
    if (helps && (!best || other.parameters() > best->first.parameters())) best.emplace(std::move(other), *total);
  }
  return best;
}

/// "A q8_0 KV cache leads to 7.9 GB, which fits." for each lever that lowers the total.
std::string lever_sentences(const ModelInfo& model, const MemoryRow& row, const MemoryPlan& plan) {
  std::vector<Lever> levers;
  for (const auto& lever : {smaller_context(model, row, plan), smaller_cache_type(plan.use, "q8_0"),
                            smaller_cache_type(plan.use, "q4_0"), smaller_batch(plan.use)})
    if (lever) levers.push_back(*lever);
  if (levers.size() > 1) levers.push_back(everything(plan.use));

  std::string text;
  bool any = false;
  for (const Lever& lever : levers) {
    const auto total = total_with(model, row, lever.use);
    // What does not show in the figure printed is no lever.
    if (!total || *total >= row.total() || format_bytes(*total) == format_bytes(row.total())) continue;
    const bool enough = *total <= *plan.limit;
    any = any || enough;
    std::string name = lever.name;
    name[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(name[0])));
    text += fmt::format(" {} would need {}{}.", name, format_bytes(*total), enough ? ", which fits" : "");
  }
  return any ? text : text + " No such setting makes it fit.";
}

}  // namespace

std::string explain_no_fit(const ModelInfo& model, const MemoryPlan& plan) {
  if (!plan.limit || plan.rows.empty() || plan.any_fits()) return "";
  const MemoryRow& row = *std::min_element(
      plan.rows.begin(), plan.rows.end(), [](const MemoryRow& a, const MemoryRow& b) { return a.total() < b.total(); });
  std::string text = fmt::format("{} needs {} even as {} ({}), {} more than the limit of {}.", model.name,
                                 format_bytes(row.total()), to_string(row.bit_width), row.gguf_type,
                                 format_bytes(row.total() - *plan.limit), format_bytes(*plan.limit));
  text += lever_sentences(model, row, plan);
  if (const auto smaller = smaller_model(model, row, plan))
    return text + fmt::format(" A smaller model fits: {} as {} needs {}.", smaller->first.name,
                              to_string(row.bit_width), format_bytes(smaller->second));
  return text + " None of the smaller models that HAQA knows fits either; raise the limit.";
}

}  // namespace haqa
