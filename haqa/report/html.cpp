#include <fmt/format.h>

#include "haqa/base/bytes.h"
#include "haqa/base/file.h"
#include "haqa/report/escape.h"
#include "haqa/report/findings.h"
#include "haqa/report/page.h"
#include "haqa/report/report.h"

namespace haqa {
namespace {

std::string bit_width_section(const Part& summary) {
  RowLooks looks;
  std::string reasons;
  for (const Part& row : summary["bit_widths"].list()) {
    looks.classes.push_back(is_chosen(summary, row) ? "best" : "");
    if (!row["why"].text().empty())
      reasons += "<li>" + html_text(format_name(row) + " " + row["why"].text() + ".") + "</li>\n";
  }
  std::string out = html_table(bit_width_table(summary), "Bit widths, predicted and measured", looks);
  if (!out.empty()) out += paragraph("tg/s: generated tokens per second; pp/s: prompt tokens per second.");
  out += paragraph(summary["decision"]["why"].text());
  if (!reasons.empty()) out += "<h3>Why the prediction says so</h3>\n<ul>\n" + reasons + "</ul>\n";
  const Part agent = summary["decision"]["agent"];
  if (agent["bit_width"].text().empty()) return out;
  const std::string who = agent["proposed_by"].text(), thought = agent["thought"].text();
  return out + paragraph(fmt::format("The agent{} had chosen {}{}", who.empty() ? "" : " (" + who + ")",
                                     agent["bit_width"].text(), thought.empty() ? "." : ": " + thought));
}

std::string html_rounds(const Part& summary, const std::vector<Round>& rounds) {
  const Round* best = best_round(rounds, maximizes(summary));
  RowLooks looks;
  for (const Round& r : rounds) {
    looks.classes.push_back(&r == best ? "best" : r.failed ? "failed" : "");
    looks.below.push_back(
        r.thought.empty() ? "" : fmt::format("<details><summary>why</summary>{}</details>", element("p", r.thought)));
  }
  return html_table(rounds_table(summary, rounds), "Rounds", looks);
}

/// What the plot's script reads: for each round its value, its interval and the best value so far.
Json plot_data(const std::vector<Round>& rounds, bool maximize) {
  Json data = Json::array();
  std::optional<double> best;
  for (const Round& r : rounds) {
    if (r.value && (!best || (maximize ? *r.value > *best : *r.value < *best))) best = r.value;
    data.push_back({{"round", r.number},
                    {"value", !r.value ? Json(nullptr) : Json(r.interval ? r.interval->median : *r.value)},
                    {"low", r.value && r.interval ? Json(r.interval->low) : Json(nullptr)},
                    {"high", r.value && r.interval ? Json(r.interval->high) : Json(nullptr)},
                    {"best", best ? Json(*best) : Json(nullptr)},
                    {"failed", r.failed},
                    {"label", one_line(r.changes, 80)}});
  }
  return data;
}

std::string plot(const std::vector<Round>& rounds, bool maximize, std::string_view chart_js) {
  if (rounds.size() < 2 || chart_js.empty()) return "";
  return fmt::format(
      "<figure><div class=\"plot\"><canvas id=\"plot\" role=\"img\" aria-label=\"Speed-up of each round with its "
      "interval; the table below holds the same figures\"></canvas></div>\n<figcaption>Each round's speed-up over "
      "llama.cpp's defaults with its interval, and the best so far. A cross marks a failed "
      "round.</figcaption></figure>\n"
      "<script>{}</script>\n<script>const rounds = {};\n{}</script>\n",
      script_code(chart_js), script_json(plot_data(rounds, maximize)),
      script_code(read_file(data_folder() / "report/plot.js")));
}

constexpr const char* kMethod =
    "Every configuration was timed in turn with llama.cpp's defaults by llama-bench, so that drift of the machine hits "
    "both alike; the value is the median of the paired ratios, with a distribution-free interval of about 95 % (of the "
    "extremes, and of less, where there are fewer than six pairs). Round 1 compares the defaults with themselves and "
    "shows the noise. The best round was measured anew before it was named, as the best of many is overstated by "
    "chance.";
constexpr const char* kLimits =
    "It speaks of one model, one machine and one size of request: others may come out differently. Perplexity and KL "
    "divergence are averages over a short calibration text: they do not say how well the model answers, and with "
    "generated (random) weights they say nothing of text quality, only how far the numbers moved.";

std::string header(const Part& summary, Verdict verdict) {
  const Part model = summary["model"];
  std::vector<std::string> facts = {"HAQA report"};
  if (const auto parameters = model["parameters"].positive())
    facts.push_back(fmt::format("{} million parameters", figure(*parameters / 1e6)));
  for (const std::string& text : {model["architecture"].text(), model["main_type"].text()})
    if (!text.empty()) facts.push_back(text);
  const std::string name = model["name"].text();
  return "<header>\n" + element("h1", name.empty() ? "HAQA" : name) +
         element("p", std::string(text_of(verdict)), " class=\"verdict\"") +
         element("p", joined(facts, " · "), " class=\"facts\"") + "\n</header>\n";
}

std::string answer_section(const Part& summary, const Answer& result) {
  const std::string command = summary["bundle"]["command"].text(), lost = quality_text(quality(summary));
  std::string out = "<section class=\"answer\" aria-label=\"The answer\">\n";
  for (const std::string& sentence : result.sentences) out += paragraph(sentence);
  if (!lost.empty()) out += paragraph("Quality against the file given: " + lost + ".");
  if (!command.empty())
    out += "<h2>Run it, in the bundle's folder</h2>\n<pre tabindex=\"0\">" + html_text(command) + "</pre>\n";
  return out + "</section>\n";
}

std::string memory_section(const Part& summary) {
  RowLooks looks;
  for (const Part& row : summary["memory_plan"]["rows"].list())
    looks.classes.push_back(is_chosen(summary, row) ? "best" : "");
  const std::string limit = amount(summary["memory_plan"]["limit_bytes"].bytes());
  const auto context = summary["memory_plan"]["context"].count();
  const std::string with = context ? fmt::format(" with a context of {} tokens", *context) : "";
  const std::string table = html_table(memory_table(summary), "Memory by bit width", looks);
  if (table.empty()) return "";
  return paragraph(limit.empty() ? "" : fmt::format("Planned{}, against a limit of {}.", with, limit)) + table;
}

std::string footer(const Part& summary) {
  std::vector<std::string> facts = {"HAQA"};
  if (!summary["haqa_version"].text().empty()) facts[0] += " " + summary["haqa_version"].text();
  for (const std::string& text : {summary["command"].text(), summary["started"].text()})
    if (!text.empty()) facts.push_back(text);
  if (const auto seconds = summary["seconds"].positive()) facts.push_back("took " + format_seconds(*seconds));
  return "<footer>" + element("p", joined(facts, " · ")) + "</footer>\n";
}

std::string page_body(const Part& summary, std::string_view chart_js) {
  const std::vector<Round> rounds = read_rounds(summary);
  const bool maximize = maximizes(summary);
  const Answer result = answer(summary);
  std::string body = header(summary, result.verdict) + "<main>\n" + answer_section(summary, result);
  body += section("Device", html_facts(device_facts(summary)));
  body += section("Memory", memory_section(summary));
  body += section("Bit widths", bit_width_section(summary));
  body += section("Rounds", plot(rounds, maximize, chart_js) + html_rounds(summary, rounds));
  body += section("Failures", html_table(failures_table(rounds), "Failures"));
  body += section("The agent",
                  html_facts(agent_facts(summary)) + html_table(agent_events_table(summary), "The agent's faults"));
  body += section("How it was measured", rounds.empty() ? "" : paragraph(kMethod));
  body += section("What this report cannot say", paragraph(kLimits));
  return body + "</main>\n" + footer(summary);
}

}  // namespace

std::string html_report(const Json& json, std::string_view chart_js) {
  const Part summary(json);
  const std::string model = summary["model"]["name"].text();
  return html_page(model.empty() ? "HAQA" : "HAQA: " + model, page_body(summary, chart_js));
}

}  // namespace haqa
