#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "haqa/base/bytes.h"
#include "haqa/report/escape.h"
#include "haqa/report/findings.h"
#include "haqa/report/report.h"

namespace haqa {
namespace {

struct Suggestion {
  std::string what, why;
};
using Suggestions = std::vector<Suggestion>;

/// Rounds that differ in one parameter alone say what it does; more than that is guesswork with so few rounds.
void add_single_changes(const std::vector<Round>& rounds, Suggestions& all) {
  for (const Round& a : rounds)
    for (const Round& b : rounds) {
      if (a.number >= b.number || !a.value || !b.value || !a.interval || !b.interval) continue;
      const std::string change = changes(a.configuration, b.configuration);
      if (change.empty() || change.find(',') != std::string::npos) continue;
      const bool helped = b.interval->low > a.interval->high, hurt = b.interval->high < a.interval->low;
      if (!helped && !hurt) continue;
      all.push_back({fmt::format("{} {} here: look closer {} it.", markdown_code(change), helped ? "helped" : "hurt",
                                 helped ? "around" : "away from"),
                     fmt::format("Round {} differs from round {} in it alone: {} after {}.", b.number, a.number,
                                 text_of(*b.interval), text_of(*a.interval))});
    }
}

void add_noise(const Part& summary, const std::vector<Round>& rounds, Suggestions& all) {
  if (rounds.empty() || !rounds[0].interval) return;
  const Interval noise = *rounds[0].interval;
  const Round* best = best_round(rounds, maximizes(summary));
  const double gain = best && best->value ? *best->value - 1 : 0, spread = noise.high - noise.low;
  if (spread <= gain || spread < 0.02) return;
  all.push_back({"Measure more pairs in each round (`tuning.pairs`), on a quieter machine.",
                 fmt::format("llama.cpp's defaults against themselves came out at {}: that is wider than the best gain "
                             "seen, {:.1f} %.",
                             text_of(noise), 100 * gain)});
}

void add_roofline(const Part& summary, Suggestions& all) {
  double bandwidth = 0;
  for (const Part& b : summary["hardware"]["bandwidth"].list())
    bandwidth = std::max(bandwidth, b["bytes_per_s"].positive().value_or(0));
  const auto rate = measured(summary)["generate_tokens_per_s"].positive();
  const auto weights = decided_row(summary, summary["memory_plan"]["rows"])["weights_bytes"].bytes();
  if (!rate || !weights || bandwidth <= 0) return;
  for (const Part& cache : summary["hardware"]["caches"].list())
    if (cache["bytes"].positive().value_or(0) * cache["count"].positive().value_or(1) > static_cast<double>(*weights))
      return;  // the weights stay in a cache, so that the memory is not what limits
  const double reached = *rate * static_cast<double>(*weights);
  const std::string evidence =
      fmt::format("Generation reads {} a token at {} tokens/s, {:.1f} GB/s of the {:.1f} GB/s that memory gives.",
                  format_bytes(*weights), figure(*rate), reached / 1e9, bandwidth / 1e9);
  if (reached < 0.6 * bandwidth) {
    all.push_back({"Better kernels have room: the memory is not the limit yet.", evidence});
  } else {
    all.push_back({"Only a smaller file will be much faster: the memory's bandwidth is nearly used up.", evidence});
  }
}

void add_wider(const Part& summary, Suggestions& all) {
  for (const Part& row : summary["memory_plan"]["rows"].list()) {
    const auto total = row["total_bytes"].bytes();
    if (!row["fits"].is(false) || !total) continue;
    all.push_back({fmt::format("With a memory limit of {}, {} would fit and lose less quality.",
                               format_bytes(*total + *total / 100), one_line(format_name(row))),
                   fmt::format("It needs {}; the limit is {}.", format_bytes(*total),
                               amount(summary["memory_plan"]["limit_bytes"].bytes()))});
  }
}

void add_failures(const std::vector<Round>& rounds, Suggestions& all) {
  for (const Round& r : rounds)
    if (r.failed)
      all.push_back({fmt::format("Leave {} alone, or find out why it fails.", markdown_code(r.changes)),
                     fmt::format("Round {} failed ({}): {}", r.number, r.reason, markdown_code(r.message))});
}

void add_quality(const Part& summary, Suggestions& all) {
  const Part q = quality(summary);
  const auto perplexity = q["perplexity_ratio"].positive();
  if (!perplexity || *perplexity < 1.02) return;
  all.push_back({"If answers matter more than speed, compare a wider bit width or Q4_K_M on your own texts.",
                 "Against the file given: " + quality_text(q) + "."});
}

void add_agent(const Part& summary, const std::vector<Round>& rounds, Suggestions& all) {
  if (rounds.size() < 2 || summary["agent"]["provider"].text() != "expert") return;
  all.push_back({"Try a language model as the agent: `agent.provider: openai` with `HAQA_BASE_URL` and `HAQA_MODEL`.",
                 "This run was the offline expert's: rules and a surrogate, no language model."});
}

void add_absent(const Part& summary, Suggestions& all) {
  if (!summary["hardware"]["here"].is(false)) return;
  all.push_back({"Run HAQA on the device itself before relying on the choice.",
                 "Everything here follows from its data sheet: nothing was measured on it."});
}

}  // namespace

std::string suggestions(const Json& json) {
  const Part summary(json);
  const std::vector<Round> rounds = read_rounds(summary);
  Suggestions all;
  add_absent(summary, all);
  add_single_changes(rounds, all);
  add_noise(summary, rounds, all);
  add_roofline(summary, all);
  add_quality(summary, all);
  add_wider(summary, all);
  add_failures(rounds, all);
  add_agent(summary, rounds, all);
  std::string out = "# What to try next\n\n";
  if (all.empty()) out += "Nothing that this run's figures would support.\n";
  for (const Suggestion& s : all) out += fmt::format("- {} *Why:* {}\n", s.what, s.why);
  return out;
}

}  // namespace haqa
