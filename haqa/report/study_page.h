#pragma once
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "haqa/report/findings.h"
#include "haqa/study/importance.h"
#include "haqa/study/study.h"

namespace haqa {

/// The page and tables of any study. All texts are hostile input: names of parameters, choices, messages of failures.

/// The complete trials that no other one beats in some goal without losing in another, by their place in `trials`, in
/// the order of the first goal; equal ones all stay. The goals are the track's value and its further ones; trials that
/// lack one are left out.
std::vector<size_t> front_rows(const Track& track, std::span<const Trial> trials);

/// A title and what stands under it.
using TitledTable = std::pair<std::string, Table>;

/// study.html, self-contained: best-so-far curve, each parameter's values against the objective, parallel coordinates,
/// importance, the Pareto front where there are several goals, and the trials as a table; `tables` stand before them.
/// chart_js: the text of Chart.js 3.9; empty: only what needs none of it. Throws Error where data/report/ is missing.
std::string study_page(const std::string& name, const Track& track, std::span<const Trial> trials,
                       const Importance& importance, std::string_view chart_js,
                       std::span<const TitledTable> tables = {});

/// For a page or a terminal, a row a parameter.
Table importance_table(const Importance& importance);

/// A file's name and its content.
using NamedFile = std::pair<std::string, std::string>;
/// What the page's plots show: trials.csv (a line a trial: round, state, value, best, further goals, who proposed it,
/// seconds, and a column a parameter), importance.csv, and with several goals pareto.csv (the front's lines of it).
std::vector<NamedFile> study_csv(const Track& track, std::span<const Trial> trials, const Importance& importance);

}  // namespace haqa
