#include "haqa/report/plots.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "haqa/base/file.h"
#include "haqa/report/escape.h"
#include "haqa/report/page.h"

namespace haqa {
namespace {

constexpr std::array<const char*, 7> kLooks = {"points", "cross", "line", "front", "step", "edge", "bar"};

/// The texts are drawn on a canvas or as a tooltip, never as markup, but may still turn the direction of writing.
Json axis_json(const Axis& axis) {
  Json json = {{"title", printable(axis.title)}, {"log", axis.log}};
  for (const std::string& c : axis.categories) json["categories"].push_back(one_line(c, 24));
  if (axis.reversed) json["reversed"] = true;
  if (axis.whole) json["whole"] = true;
  if (axis.range) json["range"] = {axis.range->first, axis.range->second};
  return json;
}

Json series_json(const PlotSeries& s) {
  Json json = {{"label", one_line(s.label, 60)},
               {"look", kLooks[static_cast<size_t>(s.look)]},
               {"colour", s.colour},
               {"named", s.named},
               {"data", s.data}};
  if (s.filled) json["filled"] = true;
  if (s.dashed) json["dash"] = {2, 3};
  for (Json& point : json["data"]) {
    if (point.contains("label")) point["label"] = printable(point["label"].get<std::string>());
    if (point.contains("faint")) json["faint"] = true;
  }
  return json;
}

Json plot_json(const Plot& plot) {
  Json json = {{"id", plot.id}, {"x", axis_json(plot.x)}, {"y", axis_json(plot.y)}, {"sideways", plot.sideways}};
  for (const PlotSeries& s : plot.series) json["series"].push_back(series_json(s));
  return json;
}

}  // namespace

std::string number_text(double value) {
  const bool whole = value == std::round(value) && std::abs(value) < 1e12;
  return whole ? fmt::format("{:.0f}", value) : fmt::format("{:.5g}", value);
}

std::string canvas(const Plot& plot) {
  return fmt::format("<div class=\"plot\"><canvas id=\"{}\" role=\"img\" aria-label=\"{}\"></canvas></div>\n",
                     html_text(plot.id), html_text(plot.label));
}

std::string plot_scripts(const std::vector<Plot>& plots, std::string_view chart_js) {
  Json all = Json::array();
  for (const Plot& plot : plots) all.push_back(plot_json(plot));
  return fmt::format("<script>{}</script>\n<script>const plots = {};\n{}</script>\n", script_code(chart_js),
                     script_json(all), script_code(read_file(data_folder() / "report/study.js")));
}

Json point(double x, double y, const std::string& label) {
  return {{"x", x}, {"y", y}, {"label", label}};
}

std::string Plots::figure(Plot plot, const std::string& caption, const std::string& title) {
  if (chart_js_.empty()) return "";
  plots_.push_back(std::move(plot));
  return "<figure>" + (title.empty() ? "" : element("h3", title)) + canvas(plots_.back()) +
         (caption.empty() ? "" : element("figcaption", caption)) + "</figure>\n";
}

std::string Plots::scripts() const {
  return chart_js_.empty() || plots_.empty() ? "" : plot_scripts(plots_, chart_js_);
}

}  // namespace haqa
