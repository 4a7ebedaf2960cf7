#include "haqa/report/study_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "haqa/base/csv.h"
#include "haqa/base/file.h"
#include "haqa/report/page.h"
#include "haqa/report/parallel_coordinates.h"
#include "haqa/report/plots.h"
#include "haqa/study/comparison.h"
#include "haqa/study/pareto.h"

namespace haqa {
namespace {

constexpr size_t kFold = 40;  // rows of a table from which it is folded away

bool maximizes(const Track& track) {
  return track.direction == Direction::maximize;
}

std::string value_name(const Track& track) {
  return track.value_name.empty() ? "value" : track.value_name;
}

std::string configuration_text(const Configuration& c) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : c.items()) parts.push_back(name + " " + value_text(value));
  return one_line(joined(parts), 160);
}

/// What a point says when it is pointed at.
std::string label_of(const Trial& t) {
  const std::string what = has_finite_value(t) ? number_text(*t.value) : std::string(to_string(t.state));
  return fmt::format("round {}: {} ({})", t.number + 1, what, configuration_text(t.configuration));
}

/// Running trials may be left out: the last one's number counts, not how many there are.
int rounds_of(std::span<const Trial> trials) {
  int rounds = 0;
  for (const Trial& t : trials) rounds = std::max(rounds, t.number + 1);
  return rounds;
}

double shade_of(const Trial& t, int rounds) {
  return rounds < 2 ? 1 : std::min(1.0, t.number / static_cast<double>(rounds - 1));
}

/// Where failed trials are marked: a little below all values.
double floor_of(std::span<const Trial> trials) {
  const Trial* high = best_trial(trials, Direction::maximize);
  const Trial* low = best_trial(trials, Direction::minimize);
  if (!high) return 0;
  const double spread = *high->value - *low->value;
  return *low->value - (spread > 0 ? 0.08 * spread : std::max(0.1, 0.05 * std::abs(*low->value)));
}

Plot history_plot(const Track& track, std::span<const Trial> trials) {
  PlotSeries each{.label = "this round", .colour = "--soft"}, best{.label = "best so far", .look = Look::step},
      failed{.label = "failed or given up", .look = Look::cross, .colour = "--bad"};
  const auto so_far = best_so_far(trials, track.direction);
  const double floor = floor_of(trials);
  for (size_t i = 0; i < trials.size(); ++i) {
    const Trial& t = trials[i];
    const double round = t.number + 1;
    if (has_finite_value(t)) each.data.push_back(point(round, *t.value, label_of(t)));
    if (so_far[i])
      best.data.push_back(
          point(round, *so_far[i], fmt::format("best after round {}: {}", round, number_text(*so_far[i]))));
    if (t.state == TrialState::failed || t.state == TrialState::pruned)
      failed.data.push_back(point(round, floor, label_of(t)));
  }
  Plot plot{.id = "history",
            .label = "Value of each round and the best so far; the table of trials holds the same figures"};
  plot.x = {.title = "round", .whole = true, .range = std::pair(1.0, std::max(2.0, 1.0 * rounds_of(trials)))};
  plot.y.title = value_name(track);
  plot.series = {each, best};
  if (!failed.data.empty()) plot.series.push_back(failed);
  return plot;
}

/// The place of a value on its axis; choices side by side, their points spread a little so that they do not cover one
/// another.
std::optional<double> slice_place(const Parameter& p, const Trial& t) {
  const auto place = axis_place(p, t.configuration);
  if (!place) return std::nullopt;
  if (is_numeric(p)) return t.configuration[p.name].get<double>();
  const double n = static_cast<double>(choice_names(p).size()), aside = std::fmod(t.number * 0.618, 1.0) - 0.5;
  return *place * n - 0.5 + 0.5 * aside;
}

Plot slice_plot(const Track& track, std::span<const Trial> trials, size_t number) {
  const Parameter& p = track.space.parameters()[number];
  PlotSeries values{.label = "trials"}, failed{.label = "failed or given up", .look = Look::cross, .colour = "--bad"};
  const double floor = floor_of(trials);
  const int rounds = rounds_of(trials);
  for (const Trial& t : trials) {
    const auto x = slice_place(p, t);
    if (!x || t.state == TrialState::running) continue;
    Json at = point(*x, has_finite_value(t) ? *t.value : floor, label_of(t));
    if (has_finite_value(t)) at["shade"] = shade_of(t, rounds);
    (has_finite_value(t) ? values : failed).data.push_back(at);
  }
  values.named = failed.named = false;
  Plot plot{
      .id = fmt::format("slice-{}", number),
      .label = fmt::format("{} against {}; the table of trials holds the same figures", value_name(track), p.name)};
  plot.x = {.title = p.unit.empty() ? "" : p.unit, .log = p.log};
  if (!is_numeric(p))
    plot.x.categories = choice_names(p);
  else if (p.high > p.low)
    plot.x.range = std::pair(p.low, p.high);
  plot.y.title = value_name(track);
  plot.series = {values, failed};
  return plot;
}

Plot importance_plot(const Importance& importance) {
  PlotSeries bars{.label = "share", .look = Look::bar};
  Plot plot{.id = "importance",
            .label = "Importance of each parameter; the table below holds the same figures",
            .sideways = true};
  for (size_t i = 0; i < importance.parameters.size(); ++i) {
    const ParameterImportance& p = importance.parameters[i];
    Json bar = {{"x", p.share}, {"y", i}, {"label", fmt::format("{}: {:.0f} %", p.name, 100 * p.share)}};
    if (!p.stands_out()) bar["faint"] = true;
    bars.data.push_back(bar);
    plot.y.categories.push_back(p.name);
  }
  plot.x.title = "share of the importance";
  plot.y.reversed = true;
  plot.series = {bars};
  return plot;
}

std::vector<double> goals_of(const Trial& t) {
  std::vector<double> goals = {*t.value};
  goals.insert(goals.end(), t.more_values.begin(), t.more_values.end());
  return goals;
}

std::vector<Goal> all_goals(const Track& track) {
  std::vector<Goal> goals = {{value_name(track), track.direction}};
  goals.insert(goals.end(), track.more_goals.begin(), track.more_goals.end());
  return goals;
}

bool has_goals(const Track& track, const Trial& t) {
  return has_finite_value(t) && t.more_values.size() == track.more_goals.size() &&
         std::all_of(t.more_values.begin(), t.more_values.end(), [](double v) { return std::isfinite(v); });
}

/// One further goal against the first.
Plot front_plot(const Track& track, std::span<const Trial> trials, size_t goal) {
  PlotSeries others{.label = "dominated", .colour = "--soft"}, front{.label = "Pareto front", .look = Look::points};
  std::vector<bool> on_front(trials.size(), false);
  for (const size_t i : front_rows(track, trials)) on_front[i] = true;
  for (size_t i = 0; i < trials.size(); ++i) {
    if (!has_goals(track, trials[i])) continue;
    (on_front[i] ? front : others)
        .data.push_back(point(*trials[i].value, trials[i].more_values[goal], label_of(trials[i])));
  }
  // A line from point to point in the order of the first goal.
  std::sort(front.data.begin(), front.data.end(), [](const Json& a, const Json& b) { return a["x"] < b["x"]; });
  if (track.more_goals.size() == 1) front.look = Look::front;
  Plot plot{.id = fmt::format("front-{}", goal), .label = "Pareto front; the table below holds the same figures"};
  plot.x.title = value_name(track);
  plot.y.title = track.more_goals[goal].value_name;
  plot.series = {front, others};
  return plot;
}

Table trials_table(const Track& track, std::span<const Trial> trials) {
  Table t{{"round", value_name(track), "best so far"}, "rrr", {}};
  for (const Goal& g : track.more_goals) {
    t.head.push_back(g.value_name);
    t.align += 'r';
  }
  for (const Parameter& p : track.space.parameters()) {
    t.head.push_back(p.name);
    t.align += is_numeric(p) ? 'r' : 'l';
  }
  t.head.insert(t.head.end(), {"proposed by", "failure"});
  t.align += "ll";
  const auto best = best_so_far(trials, track.direction);
  for (size_t i = 0; i < trials.size(); ++i) {
    const Trial& trial = trials[i];
    std::vector<std::string> row = {
        std::to_string(trial.number + 1),
        has_finite_value(trial) ? number_text(*trial.value) : std::string(to_string(trial.state)),
        best[i] ? number_text(*best[i]) : ""};
    for (size_t g = 0; g < track.more_goals.size(); ++g)
      row.push_back(has_goals(track, trial) ? number_text(trial.more_values[g]) : "");
    for (const Parameter& p : track.space.parameters())
      row.push_back(trial.configuration.contains(p.name) ? value_text(trial.configuration[p.name]) : "");
    row.insert(row.end(), {trial.proposed_by,
                           trial.state == TrialState::failed
                               ? one_line(trial.message.empty() ? std::string(to_string(trial.reason)) : trial.message)
                               : ""});
    t.rows.push_back(row);
  }
  return t.shown();
}

std::string html_trials(const Track& track, std::span<const Trial> trials) {
  RowLooks looks;
  const Trial* best = best_trial(trials, track.direction);
  for (const Trial& t : trials)
    looks.classes.push_back(&t == best ? "best" : t.state == TrialState::failed ? "failed" : "");
  const std::string table = html_table(trials_table(track, trials), "Trials", looks);
  if (trials.size() <= kFold) return table;
  return fmt::format("<details><summary>All {} trials</summary>\n{}</details>\n", trials.size(), table);
}

Table front_table(const Track& track, std::span<const Trial> trials) {
  Table t{{"round"}, "r", {}};
  for (const Goal& g : all_goals(track)) {
    t.head.push_back(
        fmt::format("{} ({})", g.value_name, g.direction == Direction::maximize ? "more is better" : "less is better"));
    t.align += 'r';
  }
  t.head.push_back("configuration");
  t.align += 'l';
  for (const size_t i : front_rows(track, trials)) {
    std::vector<std::string> row = {std::to_string(trials[i].number + 1)};
    for (const double v : goals_of(trials[i])) row.push_back(number_text(v));
    row.push_back(configuration_text(trials[i].configuration));
    t.rows.push_back(row);
  }
  return t;
}

std::string slices(Plots& plots, const Track& track, std::span<const Trial> trials) {
  std::string out;
  for (size_t i = 0; i < track.space.parameters().size(); ++i) {
    const Parameter& p = track.space.parameters()[i];
    const auto with =
        std::count_if(trials.begin(), trials.end(), [&](const Trial& t) { return t.configuration.contains(p.name); });
    const std::string some = static_cast<size_t>(with) == trials.size()
                                 ? ""
                                 : fmt::format("{} of {} trials had a value.", with, trials.size());
    out += plots.figure(slice_plot(track, trials, i), some, p.name);
  }
  if (out.empty()) return "";
  return "<p>Early trials <span class=\"ramp\" aria-hidden=\"true\"></span> late trials; a cross marks one that failed "
         "or was given up.</p>\n<div class=\"slices\">\n" +
         out + "</div>\n";
}

std::string importance_section(Plots& plots, const Importance& importance) {
  std::string out = importance.caution.empty() ? "" : element("p", importance.caution, " class=\"caution\"") + "\n";
  if (importance.parameters.empty()) return out;
  out +=
      plots.figure(importance_plot(importance), fmt::format("How far the values of the best {} trials lie from those "
                                                            "of all {} (PED-ANOVA). Pale: no more than chance gives.",
                                                            importance.best, importance.trials));
  return out + html_table(importance_table(importance), "Importance");
}

std::string front_section(Plots& plots, const Track& track, std::span<const Trial> trials) {
  std::string out;
  for (size_t g = 0; g < track.more_goals.size(); ++g) out += plots.figure(front_plot(track, trials, g), "");
  return track.more_goals.empty() ? "" : out + html_table(front_table(track, trials), "Pareto front");
}

std::string count_text(std::span<const Trial> trials, TrialState state, const char* what) {
  const auto n = std::count_if(trials.begin(), trials.end(), [&](const Trial& t) { return t.state == state; });
  return n ? fmt::format("{} {}", n, what) : "";
}

std::string study_header(const std::string& name, const Track& track, std::span<const Trial> trials) {
  const Trial* best = best_trial(trials, track.direction);
  std::vector<std::string> facts = {"HAQA study",
                                    fmt::format("{} trial{}", trials.size(), trials.size() == 1 ? "" : "s")};
  for (const std::string& text :
       {count_text(trials, TrialState::failed, "failed"), count_text(trials, TrialState::pruned, "given up"),
        count_text(trials, TrialState::running, "running")})
    if (!text.empty()) facts.push_back(text);
  facts.push_back(value_name(track) + (maximizes(track) ? ": more is better" : ": less is better"));
  return html_header(
      name,
      best ? fmt::format("best: {} in round {}", number_text(*best->value), best->number + 1) : "no trial is complete",
      facts);
}

constexpr const char* kImportanceLimits =
    "Importance speaks of the values that were tried, and of reaching the best of them: a parameter whose good value "
    "every "
    "trial had shows none. It says nothing of parameters that matter only together.";

std::string csv_line(const Track& track, const Trial& t, const std::optional<double>& best) {
  std::string line = fmt::format("{},{},{},{}", t.number + 1, to_string(t.state),
                                 t.state == TrialState::complete ? csv_number(t.value) : "", csv_number(best));
  for (size_t g = 0; g < track.more_goals.size(); ++g)
    line += "," + (has_goals(track, t) ? csv_number(t.more_values[g]) : "");
  line += fmt::format(",{},{},{}", csv_field(t.proposed_by), t.propose_s, t.evaluate_s);
  for (const Parameter& p : track.space.parameters()) {
    const auto found = t.configuration.find(p.name);
    line += "," + (found == t.configuration.end()
                       ? ""
                       : csv_field(found->is_string() ? found->get<std::string>() : to_line(*found)));
  }
  return line + "\n";
}

std::string csv_head(const Track& track) {
  std::string head = "round,state,value,best";
  for (const Goal& g : track.more_goals) head += "," + csv_field(g.value_name);
  head += ",proposed_by,propose_s,evaluate_s";
  for (const Parameter& p : track.space.parameters()) head += "," + csv_field(p.name);
  return head + "\n";
}

}  // namespace

std::vector<size_t> front_rows(const Track& track, std::span<const Trial> trials) {
  std::vector<size_t> front;
  for (const Trial* t : pareto_front(track, trials)) front.push_back(static_cast<size_t>(t - trials.data()));
  std::stable_sort(front.begin(), front.end(), [&](size_t a, size_t b) { return *trials[a].value < *trials[b].value; });
  return front;
}

std::string study_page(const std::string& name, const Track& track, std::span<const Trial> trials,
                       const Importance& importance, std::string_view chart_js, std::span<const TitledTable> tables) {
  Plots plots(chart_js);
  std::string body = study_header(name, track, trials) + "<main>\n";
  for (const auto& [title, table] : tables) body += section(title, html_table(table.shown(), title));
  body += section("Rounds",
                  trials.empty() ? "" : plots.figure(history_plot(track, trials), "") + html_trials(track, trials));
  body += section("Pareto front", front_section(plots, track, trials));
  body += section("Importance", importance_section(plots, importance) +
                                    (importance.parameters.empty() ? "" : paragraph(kImportanceLimits)));
  body += section("Each parameter against the value", trials.empty() ? "" : slices(plots, track, trials));
  const std::string parallel = parallel_coordinates(track, trials);
  body += section(
      "Parallel coordinates",
      parallel.empty()
          ? ""
          : parallel +
                paragraph(
                    "A line for each trial, the stronger the better; the thick one is the best. Dashed: failed."));
  body += "</main>\n" + plots.scripts();
  return html_page(name + ": HAQA study", body, read_file(data_folder() / "report/study.css"));
}

Table importance_table(const Importance& importance) {
  Table t{{"parameter", "share", "divergence", "by chance, below", "stands out"}, "lrrrl", {}};
  for (const ParameterImportance& p : importance.parameters)
    t.rows.push_back({p.name, fmt::format("{:.1f} %", 100 * p.share), fmt::format("{:.3g}", p.divergence),
                      fmt::format("{:.3g}", p.chance), p.stands_out() ? "yes" : "no"});
  return t;
}

std::vector<NamedFile> study_csv(const Track& track, std::span<const Trial> trials, const Importance& importance) {
  const auto best = best_so_far(trials, track.direction);
  std::string all = csv_head(track), front = csv_head(track);
  for (size_t i = 0; i < trials.size(); ++i) all += csv_line(track, trials[i], best[i]);
  for (const size_t i : front_rows(track, trials)) front += csv_line(track, trials[i], best[i]);
  std::vector<NamedFile> files = {{"trials.csv", all}, {"importance.csv", to_csv(importance)}};
  if (!track.more_goals.empty()) files.emplace_back("pareto.csv", front);
  return files;
}

}  // namespace haqa
