#include "haqa/report/comparison_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/file.h"
#include "haqa/report/page.h"
#include "haqa/report/plots.h"

namespace haqa {
namespace {

constexpr const char* kCompareLimits =
    "It speaks of one objective and one budget: another may rank the methods otherwise. p is the chance of differences "
    "as "
    "large where the methods are alike; a large p does not say that they are.";

/// A line for each method with a band of a standard deviation.
Plot curves_plot(const std::string& name_of_value, const MethodComparison& comparison) {
  Plot plot{.id = "curves",
            .label = "Mean best value of each method after each round; the table below holds the same figures"};
  plot.x = {
      .title = "round", .whole = true, .range = std::pair(1.0, std::max(2.0, static_cast<double>(comparison.rounds)))};
  plot.y.title = "best " + (name_of_value.empty() ? "value" : name_of_value) + " so far";
  for (size_t m = 0; m < comparison.methods.size(); ++m) {
    const MethodSummary& method = comparison.methods[m];
    PlotSeries line{
        .label = method.method, .look = Look::line, .colour = fmt::format("--series-{}", m % 8 + 1), .dashed = m >= 8};
    PlotSeries low{.label = method.method, .look = Look::edge, .colour = line.colour, .named = false}, high = low;
    high.filled = true;
    for (size_t i = 0; i < method.curve.size(); ++i) {
      const CurvePoint& c = method.curve[i];
      const double round = static_cast<double>(i + 1);
      if (c.seeds == 0 || !std::isfinite(c.mean)) continue;
      line.data.push_back(point(round, c.mean,
                                fmt::format("{}, round {}: {} ± {} over {} seeds", method.method, i + 1,
                                            number_text(c.mean), number_text(c.deviation), c.seeds)));
      low.data.push_back({{"x", round}, {"y", c.mean - c.deviation}});
      high.data.push_back({{"x", round}, {"y", c.mean + c.deviation}});
    }
    plot.series.insert(plot.series.end(), {line, low, high});
  }
  return plot;
}

Table curves_table(const MethodComparison& comparison) {
  Table t{{"round"}, "r", {}};
  for (const MethodSummary& m : comparison.methods) {
    t.head.push_back(m.method);
    t.align += 'r';
  }
  for (size_t i = 0; i < static_cast<size_t>(comparison.rounds); ++i) {
    t.rows.push_back({std::to_string(i + 1)});
    for (const MethodSummary& m : comparison.methods) {
      const CurvePoint& c = m.curve[i];
      t.rows.back().push_back(c.seeds ? fmt::format("{} ± {:.2g}", number_text(c.mean), c.deviation) : "");
    }
  }
  return t;
}

std::string p_text(double p) {
  return std::isnan(p) ? "" : p < 0.001 ? "< 0.001" : fmt::format("{:.3f}", p);
}

std::string gain_text(const Estimate& gain) {
  if (!std::isfinite(gain.median)) return "";
  return fmt::format("{:.3g} ({:.3g} to {:.3g})", gain.median, gain.low, gain.high);
}

}  // namespace

std::string left_out_text(const MethodComparison& comparison) {
  if (comparison.left_out == 0) return "";
  return fmt::format("{} {} left out: of each seed all methods count as far as the shortest of its runs came.",
                     comparison.left_out, comparison.left_out == 1 ? "trial is" : "trials are");
}

Table comparison_table(const MethodComparison& comparison) {
  Table t{{"method", "mean rank", "mean ± sd", "median", "wins–ties–losses", "median gain (95 %)", "p", "p, corrected"},
          "lrrrrrrr",
          {}};
  for (const MethodSummary& m : comparison.methods) {
    std::vector<std::string> row = {
        m.method + (m.method == comparison.reference ? " (reference)" : ""),
        std::isnan(m.mean_rank) ? "" : fmt::format("{:.2f}", m.mean_rank),
        std::isnan(m.mean) ? "" : fmt::format("{} ± {:.2g}", number_text(m.mean), m.deviation),
        std::isnan(m.median) ? "" : number_text(m.median)};
    if (const auto& v = m.versus)
      row.insert(row.end(), {fmt::format("{}–{}–{}", v->wins, v->ties, v->losses), gain_text(v->gain), p_text(v->p),
                             p_text(v->p_holm)});
    row.resize(t.head.size());
    t.rows.push_back(row);
  }
  return t.shown();
}

Table cost_table(const MethodComparison& comparison) {
  Table t{{"method", "seeds", "trials", "failed", "seconds to propose", "seconds to evaluate", "tokens", "US dollars"},
          "lrrrrrrr",
          {}};
  for (const MethodSummary& m : comparison.methods)
    t.rows.push_back({m.method, std::to_string(m.seeds), std::to_string(m.evaluations), std::to_string(m.failures),
                      fmt::format("{:.3g}", m.propose_s), fmt::format("{:.3g}", m.evaluate_s),
                      m.tokens ? fmt::format("{:.0f}", *m.tokens) : "",
                      m.cost_usd ? fmt::format("{:.4f}", *m.cost_usd) : ""});
  return t.shown();
}

std::string comparison_page(const std::string& name, const std::string& value_name, const MethodComparison& comparison,
                            std::string_view chart_js) {
  Plots plots(chart_js);
  const char* better = comparison.direction == Direction::maximize ? "more is better" : "less is better";
  std::vector<std::string> facts = {"HAQA comparison", fmt::format("{} methods", comparison.methods.size()),
                                    fmt::format("{} rounds", comparison.rounds),
                                    fmt::format("{} seeds that all ran", comparison.blocks),
                                    (value_name.empty() ? "value" : value_name) + std::string(": ") + better};
  RowLooks looks;
  for (size_t i = 0; i < comparison.methods.size(); ++i)
    looks.classes.push_back(i == 0 && comparison.methods.size() > 1 && comparison.blocks > 0 ? "best" : "");
  std::string body = html_header(name, "", facts) + "<main>\n";
  body += section("Methods",
                  html_table(comparison_table(comparison), "Methods", looks) +
                      paragraph("Gain, p and wins are against the reference, by paired seeds: Wilcoxon's signed-rank "
                                "test, corrected by Holm's method. The best mean rank comes first.") +
                      (comparison.left_out == 0 ? "" : paragraph(left_out_text(comparison))) +
                      (std::isnan(comparison.friedman.p)
                           ? ""
                           : paragraph(fmt::format("That the methods differ at all: Friedman's test, p {}.",
                                                   p_text(comparison.friedman.p)))));
  body += section(
      "Best so far",
      plots.figure(
          curves_plot(value_name, comparison),
          "Mean over the seeds, with a band of one standard deviation. A failed trial carries the best so far on.") +
          html_table(curves_table(comparison), "Best so far by round"));
  body += section("What it took", html_table(cost_table(comparison), "What it took"));
  body += section("What this page cannot say", paragraph(kCompareLimits));
  body += "</main>\n" + plots.scripts();
  return html_page(name + ": HAQA comparison", body, read_file(data_folder() / "report/study.css"));
}

}  // namespace haqa
