#include <fmt/format.h>

#include "haqa/base/bytes.h"
#include "haqa/report/escape.h"
#include "haqa/report/findings.h"
#include "haqa/report/finetune_report.h"
#include "haqa/report/page.h"
#include "haqa/report/plots.h"
#include "haqa/report/report.h"
#include "haqa/report/rounds_plot.h"
#include "haqa/report/served_kernels.h"
#include "haqa/report/trade_offs.h"

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

Plot trade_off_plot(const std::vector<TradeOff>& all) {
  PlotSeries front{.label = "on the front"}, others{.label = "others", .colour = "--soft"},
      deployed{.label = "deployed", .look = Look::cross, .colour = "--bad"};
  for (const TradeOff& t : all) {
    const Json at = point(t.speed, 100 * t.accuracy,
                          fmt::format("{}: {:.2f} %, {} times the speed, {}", t.name, 100 * t.accuracy, ratio(t.speed),
                                      format_bytes(t.bytes)));
    (t.on_front ? front : others).data.push_back(at);
    if (t.name == kDeployed) deployed.data.push_back(at);
  }
  return {.id = "trade-offs",
          .label = "Accuracy against speed; the table below holds the same figures",
          .x = {.title = "speed against the widest bit width"},
          .y = {.title = "accuracy in %"},
          .series = {deployed, front, others}};  // the first on top
}

std::string trade_off_section(Plots& plots, const Part& summary) {
  const std::vector<TradeOff> all = trade_offs(summary);
  if (all.empty()) return "";
  RowLooks looks;
  for (const TradeOff& t : all) looks.classes.push_back(t.on_front ? "best" : "");
  return plots.figure(
             trade_off_plot(all),
             "The accuracy of each round's model on the questions that rounds choose by, with the speed of its "
             "run-time options, timed on the best model so far; and the untuned model in each bit width. Only "
             "the speed of the verified round was measured anew; the others' are medians of a few pairs. On "
             "the front: none of the others is better in accuracy, speed or memory and no worse in the rest.") +
         html_table(trade_off_table(all), "Accuracy, speed and memory", looks);
}

/// A row's thought, to fold out.
std::string why(const std::string& thought) {
  return thought.empty() ? "" : fmt::format("<details><summary>why</summary>{}</details>", element("p", thought));
}

std::string html_rounds(const Part& summary, const std::vector<Round>& rounds) {
  const Round* best = best_round(rounds, maximizes(summary));
  RowLooks looks;
  for (const Round& r : rounds) {
    looks.classes.push_back(&r == best ? "best" : r.failed ? "failed" : "");
    looks.below.push_back(why(r.thought));
  }
  return html_table(rounds_table(summary, rounds), "Rounds", looks);
}

std::string kernels_section(const Part& kernels) {
  RowLooks looks;
  for (const std::string& reason : served_kernels_reasons(kernels)) {
    looks.classes.emplace_back();
    looks.below.push_back(why(reason));
  }
  const std::string table = html_table(served_kernels_table(kernels), "Kernels in the model", looks);
  if (table.empty()) return "";
  std::string sentences;
  for (const std::string& sentence : served_kernels_answer(kernels)) sentences += paragraph(sentence);
  return sentences +
         paragraph(
             "Each variant was verified on the model's shapes first, then timed as a part of the whole model, in "
             "turn with the kernels that served before; what was slower in its first pairs was given up early. "
             "One serves only where fresh pairs confirm it beyond the noise.") +
         table;
}

std::string finetune_section(const Part& finetune) {
  RowLooks looks;
  for (const Part& trial : finetune["trials"].list()) {
    const bool best = trial["number"].count() && trial["number"].count() == finetune["best"].count();
    looks.classes.push_back(best ? "best" : trial["state"].text() == "failed" ? "failed" : "");
    looks.below.push_back(why(trial["thought"].text()));
  }
  const std::string held_out = html_table(held_out_table(finetune), "Accuracy on held-out questions");
  return held_out +
         paragraph(held_out.empty() ? ""
                                    : "Accuracy on held-out questions, ± one standard error. The rounds chose by other "
                                      "questions than these.") +
         html_table(finetune_rounds_table(finetune), "Rounds of fine-tuning", looks);
}

constexpr const char* kRoundsCaption =
    "Each round's speed-up over llama.cpp's defaults with its interval, and the best so far. A cross marks a failed "
    "round.";
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
  const bool tuned = !summary["finetune"].is_missing();
  return "<header>\n" + element("h1", name.empty() ? "HAQA" : name) +
         element("p", (tuned ? "run-time options: " : "") + std::string(text_of(verdict)), " class=\"verdict\"") +
         element("p", joined(facts, " · "), " class=\"facts\"") + "\n</header>\n";
}

std::string answer_section(const Part& summary, const Answer& result) {
  const std::string command = summary["bundle"]["command"].text(), lost = quality_text(quality(summary));
  const bool tuned = !summary["finetune"].is_missing();
  std::string out = "<section class=\"answer\" aria-label=\"The answer\">\n";
  for (const std::string& sentence : result.sentences) out += paragraph(sentence);
  out += paragraph(joined(finetune_sentences(summary), " "));
  if (!lost.empty())
    out += paragraph("Quality against the file given" + std::string(tuned ? ", untuned: " : ": ") + lost + ".");
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
  Plots plots(chart_js);
  std::string body = header(summary, result.verdict) + "<main>\n" + answer_section(summary, result);
  body += section("Device", html_facts(device_facts(summary)));
  body += section("Memory", memory_section(summary));
  body += section("Bit widths", bit_width_section(summary));
  body += section("Fine-tuning", finetune_section(summary["finetune"]));
  body += section(summary["finetune"].is_missing() ? "Rounds" : "Run-time options",
                  (rounds.size() < 2 ? "" : plots.figure(rounds_plot(rounds, maximize), kRoundsCaption)) +
                      html_rounds(summary, rounds));
  body += section("Kernels", kernels_section(summary["kernels"]));
  body += section("Accuracy, speed and memory", trade_off_section(plots, summary));
  body += section("Failures", html_table(failures_table(rounds), "Failures"));
  body += section("The agent",
                  html_facts(agent_facts(summary)) + html_table(agent_events_table(summary), "The agent's faults"));
  body += section("How it was measured", rounds.empty() ? "" : paragraph(kMethod));
  body += section("What this report cannot say", paragraph(kLimits));
  return body + "</main>\n" + plots.scripts() + footer(summary);
}

}  // namespace

std::string html_report(const Json& json, std::string_view chart_js) {
  const Part summary(json);
  const std::string model = summary["model"]["name"].text();
  return html_page(model.empty() ? "HAQA" : "HAQA: " + model, page_body(summary, chart_js));
}

}  // namespace haqa
