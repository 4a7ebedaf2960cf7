#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/bytes.h"
#include "haqa/report/escape.h"
#include "haqa/report/findings.h"
#include "haqa/report/finetune_report.h"
#include "haqa/report/report.h"

namespace haqa {
namespace {

/// Both are Markdown: whatever the summary holds has gone through markdown_code().
struct Suggestion {
  std::string what, why;
};
using Suggestions = std::vector<Suggestion>;

constexpr size_t kMostChanges = 5;
constexpr int kEnoughPairs = 6;  // for an interval of 95 %

/// Two rounds that differ in one parameter alone. What the defaults came to is noise, as all is measured against them.
struct SingleChange {
  std::string change;
  const Round *from = nullptr, *to = nullptr;
  Interval before;
  double effect() const { return std::abs(std::log(to->interval->median / before.median)); }
};

/// What was measured anew is no longer the luckiest of ten.
std::vector<Round> with_verification(const Part& summary, std::vector<Round> rounds) {
  const auto speedup = answer(summary).speedup;
  const auto trial = summary["verification"]["trial"].count();
  for (Round& r : rounds)
    if (speedup && trial && r.number == *trial + 1) {
      r.interval = speedup;
      r.value = speedup->median;
      r.pairs = summary["verification"]["speedup"]["pairs"].count().value_or(0);
    }
  return rounds;
}

/// Those whose intervals lie apart, the strongest first and each change once: with so few rounds anything more would be
/// guesswork, and in a long run the same change is met again and again.
std::vector<SingleChange> single_changes(const std::vector<Round>& rounds) {
  std::vector<SingleChange> all;
  const auto is_evidence = [](const Round& r) { return r.value && r.interval && r.pairs >= kEnoughPairs; };
  for (const Round& a : rounds)
    for (const Round& b : rounds) {
      if (&a >= &b || !is_evidence(a) || !is_evidence(b)) continue;
      const Interval before = &a == &rounds.front() ? Interval{1, 1, 1} : *a.interval;
      if (before.low <= b.interval->high && b.interval->low <= before.high) continue;
      const std::string change = changes(a.configuration, b.configuration);
      if (!change.empty() && change.find(',') == std::string::npos) all.push_back({change, &a, &b, before});
    }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.effect() > b.effect(); });
  std::vector<SingleChange> once;
  for (const SingleChange& c : all)
    if (std::none_of(once.begin(), once.end(), [&](const auto& o) { return o.change == c.change; })) once.push_back(c);
  if (once.size() > kMostChanges) once.resize(kMostChanges);
  return once;
}

void add_single_changes(const std::vector<Round>& rounds, Suggestions& all) {
  for (const SingleChange& c : single_changes(rounds)) {
    const bool helped = c.to->interval->median > c.before.median;
    all.push_back({fmt::format("{} {}: {}.", markdown_code(c.change), helped ? "seems to help" : "seems to hurt",
                               helped ? "keep it, and look around it" : "avoid it"),
                   fmt::format("Round {} differs from round {} in it alone and came to {} after {}; the intervals do "
                               "not overlap.",
                               c.to->number, c.from->number, text_of(*c.to->interval),
                               c.before.low < c.before.high ? text_of(c.before) : "1, the defaults")});
  }
}

void add_noise(const Part& summary, const std::vector<Round>& rounds, Suggestions& all) {
  if (rounds.empty() || !rounds[0].interval) return;
  if (rounds[0].pairs < kEnoughPairs) {
    all.push_back({fmt::format("Measure at least {} pairs in each round (`tuning.pairs`).", kEnoughPairs),
                   fmt::format("With {} the rounds have no interval of 95 %: what one of them gained may be noise.",
                               rounds[0].pairs)});
    return;
  }
  const Interval noise = *rounds[0].interval;
  const Round* best = best_round(rounds, maximizes(summary));
  const double gain = best && best->value ? *best->value - 1 : 0, spread = noise.high - noise.low;
  if (spread <= gain || spread < 0.02) return;
  all.push_back({"Measure more pairs in each round (`tuning.pairs`), on a quieter machine.",
                 fmt::format("llama.cpp's defaults against themselves came out at {}: that is wider than the best gain "
                             "seen, {:.1f} %.",
                             text_of(noise), 100 * gain)});
}

/// A verification that could not tell is not one that says no.
void add_undecided(const Part& summary, Suggestions& all) {
  const auto speedup = answer(summary).speedup;
  if (!summary["verification"]["confirmed"].is(false) || !speedup) return;
  if (speedup->median <= 1 || !speedup->holds(1)) return;
  all.push_back({"If a gain this small would matter, verify with more pairs (`tuning.confirm_pairs`).",
                 fmt::format("The best round came to {} when measured anew: it may be faster, but no gain at all is "
                             "within the interval.",
                             text_of(*speedup))});
}

/// Weights that stay in a cache are not read from memory, so that its bandwidth says nothing.
bool stays_in_cache(const Part& hardware, double weights) {
  for (const Part& cache : hardware["caches"].list())
    if (cache["bytes"].positive().value_or(0) * cache["count"].positive().value_or(1) > weights) return true;
  return false;
}

/// Between the two bounds either may be the limit: there the figures support nothing.
constexpr double kMemoryIdle = 0.6, kMemoryBusy = 0.8;

void add_roofline(const Part& summary, Suggestions& all) {
  double bandwidth = 0;
  for (const Part& b : summary["hardware"]["bandwidth"].list())
    bandwidth = std::max(bandwidth, b["bytes_per_s"].positive().value_or(0));
  const auto rate = measured(summary)["generate_tokens_per_s"].positive();
  const auto weights = decided_row(summary, summary["memory_plan"]["rows"])["weights_bytes"].bytes();
  if (!rate || !weights || bandwidth <= 0) return;
  if (stays_in_cache(summary["hardware"], static_cast<double>(*weights))) return;
  const double reached = *rate * static_cast<double>(*weights), share = reached / bandwidth;
  const std::string evidence =
      fmt::format("Generation reads about {} a token at {} tokens/s: {} GB/s of the {} GB/s measured.",
                  format_bytes(*weights), figure(*rate), figure(reached / 1e9), figure(bandwidth / 1e9));
  if (share < kMemoryIdle)
    all.push_back({"Better kernels have room: the memory is not the limit yet.", evidence});
  else if (share >= kMemoryBusy)
    all.push_back({"Only a smaller file will be much faster: the memory's bandwidth is nearly used up.", evidence});
}

void add_wider(const Part& summary, Suggestions& all) {
  const auto limit = summary["memory_plan"]["limit_bytes"].bytes();
  for (const Part& row : summary["memory_plan"]["rows"].list()) {
    const auto total = row["total_bytes"].bytes();
    if (!row["fits"].is(false) || !limit || !total || *total <= *limit) continue;
    all.push_back({fmt::format("With a memory limit of {} (`memory_limit`), {} would fit, with more bits for each "
                               "weight.",
                               format_bytes(*total + *total / 100), markdown_code(format_name(row))),
                   fmt::format("It needs {}; the limit is {}.", format_bytes(*total), format_bytes(*limit))});
  }
}

void add_failures(const std::vector<Round>& rounds, Suggestions& all) {
  for (const Round& r : rounds) {
    if (!r.failed) continue;
    const std::string reason = r.reason.empty() ? "" : " (" + markdown_code(r.reason) + ")";
    const std::string message = r.message.empty() ? "." : ": " + markdown_code(r.message);
    all.push_back({fmt::format("Leave {} alone, or find out why it fails.", markdown_code(r.changes)),
                   fmt::format("Round {} failed{}{}", r.number, reason, message)});
  }
}

void add_quality(const Part& summary, Suggestions& all) {
  const Part q = quality(summary);
  const auto perplexity = q["perplexity_ratio"].positive();
  const bool tuned = !summary["finetune"].is_missing();
  if (!perplexity || *perplexity < 1.02) return;
  // Q4_K_M is of the 4-bit formats the one that loses least; after anything wider it would be a step back.
  const char* other =
      summary["decision"]["bit_width"].text() == "int4" ? "a wider bit width or Q4_K_M" : "a wider bit width";
  all.push_back({fmt::format("If answers matter more than speed, compare {} on your own texts.", other),
                 fmt::format("Against the file given{}: {}.", tuned ? ", untuned" : "", quality_text(q))});
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
  const std::vector<Round> rounds = with_verification(summary, read_rounds(summary));
  Suggestions all;
  add_absent(summary, all);
  add_single_changes(rounds, all);
  add_noise(summary, rounds, all);
  add_undecided(summary, all);
  if (!disturbance(summary, rounds)) add_roofline(summary, all);
  add_quality(summary, all);
  add_wider(summary, all);
  add_failures(rounds, all);
  add_agent(summary, rounds, all);
  const std::vector<std::string> ideas = finetune_ideas(summary["finetune"]);
  std::string out = "# What to try next\n\n";
  if (all.empty() && ideas.empty()) out += "Nothing that this run's figures would support.\n";
  for (const Suggestion& s : all) out += fmt::format("- {} *Why:* {}\n", s.what, s.why);
  for (const std::string& idea : ideas) out += fmt::format("- Fine-tuning: {}\n", idea);
  return out;
}

}  // namespace haqa
