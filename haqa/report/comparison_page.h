#pragma once
#include <string>
#include <string_view>

#include "haqa/report/findings.h"
#include "haqa/study/comparison.h"

namespace haqa {

/// compare.html: the table of methods, and their mean best-so-far curves with a band of a standard deviation.
std::string comparison_page(const std::string& name, const std::string& value_name, const MethodComparison& comparison,
                            std::string_view chart_js);

/// That trials were left out, in a sentence; empty where none was.
std::string left_out_text(const MethodComparison& comparison);

/// The comparison for a page or a terminal, a row a method: what came out, and what it took.
Table comparison_table(const MethodComparison& comparison);
Table cost_table(const MethodComparison& comparison);

}  // namespace haqa
