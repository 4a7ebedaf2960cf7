#include "haqa/report/trade_offs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "haqa/base/bytes.h"
#include "haqa/study/pareto.h"

namespace haqa {
namespace {

void add(std::vector<TradeOff>& all, std::string name, std::optional<double> accuracy, std::optional<double> speed,
         std::optional<uint64_t> bytes) {
  if (accuracy && speed && bytes) all.push_back({std::move(name), *accuracy, *speed, *bytes});
}

/// Whether a round's options leave the file and the cache as they were when its accuracy was measured.
bool keeps_accuracy(const Part& configuration, const std::string& gguf_type) {
  const auto is = [&](const char* key, const std::string& value) {
    const std::string text = configuration[key].text();
    return text.empty() || text == value;
  };
  return is("gguf_type", gguf_type) && is("cache_type_k", "f16") && is("cache_type_v", "f16");
}

/// What is the same but for rounding is the same, and so is memory but for some pages, which chance decides: it counts
/// in steps of a hundredth.
ParetoPoint point_of(const TradeOff& t) {
  const double hundredths = std::log(static_cast<double>(std::max<uint64_t>(1, t.bytes))) / std::log(1.01);
  return {{-std::round(1e6 * t.accuracy), -t.speed, std::round(hundredths)}};
}

void mark_front(std::vector<TradeOff>& all) {
  std::vector<ParetoPoint> points;
  for (const TradeOff& t : all) points.push_back(point_of(t));
  if (points.empty()) return;
  const std::vector<std::vector<size_t>> fronts = non_dominated_fronts(points);
  for (const size_t i : fronts.front()) all[i].on_front = true;
}

}  // namespace

std::vector<TradeOff> trade_offs(const Part& summary) {
  std::vector<TradeOff> all;
  for (const Part& row : summary["bit_widths"].list())
    add(all, format_name(row) + ", untuned", row["accuracy"]["mean"].number(),
        row["ratio_to_widest"]["median"].positive(), row["measured"]["peak_bytes"].bytes());
  const auto chosen = decided_row(summary, summary["bit_widths"])["ratio_to_widest"]["median"].positive();
  if (!chosen) return {};
  const std::string type = summary["decision"]["gguf_type"].text();
  const Part verification = summary["verification"];
  const auto fresh = verification["speedup"]["median"].positive();
  const std::vector<Part> taught = summary["finetune"]["trials"].list(), timed = summary["trials"].list();
  for (size_t i = 0; i < std::min(taught.size(), timed.size()); ++i)
    if (auto speedup = timed[i]["value"].positive(); speedup && keeps_accuracy(timed[i]["configuration"], type)) {
      if (fresh && verification["trial"].count() == timed[i]["number"].count()) speedup = fresh;
      add(all, fmt::format("round {}", i + 1), taught[i]["value"].number(), *chosen * *speedup,
          timed[i]["metrics"]["peak_bytes"].bytes());
    }
  const auto confirmed = verification["confirmed"].is(true) ? fresh : std::optional(1.0);
  if (confirmed)
    add(all, kDeployed, summary["finetune"]["deployed_validation"]["mean"].number(), *chosen * *confirmed,
        measured(summary)["peak_bytes"].bytes());
  mark_front(all);
  return all;
}

Json trade_offs_json(const Json& summary) {
  Json all = Json::array();
  for (const TradeOff& t : trade_offs(Part(summary)))
    all.push_back({{"name", t.name},
                   {"accuracy", t.accuracy},
                   {"speed", t.speed},
                   {"peak_bytes", t.bytes},
                   {"on_front", t.on_front}});
  return all;
}

Table trade_off_table(const std::vector<TradeOff>& all) {
  Table t{{"model", "accuracy % to choose by", "speed", "peak memory", "note"}, "lrrrl", {}};
  for (const TradeOff& o : all)
    t.rows.push_back({o.name, fmt::format("{:.2f}", 100 * o.accuracy), ratio(o.speed), format_bytes(o.bytes),
                      o.on_front ? "on the front" : ""});
  return t.shown();
}

}  // namespace haqa
