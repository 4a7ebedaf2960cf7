#pragma once
#include <string>
#include <string_view>

#include "haqa/report/findings.h"

namespace haqa {

/// Readings of what `haqa kernels` writes to summary.json (docs/kernels.md). As in report/report.h, whatever is missing
/// is left out, and every text is hostile input.

/// The paper's table 3: a row a kernel and shape, llama.cpp's latency and ours, the speed-up with its interval, the share
/// of what the roofline allows.
Table kernels_table(const Part& summary);
/// The geometric mean of the speed-ups, and how many are no gain: sentences.
std::vector<std::string> kernels_answer(const Part& summary);

/// For a terminal.
std::string kernels_text(const Json& summary);
/// One self-contained page with a plot a kernel. chart_js: the text of Chart.js; empty: no plots.
std::string kernels_page(const Json& summary, std::string_view chart_js);

}  // namespace haqa
