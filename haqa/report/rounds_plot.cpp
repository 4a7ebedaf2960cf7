#include "haqa/report/rounds_plot.h"

#include <fmt/format.h>

#include <algorithm>

#include "haqa/base/text.h"

namespace haqa {

Plot rounds_plot(const std::vector<Round>& rounds, bool maximize, const std::string& id, const std::string& over) {
  PlotSeries each{.label = "this round"}, best{.label = "best so far", .look = Look::step, .colour = "--soft"},
      failed{.label = "failed", .look = Look::cross, .colour = "--bad"},
      interval{.label = "interval", .look = Look::line, .colour = "--soft"};
  std::optional<double> so_far, lowest;
  for (const Round& r : rounds)
    if (r.value) lowest = std::min(lowest.value_or(*r.value), r.interval ? r.interval->low : *r.value);
  for (const Round& r : rounds) {
    const std::string label = fmt::format("round {}: {}", r.number, one_line(r.changes, 80));
    if (r.failed) failed.data.push_back(point(r.number, lowest.value_or(1), label));
    if (r.value) each.data.push_back(point(r.number, r.interval ? r.interval->median : *r.value, label));
    if (r.value && (!so_far || (maximize ? *r.value > *so_far : *r.value < *so_far))) so_far = r.value;
    if (so_far) best.data.push_back(point(r.number, *so_far, fmt::format("best so far: {}", ratio(*so_far))));
    if (!r.value || !r.interval) continue;
    for (const double end : {r.interval->low, r.interval->high})
      interval.data.push_back(point(r.number, end, fmt::format("round {}: {}", r.number, text_of(*r.interval))));
    interval.data.push_back({{"x", r.number}, {"y", nullptr}});  // the line ends here
  }
  Plot plot{.id = id,
            .label = "Speed-up of each round with its interval; the table below holds the same figures",
            .x = {.title = "round", .whole = true, .range = std::pair(1.0, static_cast<double>(rounds.back().number))},
            .y = {.title = "speed-up over " + over},
            .series = {each, best, interval}};
  if (!failed.data.empty()) plot.series.push_back(failed);
  return plot;
}

}  // namespace haqa
