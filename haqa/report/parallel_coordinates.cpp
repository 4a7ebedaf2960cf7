#include "haqa/report/parallel_coordinates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "haqa/report/escape.h"
#include "haqa/report/plots.h"

namespace haqa {
namespace {

constexpr double kTop = 46, kHeight = 260, kBetween = 118, kSide = 64;

struct Scale {
  double low = 0, high = 0;
  double place(double value) const { return high > low ? (value - low) / (high - low) : 0.5; }
};

double y_of(double place) {
  return kTop + kHeight * (1 - place);
}

std::string svg_text(double x, double y, const std::string& text, const char* kind = "") {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\"{}>{}<title>{}</title></text>\n", x, y,
                     kind, html_text(one_line(text, 15)), html_text(text));
}

std::string axis_line(double x, const std::string& name, const std::string& top, const std::string& bottom) {
  return fmt::format("<line class=\"axis\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\"/>\n", x, y_of(1),
                     y_of(0)) +
         svg_text(x, 16, name, " class=\"name\"") + svg_text(x, kTop - 8, top) +
         svg_text(x, kTop + kHeight + 18, bottom);
}

std::string axis_of(const Parameter& p, double x) {
  if (is_numeric(p)) return axis_line(x, p.name, number_text(p.high), number_text(p.low) + (p.log ? " (log)" : ""));
  const std::vector<std::string> names = choice_names(p);
  std::string out = axis_line(x, p.name, "", "");
  if (names.size() > 10) return out;  // they would cover one another; the lines tell by hovering
  for (size_t i = 0; i < names.size(); ++i)
    out += svg_text(x, y_of((static_cast<double>(i) + 0.5) / static_cast<double>(names.size())) - 6, names[i]);
  return out;
}

/// The line of a trial: broken where a parameter has no value.
std::string path_of(const Track& track, const Trial& t, const Scale& scale) {
  std::string path;
  bool pen_down = false;
  const auto go = [&](size_t axis, std::optional<double> place) {
    if (place)
      path += fmt::format("{}{:.1f} {:.1f}", pen_down ? 'L' : 'M', kSide + kBetween * static_cast<double>(axis),
                          y_of(*place));
    pen_down = place.has_value();
  };
  const auto& parameters = track.space.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) go(i, axis_place(parameters[i], t.configuration));
  go(parameters.size(), has_finite_value(t) ? scale.place(*t.value) : 0);
  return path;
}

std::string line_of(const Track& track, const Trial& t, const Scale& scale, bool best) {
  const double good = !has_finite_value(t)                     ? 0
                      : track.direction == Direction::maximize ? scale.place(*t.value)
                                                               : 1 - scale.place(*t.value);
  const std::string looks = best                  ? "class=\"best\""
                            : has_finite_value(t) ? fmt::format("stroke-opacity=\"{:.2f}\"", 0.15 + 0.6 * good * good)
                                                  : "class=\"failed\"";
  const std::string what = has_finite_value(t) ? number_text(*t.value) : "failed";
  return fmt::format(
      "<path {} d=\"{}\"><title>{}</title></path>\n", looks, path_of(track, t, scale),
      html_text(fmt::format("round {}: {}\n{}", t.number + 1, what, to_line(with_short_texts(t.configuration)))));
}

}  // namespace

std::string value_text(const Json& value) {
  if (value.is_number_float()) return number_text(value.get<double>());
  return value.is_string() ? short_text(value) : to_line(value);
}

std::vector<std::string> choice_names(const Parameter& p) {
  if (p.type == ParameterType::boolean) return {"false", "true"};
  if (p.type == ParameterType::text) return {"default", "changed"};
  std::vector<std::string> names;
  for (const Json& c : p.choices) names.push_back(value_text(c));
  return names;
}

std::optional<double> axis_place(const Parameter& p, const Configuration& configuration) {
  const auto found = configuration.find(p.name);
  if (found == configuration.end()) return std::nullopt;
  if (p.type == ParameterType::boolean)
    return found->is_boolean() ? std::optional(found->get<bool>() ? 0.75 : 0.25) : std::nullopt;
  if (p.type == ParameterType::text) return *found == p.default_value ? 0.25 : 0.75;
  if (p.type == ParameterType::categorical) {
    const auto at = std::find(p.choices.begin(), p.choices.end(), *found);
    if (at == p.choices.end()) return std::nullopt;
    return (static_cast<double>(at - p.choices.begin()) + 0.5) / static_cast<double>(p.choices.size());
  }
  if (!found->is_number() || !(p.high > p.low)) return std::nullopt;
  const double value = std::clamp(found->get<double>(), p.low, p.high);
  return p.log ? std::log(value / p.low) / std::log(p.high / p.low) : (value - p.low) / (p.high - p.low);
}

std::string parallel_coordinates(const Track& track, std::span<const Trial> trials) {
  const Trial* highest = best_trial(trials, Direction::maximize);
  const Trial* lowest = best_trial(trials, Direction::minimize);
  const Scale scale = highest ? Scale{*lowest->value, *highest->value} : Scale{};
  const Trial* best = best_trial(trials, track.direction);
  std::vector<const Trial*> order;  // the better ones are drawn later, over the others
  for (const Trial& t : trials)
    if (t.state == TrialState::failed || has_finite_value(t)) order.push_back(&t);
  if (order.empty()) return "";
  const auto good = [&](const Trial* t) {
    return !has_finite_value(*t)                    ? -1
           : track.direction == Direction::maximize ? scale.place(*t->value)
                                                    : 1 - scale.place(*t->value);
  };
  std::stable_sort(order.begin(), order.end(), [&](const Trial* a, const Trial* b) { return good(a) < good(b); });

  const auto& parameters = track.space.parameters();
  const double width = 2 * kSide + kBetween * static_cast<double>(parameters.size()), height = kTop + kHeight + 30;
  std::string out = fmt::format(
      "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"Parallel coordinates\"><svg "
      "class=\"parallel\" "
      "width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\" aria-label=\"A line for each "
      "trial through "
      "its parameters' values to what it reached; the table of trials holds the same figures\">\n",
      width, height);
  for (const Trial* t : order) out += line_of(track, *t, scale, t == best);
  for (size_t i = 0; i < parameters.size(); ++i)
    out += axis_of(parameters[i], kSide + kBetween * static_cast<double>(i));
  out += axis_line(width - kSide, track.value_name.empty() ? "value" : track.value_name,
                   highest ? number_text(scale.high) : "", highest ? number_text(scale.low) : "failed");
  return out + "</svg></div>\n";
}

}  // namespace haqa
