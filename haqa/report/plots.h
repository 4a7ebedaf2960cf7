#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

/// Plots that data/report/study.js draws with Chart.js.

struct Axis {
  std::string title;
  bool log = false;
  std::vector<std::string> categories;  ///< places 0, 1, ... instead of numbers
  bool reversed = false;                ///< of categories: the first on top
  bool whole = false;                   ///< ticks at whole numbers only
  std::optional<std::pair<double, double>> range;
};

/// How a series looks. edge: one side of a band, the second one filled to the first.
enum class Look { points, cross, line, front, step, edge, bar };

struct PlotSeries {
  std::string label;
  Look look = Look::points;
  std::string colour = "--accent";  ///< a variable of the style sheet
  bool named = true;                ///< in the legend
  bool filled = false;              ///< of an edge: to the series before
  bool dashed = false;
  Json data = Json::array();  ///< {"x", "y"} and, as needed, "label" (shown on hovering), "shade" from 0 to 1, "faint"
};

struct Plot {
  std::string id;     ///< unique on its page
  std::string label;  ///< what it shows, for those who cannot see it
  Axis x, y;
  std::vector<PlotSeries> series;
  bool sideways = false;  ///< bars to the right
};

/// Five significant digits at most: "0.93214", "1e-05".
std::string number_text(double value);

/// A place in a series' data, and what is said of it on hovering.
Json point(double x, double y, const std::string& label);

/// Where the plot is to be on the page.
std::string canvas(const Plot& plot);
/// Chart.js and what draws the plots: once a page, behind their canvases. Throws Error where data/report/ is missing.
std::string plot_scripts(const std::vector<Plot>& plots, std::string_view chart_js);

/// The plots of a page; nothing of them without Chart.js.
class Plots {
 public:
  explicit Plots(std::string_view chart_js) : chart_js_(chart_js) {}
  /// The plot's place with its title and caption.
  std::string figure(Plot plot, const std::string& caption, const std::string& title = "");
  /// Once, behind all of them.
  std::string scripts() const;

 private:
  std::string_view chart_js_;
  std::vector<Plot> plots_;
};

}  // namespace haqa
