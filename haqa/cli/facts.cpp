#include "haqa/cli/facts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>

#include "haqa/base/bytes.h"
#include "haqa/report/findings.h"

namespace haqa {

Json hardware_facts(const HardwareProfile& profile) {
  Json facts = to_json(profile);
  for (const char* key : {"id", "here", "sources", "weight_rates"}) facts.erase(key);
  std::vector<std::string> unknown;  // or not native: 0 would read as "cannot"
  for (const auto& [name, rate] : facts["peak"].items())
    if (rate == 0.0) unknown.push_back(name);
  for (const std::string& name : unknown) facts["peak"].erase(name);
  return facts;
}

std::string describe(const HardwareProfile& p) {
  std::string text = p.name;
  if (p.cores > 0) text += fmt::format(", {} core{}", p.cores, p.cores == 1 ? "" : "s");
  if (p.threads > p.cores) text += fmt::format(" ({} threads)", p.threads);
  if (!p.instruction_sets.empty()) text += fmt::format(", {}", fmt::join(p.instruction_sets, " "));
  text += fmt::format(", {} of memory", format_bytes(p.memory_bytes));
  if (p.best_bandwidth() > 0) text += fmt::format(" read at {:.1f} GB/s", p.best_bandwidth() / 1e9);
  for (const Gpu& gpu : p.gpus) text += fmt::format("; GPU {} ({})", gpu.name, format_bytes(gpu.memory_bytes));
  return p.here ? text : text + " (not here: planned, not measured)";
}

std::string describe(const MemoryPlan& plan) {
  std::vector<std::string> rows;
  for (const MemoryRow& row : plan.rows)
    rows.push_back(fmt::format("{} {} {}", to_string(row.bit_width), format_bytes(row.total()),
                               row.fits ? "fits" : "does not fit"));
  const std::string limit = plan.limit ? format_bytes(*plan.limit) : "no limit";
  return fmt::format("{} (limit {}, {} tokens of context)", fmt::join(rows, ", "), limit, plan.use.n_ctx);
}

std::string describe(const Trial& t, const Configuration& defaults) {
  const std::string changed = changes(Part(defaults), Part(t.configuration));
  const std::string what = changed.empty() ? "the defaults" : changed;
  if (!t.value)
    return fmt::format("round {}: failed ({}): {} [{}: {}]", t.number + 1, to_string(t.reason), what, t.proposed_by,
                       t.message);
  return fmt::format("round {}: {:.3f}x ({:.3f} to {:.3f}), {:.4g} tokens/s: {} [{}]", t.number + 1,
                     t.metrics.value("speedup", *t.value), t.metrics.value("speedup_low", *t.value),
                     t.metrics.value("speedup_high", *t.value), t.metrics.value("tokens_per_s", 0.0), what,
                     t.proposed_by);
}

Json to_json(const ModelInfo& m) {
  return {{"file", m.file.string()},
          {"name", m.name},
          {"architecture", m.architecture},
          {"parameters", m.parameters()},
          {"main_type", m.main_type()},
          {"bytes", m.weights_bytes()},
          {"n_layer", m.n_layer},
          {"n_embd", m.n_embd},
          {"n_head", m.n_head},
          {"n_head_kv", m.n_head_kv},
          {"n_vocab", m.n_vocab},
          {"n_ctx_train", m.n_ctx_train}};
}

Json memory_json(const MemoryPlan& plan) {
  return {{"limit_bytes", plan.limit ? Json(*plan.limit) : Json(nullptr)},
          {"context", plan.use.n_ctx},
          {"rows", to_json(plan)}};
}

void restrict_plan(MemoryPlan& plan, const ModelInfo& model, std::span<const BitWidth> allowed) {
  const BitWidth source = width_of_file(model);
  const auto is_out = [&](const MemoryRow& row) {
    const bool wanted = allowed.empty() || std::find(allowed.begin(), allowed.end(), row.bit_width) != allowed.end();
    return !wanted || row.bit_width < source;  // widest first in the enum
  };
  plan.rows.erase(std::remove_if(plan.rows.begin(), plan.rows.end(), is_out), plan.rows.end());
  if (plan.rows.empty())
    throw UsageError("{}: holds {} weights, and bit_widths allows only wider ones, which would gain nothing; allow {}",
                     model.file.string(), model.main_type(), to_string(source));
  for (MemoryRow& row : plan.rows) {
    if (row.bit_width != source || model.main_type() == "F32") continue;
    row = plan_row(model, model.main_type(), plan.use);
    row.fits = !plan.limit || row.total() <= *plan.limit;
  }
}

std::map<std::string, std::string> prompt_facts(const Task& task, const HardwareProfile& hardware,
                                                const ModelInfo& model, const MemoryPlan& plan) {
  return {{"model", fmt::format("{} ({}, {:.3g} billion parameters, {} layers)", model.name, model.architecture,
                                static_cast<double>(model.parameters()) * 1e-9, model.n_layer)},
          {"device", hardware.name},
          {"hardware", to_line(hardware_facts(hardware))},
          {"memory_limit", plan.limit ? format_bytes(*plan.limit) : "not set"},
          {"prompt_tokens", std::to_string(task.workload.prompt_tokens)},
          {"generate_tokens", std::to_string(task.workload.generate_tokens)}};
}

Json usage_of(const std::filesystem::path& transcript, const AgentTask& agent) {
  int calls = 0, failures = 0;
  int64_t in = 0, out = 0;
  double latency = 0;
  std::string provider = agent.provider;
  std::ifstream lines(transcript);
  for (std::string text; std::getline(lines, text);) {
    const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object()) continue;  // of a killed process
    ++calls;
    failures += line.contains("error");
    in += line.value("prompt_tokens", int64_t{0});
    out += line.value("completion_tokens", int64_t{0});
    latency += line.value("latency_s", 0.0);
    provider = line.value("provider", provider);
  }
  const double cost =
      1e-6 * (static_cast<double>(in) * agent.price_prompt + static_cast<double>(out) * agent.price_completion);
  const bool priced = provider != "replay" && (agent.price_prompt > 0 || agent.price_completion > 0);
  return {{"provider", provider},
          {"calls", calls},
          {"failures", failures},
          {"prompt_tokens", in},
          {"completion_tokens", out},
          {"latency_s", latency},
          {"cost_usd", priced ? Json(cost) : Json(nullptr)}};
}

}  // namespace haqa
