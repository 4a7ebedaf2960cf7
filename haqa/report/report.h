#pragma once
#include <string>
#include <string_view>

#include "haqa/base/json.h"

namespace haqa {

/// Three readings of a run's summary.json (written by cli/job.cpp). Whatever is missing or of another type than
/// expected is left out, so that an interrupted run reads as far as it came. Every text of the summary is hostile
/// input: a model's name, an agent's thought, an error message.

/// One self-contained page that asks the network for nothing. chart_js: the text of Chart.js 3.9; empty: no plot.
/// Throws Error where data/report/ is missing.
std::string html_report(const Json& summary, std::string_view chart_js);

/// What to try next, in Markdown: plain rules, each with the figures that it follows from.
std::string suggestions(const Json& summary);

/// The same findings as compact tables for a terminal, without colour.
std::string text_report(const Json& summary);
/// Its table of the memory plan alone.
std::string text_memory(const Json& summary);

}  // namespace haqa
