#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/json.h"
#include "haqa/base/yaml_map.h"
#include "haqa/tasks/task.h"

namespace haqa {

/// How a task's file says that rows become items: `reader: NAME` for one of those written here, else
/// `context`: a text with fields in braces; `choices`: a list of texts, or {field}, or {field, pattern, drop,
/// strip_end} for options that stand in one text; `gold`: {index: FIELD}, or {key: FIELD, among: LIST OR FIELD}. A
/// field within another is written "choices.text". Throws UsageError that names the file's line.
std::function<Item(const Json& row)> row_reader(YamlMap& file);

/// HellaSwag's cleaning: white space at the ends goes, " [title]" becomes ". ", what stands in brackets on one line
/// goes, and then each two spaces become one, once. Source: lm-eval 0.4.13, tasks/hellaswag/utils.py, preprocess().
std::string clean_hellaswag(std::string_view text);

/// All matches of a regular expression, one after another, as Python's re.findall() without groups. `.` is anything but
/// "\n". Throws Error for a broken pattern, and where the text takes too many steps.
std::vector<std::string> all_matches(const std::string& pattern, std::string_view text);

}  // namespace haqa
