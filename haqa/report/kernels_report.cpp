#include "haqa/report/kernels_report.h"

#include <fmt/format.h>

#include <cmath>

#include "haqa/report/escape.h"
#include "haqa/report/page.h"
#include "haqa/report/plots.h"
#include "haqa/report/rounds_plot.h"

namespace haqa {
namespace {

std::string shape_text(const Part& row) {
  std::vector<std::string> numbers;
  for (const Part& n : row["shape"].list()) numbers.push_back(n.value_text());
  const std::string type = row["type"].text();
  return (type.empty() || type == "F32" ? "" : type + " ") + "[" + joined(numbers, ",") + "]";
}

std::string title_of(const Part& row) {
  return row["kernel"].text() + " " + shape_text(row);
}

std::optional<Interval> speedup_of(const Part& row) {
  const auto median = row["speedup"].positive(), low = row["speedup_low"].positive(),
             high = row["speedup_high"].positive();
  if (!median || !low || !high) return std::nullopt;
  return Interval{*median, *low, *high};
}

std::string microseconds(const Part& value) {
  return value.positive() ? figure(*value.positive()) : "";
}

std::string times(const Part& value) {
  return value.positive() ? ratio(*value.positive()) : "";
}

std::string note_of(const Part& row) {
  if (!row["failed"].text().empty()) return row["failed"].text();
  std::vector<std::string> notes;
  if (const auto speedup = speedup_of(row); speedup && speedup->low < 1)
    notes.emplace_back(speedup->high < 1 ? "slower: llama.cpp's own serves" : "no gain beyond the noise");
  if (row["code_changed"].is(true)) notes.emplace_back("code changed");
  if (row["is_default"].is(true)) notes.emplace_back("our defaults");
  if (const auto busy = row["busy"].positive(); busy && *busy > 0.1)
    notes.push_back(fmt::format("others used {:.0f} % of the machine", 100 * *busy));
  if (const auto share = row["disturbed"].positive(); share && *share > 0.5)
    notes.push_back(fmt::format("threads waited for a processor in {:.0f} % of the rounds", 100 * *share));
  if (const auto drift = row["drift"].positive(); drift && (*drift > 1.2 || *drift < 0.8))
    notes.push_back(fmt::format("the machine grew {} meanwhile: {} times the time", *drift > 1 ? "slower" : "faster",
                                ratio(*drift)));
  if (row["partly_cold"].is(true)) notes.emplace_back("weights partly in the caches");
  if (row["no_landlock"].is(true)) notes.emplace_back("no Landlock: the compiler could read any file");
  return joined(notes, "; ");
}

/// Configuration, evidence, and what the agent thought.
std::string details(const Part& row) {
  std::string out;
  if (!row["configuration"].is_missing()) {
    std::vector<std::string> parameters;
    for (const auto& [name, value] : row["configuration"].members())
      if (name != "code") parameters.push_back(name + " " + value.value_text());
    out += paragraph("Parameters: " + joined(parameters) + ".");
  }
  if (!row["files"]["source"].text().empty()) out += paragraph("Source: " + row["files"]["source"].text());
  const auto hot = row["hot"]["ratio"].positive(), cold = row["cold"]["ratio"].positive();
  if (hot && cold)
    out += paragraph(fmt::format("From warm caches {} us, {} times llama.cpp; from cold ones {} us, {} times.",
                                 microseconds(row["hot"]["us"]), ratio(*hot), microseconds(row["cold"]["us"]),
                                 ratio(*cold)));
  const std::vector<Round> rounds = read_rounds(row);
  const Round* best = best_round(rounds);
  if (best && !best->thought.empty()) out += paragraph("Why: " + best->thought);
  return out;
}

Table rounds_of(const std::vector<Round>& rounds) {
  Table table{{"round", "changed", "speed-up", "proposed by", "note"}, "rlrll", {}};
  for (const Round& r : rounds)
    table.rows.push_back({std::to_string(r.number), r.number == 1 ? "the defaults" : r.changes,
                          r.interval ? text_of(*r.interval) : "", r.proposed_by, r.failed ? r.message : ""});
  return table;
}

Plot speedups_plot(const Part& summary) {
  PlotSeries bars{.label = "speed-up", .look = Look::bar, .named = false};
  Plot plot{.id = "speedups", .label = "Speed-up of each kernel; the table holds the same figures"};
  for (const Part& row : summary["kernels"].list()) {
    const auto speedup = speedup_of(row);
    if (!speedup) continue;
    bars.data.push_back(
        {{"x", speedup->median}, {"y", plot.y.categories.size()}, {"label", title_of(row) + ": " + text_of(*speedup)}});
    plot.y.categories.push_back(title_of(row));
  }
  plot.x = {.title = "times llama.cpp's speed"};
  plot.y.reversed = true;
  plot.series = {bars};
  plot.sideways = true;
  return plot;
}

}  // namespace

Table kernels_table(const Part& summary) {
  Table table{{"kernel", "shape", "llama.cpp us", "ours us", "speed-up", "over our defaults", "over OpenBLAS",
               "of the roofline", "rounds", "note"},
              "llrrrrrrrl",
              {}};
  for (const Part& row : summary["kernels"].list()) {
    const auto speedup = speedup_of(row);
    const auto share = row["roofline_share"].positive();
    table.rows.push_back({row["kernel"].text(), shape_text(row), microseconds(row["baseline_us"]),
                          microseconds(row["tuned_us"]), speedup ? text_of(*speedup) : "", times(row["over_default"]),
                          times(row["over_openblas"]), share ? fmt::format("{:.0f} %", 100 * *share) : "",
                          row["rounds"].value_text(), note_of(row)});
  }
  return table.shown();
}

std::vector<std::string> kernels_answer(const Part& summary) {
  double logs = 0;
  int n = 0, gains = 0;
  for (const Part& row : summary["kernels"].list()) {
    const auto speedup = speedup_of(row);
    if (!speedup) continue;
    logs += std::log(speedup->median);
    gains += speedup->low > 1;
    ++n;
  }
  if (n == 0) return {"No kernel was measured."};
  return {fmt::format(
      "{} of {} kernels are faster than llama.cpp's own beyond the noise; the geometric mean of all speed-ups is {}.",
      gains, n, ratio(std::exp(logs / n)))};
}

std::string kernels_text(const Json& json) {
  const Part summary(json);
  std::string out;
  for (const std::string& sentence : kernels_answer(summary)) out += one_line(sentence, 400) + "\n";
  out += text_table("Kernels: latency of a launch, and speed-up by paired rounds in turn", kernels_table(summary));
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

std::string kernels_page(const Json& json, std::string_view chart_js) {
  const Part summary(json);
  Plots plots(chart_js);
  std::string body =
      html_header("Kernels on " + summary["hardware"]["name"].text(), joined(kernels_answer(summary), " "),
                  {summary["started"].text(), summary["command"].text()});
  body += section("All kernels", plots.figure(speedups_plot(summary), "Above 1: faster than llama.cpp's own.") +
                                     html_table(kernels_table(summary), "All kernels"));
  int number = 0;
  for (const Part& row : summary["kernels"].list()) {
    const std::vector<Round> rounds = read_rounds(row);
    if (rounds.empty()) continue;
    body += section(title_of(row),
                    details(row) +
                        plots.figure(rounds_plot(rounds, true, fmt::format("rounds-{}", number++), "llama.cpp"),
                                     "Each round in turn with llama.cpp's own.") +
                        html_table(rounds_of(rounds), "Rounds of " + title_of(row)));
  }
  return html_page("Kernels", body + plots.scripts());
}

}  // namespace haqa
