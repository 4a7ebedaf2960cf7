#include <fmt/format.h>

#include "haqa/base/file.h"
#include "haqa/report/escape.h"
#include "haqa/report/findings.h"
#include "haqa/report/report.h"

namespace haqa {
namespace {

std::string element(std::string_view tag, const std::string& text, std::string_view attributes = "") {
  return fmt::format("<{0}{1}>{2}</{0}>", tag, attributes, html_text(text));
}

std::string section(const std::string& title, const std::string& content) {
  return content.empty() ? "" : "<section>\n<h2>" + html_text(title) + "</h2>\n" + content + "</section>\n";
}

std::string paragraph(const std::string& text) {
  return text.empty() ? "" : element("p", text) + "\n";
}

std::string html_table(const Table& table) {
  if (table.head.empty() || table.rows.empty()) return "";
  const auto side = [&](size_t i) { return table.align[i] == 'r' ? " class=\"number\"" : ""; };
  std::string out = "<div class=\"scroll\"><table>\n<thead><tr>";
  for (size_t i = 0; i < table.head.size(); ++i)
    out += element("th", table.head[i], std::string(" scope=\"col\"") + side(i));
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (size_t i = 0; i < row.size(); ++i)
      out += i == 0 ? element("th", row[i], std::string(" scope=\"row\"") + side(i)) : element("td", row[i], side(i));
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string html_facts(const Facts& facts) {
  std::string out;
  for (const auto& [name, value] : facts) out += element("dt", name) + element("dd", value) + "\n";
  return out.empty() ? "" : "<dl>\n" + out + "</dl>\n";
}

std::string bit_width_section(const Part& summary) {
  std::string out = html_table(bit_width_table(summary)) + paragraph(summary["decision"]["why"].text());
  std::string reasons;
  for (const Part& row : summary["bit_widths"].list()) {
    if (!row["why"].text().empty())
      reasons += "<li>" + html_text(format_name(row) + " " + row["why"].text() + ".") + "</li>\n";
  }
  if (!reasons.empty()) out += "<h3>Why the prediction says so</h3>\n<ul>\n" + reasons + "</ul>\n";
  const Part agent = summary["decision"]["agent"];
  if (!agent["bit_width"].text().empty())
    out += paragraph(fmt::format("The agent ({}) had chosen {}: {}", agent["proposed_by"].text(),
                                 agent["bit_width"].text(), agent["thought"].text()));
  return out;
}

std::string thoughts(const std::vector<Round>& rounds) {
  std::string out;
  for (const Round& r : rounds)
    if (!r.thought.empty())
      out += fmt::format("<details><summary>Round {}, {}</summary>{}</details>\n", r.number, html_text(r.proposed_by),
                         element("p", r.thought));
  return out.empty() ? "" : "<h3>The reasons given</h3>\n" + out;
}

/// What the plot's script reads: for each round its value, its interval and the best value so far.
Json plot_data(const std::vector<Round>& rounds, bool maximize) {
  Json data = Json::array();
  std::optional<double> best;
  for (const Round& r : rounds) {
    if (r.value && (!best || (maximize ? *r.value > *best : *r.value < *best))) best = r.value;
    data.push_back({{"round", r.number},
                    {"value", r.value ? Json(*r.value) : Json(nullptr)},
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
    "extremes where there are fewer than six pairs). Round 1 compares the defaults with themselves and shows the "
    "noise. "
    "The best round was measured anew before it was named, as the best of many is overstated by chance.";
constexpr const char* kLimits =
    "It speaks of one model, one device and one size of request. Perplexity and KL divergence are averages over a "
    "short "
    "calibration text: they do not say how well the model answers, and with generated (random) weights they say only "
    "how far the numbers moved.";

}  // namespace

std::string html_report(const Json& json, std::string_view chart_js) {
  const Part summary(json);
  const std::vector<Round> rounds = read_rounds(summary);
  const Round* best = best_round(rounds, maximizes(summary));
  const Answer result = answer(summary);
  const std::string model = summary["model"]["name"].text(), command = summary["bundle"]["command"].text();

  std::string body = "<header>" + element("h1", model.empty() ? "HAQA" : model) +
                     element("p", std::string(text_of(result.verdict)), " class=\"verdict\"") + "</header>\n";
  body += "<section class=\"answer\">\n";
  for (const std::string& sentence : result.sentences) body += paragraph(sentence);
  if (!command.empty()) body += "<h2>Run it</h2>\n<pre>" + html_text(command) + "</pre>\n";
  body += paragraph(
      quality_text(quality(summary)).empty() ? "" : "Against the file given: " + quality_text(quality(summary)) + ".");
  body += "</section>\n";
  body += section("Bit widths", bit_width_section(summary));
  body += section(
      "Rounds", plot(rounds, maximizes(summary), chart_js) + html_table(rounds_table(rounds, best)) + thoughts(rounds));
  body += section("Failures", html_table(failures_table(rounds)));
  body += section("Memory", html_table(memory_table(summary)));
  body += section("Device", html_facts(device_facts(summary)));
  body += section("The agent", html_facts(agent_facts(summary)) + html_table(agent_events_table(summary)));
  body += section("How it was measured", rounds.empty() ? "" : paragraph(kMethod));
  body += section("What this report cannot say", paragraph(kLimits));
  body += "<footer>" +
          element("p", fmt::format("HAQA {} · {} · {}", summary["haqa_version"].text(), summary["started"].text(),
                                   summary["command"].text())) +
          "</footer>\n";
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "script-src "
      "'unsafe-inline'; img-src data:\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>HAQA: {}</title>\n<style>\n{}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
      html_text(model), read_file(data_folder() / "report/report.css"), body);
}

}  // namespace haqa
