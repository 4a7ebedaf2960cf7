#include "haqa/report/findings.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/bytes.h"

namespace haqa {
namespace {

std::optional<Interval> interval_of(const Part& median, const Part& low, const Part& high) {
  const auto m = median.positive(), l = low.positive(), h = high.positive();
  return m && l && h ? std::optional(Interval{*m, *l, *h}) : std::nullopt;
}

std::string spaced(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

Round read_round(const Part& trial, int index, const Part& defaults) {
  const Part metrics = trial["metrics"];
  Round r{.configuration = trial["configuration"], .quality = metrics["quality"]};
  r.number = trial["number"].count().value_or(index) + 1;
  r.failed = trial["state"].text() == "failed";
  r.reason = spaced(trial["reason"].text());
  r.message = trial["message"].text();
  if (!r.failed) r.value = trial["value"].number();
  r.interval = interval_of(metrics["speedup"], metrics["speedup_low"], metrics["speedup_high"]);
  r.pairs = metrics["pairs"].count().value_or(0);
  r.tokens_per_s = metrics["tokens_per_s"].positive();
  r.changes = index == 0 ? "the defaults" : changes(defaults, r.configuration);
  if (r.changes.empty()) r.changes = "nothing";
  r.proposed_by = trial["proposed_by"].text();
  r.thought = trial["thought"].text();
  return r;
}

/// The type that the bundle's file has: tuning may have changed it within the bit width.
std::string winning_type(const Part& summary) {
  const Part verification = summary["verification"];
  const std::string tuned = verification["configuration"]["gguf_type"].text();
  return verification["confirmed"].is(true) && !tuned.empty() ? tuned : summary["decision"]["gguf_type"].text();
}

std::string named(const std::string& bit_width, const std::string& gguf_type) {
  if (bit_width.empty() || gguf_type.empty()) return bit_width + gguf_type;
  return fmt::format("{} ({})", bit_width, gguf_type);
}

std::string request_words(const Part& task) {
  const auto in = task["prompt_tokens"].count(), out = task["generate_tokens"].count();
  return in && out ? fmt::format("a request of {} tokens in and {} out", *in, *out) : "a request";
}

std::string speedup_words(const Interval& s, const Part& verification) {
  const auto pairs = verification["speedup"]["pairs"].count();
  const std::string over = pairs ? fmt::format(" over {} fresh pairs", *pairs) : "";
  return fmt::format("{} times the speed of llama.cpp's defaults ({} to {}{})", ratio(s.median), ratio(s.low),
                     ratio(s.high), over);
}

Verdict judge(const Part& summary, const std::vector<Round>& rounds, const std::string& format) {
  const Part verification = summary["verification"];
  if (verification["confirmed"].is(true)) return Verdict::confirmed;
  if (verification["confirmed"].is(false)) return Verdict::no_better;
  if (!rounds.empty() || !measured(summary).is_missing()) return Verdict::unverified;
  return format.empty() ? Verdict::nothing : Verdict::predicted;
}

std::string first_sentence(const Answer& a, const Part& summary) {
  const std::string device = summary["hardware"]["name"].text();
  const std::string on = device.empty() ? "" : " on " + device;
  const std::string what = a.format.empty() ? "the model" : a.format;
  if (a.verdict == Verdict::predicted) {
    const std::string rate = a.tokens_per_s ? fmt::format(", at {} generated tokens/s", figure(*a.tokens_per_s)) : "";
    return fmt::format("Run {}: it is predicted to be the fastest{} that fits{}.", what, on, rate);
  }
  const std::string how = a.verdict == Verdict::confirmed ? "with the tuned options" : "with llama.cpp's defaults";
  if (!a.tokens_per_s) return fmt::format("Run {} {}{}.", what, how, on);
  return fmt::format("Run {} {}: {} generated tokens/s over {}{}.", what, how, figure(*a.tokens_per_s),
                     request_words(summary["task"]), on);
}

std::string no_better_sentence(const Answer& a, const Part& summary, const std::vector<Round>& rounds) {
  if (const std::string why = summary["verification"]["message"].text(); !why.empty())
    return fmt::format("Not confirmed: verifying the best round failed, llama.cpp's defaults are kept: {}", why);
  if (!a.speedup)
    return fmt::format("No faster configuration was found in {} round{}: llama.cpp's defaults are kept.", rounds.size(),
                       rounds.size() == 1 ? "" : "s");
  const auto trial = summary["verification"]["trial"].count();
  const std::string which = trial ? fmt::format("the best, of round {},", *trial + 1) : "the best";
  const char* was = a.speedup->high < 1 ? "was slower than" : "could not be told from";
  return fmt::format("Not confirmed: when verified anew, {} {} the defaults, which are kept: {}.", which, was,
                     speedup_words(*a.speedup, summary["verification"]));
}

std::string unverified_sentence(const Part& summary, const std::vector<Round>& rounds) {
  const Round* best = best_round(rounds, maximizes(summary));
  if (!best && rounds.empty()) return "The run ended before the tuning began.";
  if (!best)
    return fmt::format("None of the {} configurations tried ran, not even llama.cpp's defaults.", rounds.size());
  if (best->number == 1) return "The run ended before a faster configuration was found.";
  return fmt::format(
      "The run ended before its best round, {}, at {} times the defaults' speed, could be verified: as the highest of "
      "{} it is probably overstated.",
      best->number, ratio(*best->value), rounds.size());
}

std::string second_sentence(const Answer& a, const Part& summary, const std::vector<Round>& rounds) {
  switch (a.verdict) {
    case Verdict::nothing:
      return "The run ended before a bit width was chosen.";
    case Verdict::predicted:
      return summary["hardware"]["here"].is(false)
                 ? "No speed was measured, as the device is not here: run HAQA on the device itself to confirm it."
                 : "The run ended before anything was measured.";
    case Verdict::unverified:
      return unverified_sentence(summary, rounds);
    case Verdict::no_better:
      return no_better_sentence(a, summary, rounds);
    case Verdict::confirmed:
      break;
  }
  return a.speedup ? fmt::format("Confirmed: this is {}.", speedup_words(*a.speedup, summary["verification"]))
                   : "Confirmed against llama.cpp's defaults.";
}

std::string verdict_against(const Part& row, std::optional<uint64_t> limit, std::optional<uint64_t> total) {
  if (row["fits"].is(true)) return limit ? "fits" : "";
  if (!row["fits"].is(false)) return "";
  if (!limit || !total || *total <= *limit) return "does not fit";
  return fmt::format("does not fit: {} too much", format_bytes(*total - *limit));
}

std::string of_limit(std::optional<uint64_t> limit, std::optional<uint64_t> total) {
  return limit && total ? fmt::format("{:.0f} %", 100 * static_cast<double>(*total) / static_cast<double>(*limit)) : "";
}

void add_fact(Facts& facts, const std::string& name, const std::string& value) {
  if (!value.empty()) facts.emplace_back(name, value);
}

std::string cores_text(const Part& hardware) {
  const auto cores = hardware["cores"].count(), threads = hardware["threads"].count();
  if (!cores || *cores == 0) return "";
  std::string text = std::to_string(*cores);
  if (threads && *threads != *cores) text += fmt::format(", {} threads", *threads);
  if (const auto nodes = hardware["numa_nodes"].count(); nodes && *nodes > 1)
    text += fmt::format(", {} NUMA nodes", *nodes);
  return text;
}

std::string caches_text(const Part& hardware) {
  std::vector<std::string> all;
  for (const Part& cache : hardware["caches"].list()) {
    const auto level = cache["level"].count(), count = cache["count"].count();
    const std::string size = amount(cache["bytes"].bytes());
    if (!level || size.empty()) continue;
    all.push_back(fmt::format("L{} {}{}", *level, count && *count > 1 ? fmt::format("{} x ", *count) : "", size));
  }
  return joined(all);
}

std::string bandwidth_text(const Part& hardware) {
  std::vector<std::string> all;
  for (const Part& entry : hardware["bandwidth"].list()) {
    const auto rate = entry["bytes_per_s"].positive();
    const auto threads = entry["threads"].count();
    if (!rate) continue;
    const std::string with =
        threads && *threads > 0 ? fmt::format(" with {} thread{}", *threads, *threads == 1 ? "" : "s") : "";
    all.push_back(fmt::format("{} GB/s{}", figure(*rate / 1e9), with));
  }
  return joined(all);
}

std::string peak_text(const Part& hardware) {
  std::vector<std::string> all;
  for (const char* type : {"fp32", "fp16", "int8", "int4"})
    if (const auto rate = hardware["peak"][type].positive())
      all.push_back(fmt::format("{} {} TOPS", type, figure(*rate / 1e12)));
  return joined(all);
}

std::string texts(const Part& list, std::string_view between = ", ") {
  std::vector<std::string> all;
  for (const Part& element : list.list())
    if (!element.text().empty()) all.push_back(element.text());
  return joined(all, between);
}

std::string gpus_text(const Part& hardware) {
  std::vector<std::string> all;
  for (const Part& gpu : hardware["gpus"].list()) {
    const std::string memory = amount(gpu["memory_bytes"].bytes());
    if (!gpu["name"].text().empty()) all.push_back(gpu["name"].text() + (memory.empty() ? "" : ", " + memory));
  }
  return joined(all, "; ");
}

std::string count_text(const Part& part) {
  return part.count() ? std::to_string(*part.count()) : "";
}

}  // namespace

std::string figure(double value) {
  const double size = std::abs(value);
  if (size >= 1e6 || (size < 1 && size > 0)) return fmt::format("{:.3g}", value);
  return fmt::format("{:.{}f}", value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

std::string ratio(double value) {
  return value < 1e6 ? fmt::format("{:.3f}", value) : figure(value);
}

std::string figure(std::optional<double> value, std::string_view unit) {
  if (!value) return "";
  return unit.empty() ? figure(*value) : fmt::format("{} {}", figure(*value), unit);
}

std::string amount(std::optional<uint64_t> bytes) {
  return bytes ? format_bytes(*bytes) : "";
}

std::string percent_change(double value) {
  const double change = 100 * (value - 1);
  return change < 1e6 ? fmt::format("{:+.2f} %", change) : "+" + figure(change) + " %";
}

std::string joined(const std::vector<std::string>& texts, std::string_view between) {
  return fmt::format("{}", fmt::join(texts, between));
}

std::string text_of(const Interval& i) {
  return fmt::format("{} ({} to {})", ratio(i.median), ratio(i.low), ratio(i.high));
}

std::vector<Round> read_rounds(const Part& summary) {
  std::vector<Round> rounds;
  const std::vector<Part> trials = summary["trials"].list();
  for (const Part& trial : trials)
    rounds.push_back(read_round(trial, static_cast<int>(rounds.size()), trials.front()["configuration"]));
  return rounds;
}

const Round* best_round(const std::vector<Round>& rounds, bool maximize) {
  const Round* best = nullptr;
  for (const Round& r : rounds)
    if (r.value && (!best || (maximize ? *r.value > *best->value : *r.value < *best->value))) best = &r;
  return best;
}

bool maximizes(const Part& summary) {
  return summary["track"]["direction"].text() != "minimize";
}

std::string changes(const Part& from, const Part& to) {
  std::vector<std::string> all;
  for (const auto& [name, value] : to.members())
    if (!value.value_text().empty() && value.json() != from[name.c_str()].json())
      all.push_back(
          name + " " +
          (value.json().is_number_float() ? fmt::format("{:.4g}", value.json().get<double>()) : value.value_text()));
  return joined(all);
}

std::string format_name(const Part& part) {
  return named(part["bit_width"].text(), part["gguf_type"].text());
}

Part decided_row(const Part& summary, const Part& list) {
  for (const Part& row : list.list())
    if (is_chosen(summary, row)) return row;
  return list["none"];
}

bool is_chosen(const Part& summary, const Part& row) {
  const std::string wanted = summary["decision"]["bit_width"].text();
  return !wanted.empty() && row["bit_width"].text() == wanted;
}

Part measured(const Part& summary) {
  const Part verification = summary["verification"];
  const Part fresh = verification[verification["confirmed"].is(true) ? "winner" : "default"];
  if (!fresh.is_missing()) return fresh;
  for (const Part& trial : summary["trials"].list())  // the first runs the defaults
    if (const Part metrics = trial["metrics"]; metrics["tokens_per_s"].positive())
      return metrics;
    else
      break;
  return decided_row(summary, summary["bit_widths"])["measured"];
}

Part quality(const Part& summary) {
  const Part verification = summary["verification"];
  if (verification["confirmed"].is(true)) {
    for (const Part& trial : summary["trials"].list())
      if (trial["number"].count() && trial["number"].count() == verification["trial"].count())
        return trial["metrics"]["quality"];
  }
  return decided_row(summary, summary["bit_widths"])["quality"];
}

std::string quality_text(const Part& q) {
  std::vector<std::string> all;
  if (const auto r = q["perplexity_ratio"].positive()) {
    const auto error = q["perplexity_ratio_error"].number();
    all.push_back("perplexity " + percent_change(*r) + (error ? fmt::format(" ± {:.2f} %", 100 * *error) : ""));
  }
  if (const auto kl = q["kl_divergence"].number()) all.push_back("KL divergence " + figure(*kl));
  if (const auto top = q["same_top"].number(); top && *top >= 0 && *top <= 1)
    all.push_back(fmt::format("same likeliest token {:.1f} %", 100 * *top));
  return joined(all);
}

std::optional<Interval> disturbance(const Part& summary, const std::vector<Round>& rounds) {
  constexpr double kTooMuch = 1.4;  // a quiet machine's pairs span a few percent
  const Part speedup = summary["verification"]["speedup"];
  const auto first = rounds.empty() ? std::nullopt : rounds[0].interval;
  for (const auto& spread : {first, interval_of(speedup["median"], speedup["low"], speedup["high"])})
    if (spread && spread->high > kTooMuch * spread->low) return spread;
  return {};
}

Answer answer(const Part& summary) {
  const std::vector<Round> rounds = read_rounds(summary);
  Answer a;
  a.format = named(summary["decision"]["bit_width"].text(), winning_type(summary));
  a.verdict = judge(summary, rounds, a.format);
  const Part speedup = summary["verification"]["speedup"];
  a.speedup = interval_of(speedup["median"], speedup["low"], speedup["high"]);
  a.tokens_per_s = a.verdict == Verdict::predicted
                       ? decided_row(summary, summary["bit_widths"])["predicted_tokens_per_s"].positive()
                       : measured(summary)["tokens_per_s"].positive();
  const std::string first = a.verdict == Verdict::nothing ? "This run has no result." : first_sentence(a, summary);
  a.sentences = {first, second_sentence(a, summary, rounds)};
  if (const auto noise = disturbance(summary, rounds))
    a.sentences.push_back(fmt::format(
        "The machine was busy with other work: pairs of the same two configurations came to {}. Measure again "
        "on a quiet one before you rely on any figure here.",
        text_of(*noise)));
  return a;
}

std::string verdict_sentence(const Part& summary) {
  return answer(summary).sentences[1];
}

std::string_view text_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::confirmed:
      return "confirmed";
    case Verdict::no_better:
      return "no better than the defaults";
    case Verdict::unverified:
      return "not verified";
    case Verdict::predicted:
      return "predicted, not measured";
    case Verdict::nothing:
      break;
  }
  return "no result";
}

Table Table::shown() const {
  Table t;
  t.rows.resize(rows.size());
  for (size_t column = 0; column < head.size(); ++column) {
    const auto has_value = [&](const auto& row) { return !row[column].empty(); };
    if (std::none_of(rows.begin(), rows.end(), has_value)) continue;
    t.head.push_back(head[column]);
    t.align += align[column];
    for (size_t row = 0; row < rows.size(); ++row) t.rows[row].push_back(rows[row][column]);
  }
  return t.head.size() < 2 ? Table{} : t;
}

Table memory_table(const Part& summary) {
  const auto limit = summary["memory_plan"]["limit_bytes"].bytes();
  Table t{{"bit width", "weights", "KV cache", "compute", "adapter", "overhead", "total", "of the limit", "verdict"},
          "lrrrrrrrl",
          {}};
  for (const Part& row : summary["memory_plan"]["rows"].list()) {
    const auto total = row["total_bytes"].bytes();
    t.rows.push_back({format_name(row), amount(row["weights_bytes"].bytes()), amount(row["kv_cache_bytes"].bytes()),
                      amount(row["compute_bytes"].bytes()), amount(row["adapter_bytes"].bytes()),
                      amount(row["overhead_bytes"].bytes()), amount(total), of_limit(limit, total),
                      verdict_against(row, limit, total)});
  }
  return t.shown();
}

Table bit_width_table(const Part& summary) {
  Table t{{"bit width", "predicted tg/s", "measured tg/s", "measured pp/s", "tokens/s of a request",
           "against the widest", "peak memory", "perplexity", "KL divergence", "same top token", "verdict"},
          "lrrrrrrrrrl",
          {}};
  for (const Part& row : summary["bit_widths"].list()) {
    const Part m = row["measured"], q = row["quality"];
    const auto perplexity = q["perplexity_ratio"].positive(), same = q["same_top"].number();
    const Part r = row["ratio_to_widest"];
    const auto against = interval_of(r["median"], r["low"], r["high"]);
    t.rows.push_back({format_name(row), figure(row["predicted_tokens_per_s"].positive(), ""),
                      figure(m["generate_tokens_per_s"].positive(), ""),
                      figure(m["prompt_tokens_per_s"].positive(), ""), figure(m["tokens_per_s"].positive(), ""),
                      against ? (against->low < against->high ? text_of(*against) : "1") : "",
                      amount(m["peak_bytes"].bytes()), perplexity ? percent_change(*perplexity) : "",
                      figure(q["kl_divergence"].number(), ""), same ? fmt::format("{:.1f} %", 100 * *same) : "",
                      is_chosen(summary, row)         ? "chosen"
                      : row["refused"].text().empty() ? ""
                                                      : "out"});
  }
  return t.shown();
}

Table rounds_table(const Part& summary, const std::vector<Round>& rounds) {
  const Round* best = best_round(rounds, maximizes(summary));
  const Part verification = summary["verification"];
  const bool doubted = verification["confirmed"].is(false) && best && best->number > 1;
  const std::string best_note = doubted ? "best, not confirmed" : "best";
  Table t{{"round", "changed", "speed-up", "tokens/s", "proposed by", "note"}, "rlrrll", {}};
  for (const Round& r : rounds) {
    // The interval's: the value of the defaults is 1 by definition, and against themselves they show the noise.
    const std::string value = !r.value ? "" : r.interval ? text_of(*r.interval) : ratio(*r.value);
    const std::string note = r.failed     ? "failed" + (r.reason.empty() ? "" : ": " + r.reason)
                             : &r == best ? best_note
                                          : "";
    t.rows.push_back({std::to_string(r.number), r.changes, value, figure(r.tokens_per_s, ""), r.proposed_by, note});
  }
  return t.shown();
}

Table failures_table(const std::vector<Round>& rounds) {
  Table t{{"round", "reason", "changed", "message"}, "rlll", {}};
  for (const Round& r : rounds)
    if (r.failed) t.rows.push_back({std::to_string(r.number), r.reason, r.changes, r.message});
  return t.shown();
}

Table agent_events_table(const Part& summary) {
  Table t{{"round", "fault", "detail", "consequence"}, "rlll", {}};
  for (const Part& e : summary["agent_events"].list())
    t.rows.push_back({e["round"].count() == 0 ? "bit width" : count_text(e["round"]), spaced(e["kind"].text()),
                      e["detail"].text(),
                      e["fallback"].is(true)    ? "the surrogate proposed instead"
                      : e["fallback"].is(false) ? "asked again"
                                                : ""});
  return t.shown();
}

Facts device_facts(const Part& summary) {
  const Part h = summary["hardware"];
  Facts facts;
  add_fact(facts, "name", h["name"].text());
  add_fact(facts, "vendor", h["vendor"].text());
  add_fact(facts, "architecture", h["architecture"].text());
  add_fact(facts, "platform", h["platform"].text());
  add_fact(facts, "model runs on", h["engine"].text());
  add_fact(facts, "cores", cores_text(h));
  add_fact(facts, "caches", caches_text(h));
  add_fact(facts, "instruction sets", texts(h["instruction_sets"]));
  add_fact(facts, "memory", amount(h["memory_bytes"].bytes()));
  add_fact(facts, "of it free", amount(h["free_bytes"].bytes()));
  add_fact(facts, "memory bandwidth", bandwidth_text(h));
  add_fact(facts, "peak arithmetic", peak_text(h));
  add_fact(facts, "matrix units", texts(h["matrix_units"]));
  add_fact(facts, "GPUs", gpus_text(h));
  add_fact(facts, "notes", texts(h["notes"], "; "));
  if (h["here"].is(false)) add_fact(facts, "figures", "from a profile: the device is not here");
  return facts;
}

Facts agent_facts(const Part& summary) {
  const Part a = summary["agent"];
  Facts facts;
  add_fact(facts, "proposals by", a["provider"].text());
  add_fact(facts, "calls", count_text(a["calls"]));
  add_fact(facts, "calls that failed", count_text(a["failures"]));
  add_fact(facts, "tokens sent", a["prompt_tokens"].positive() ? count_text(a["prompt_tokens"]) : "");
  add_fact(facts, "tokens received", a["completion_tokens"].positive() ? count_text(a["completion_tokens"]) : "");
  if (const auto latency = a["latency_s"].positive()) add_fact(facts, "waited", format_seconds(*latency));
  if (const auto cost = a["cost_usd"].number()) add_fact(facts, "cost", fmt::format("{:.4f} US dollars", *cost));
  return facts;
}

}  // namespace haqa
