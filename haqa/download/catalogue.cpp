#include "haqa/download/catalogue.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/text.h"

namespace haqa {

std::span<const DataSet> known_data_sets() {
  static const std::vector<DataSet> sets{
      {"alpaca", "tatsu-lab/alpaca", "default", "train", 52002, "instructions to fine-tune on"},
      {"boolq", "aps/super_glue", "boolq", "validation", 3270, "task: yes or no about a passage"},
      {"rte", "nyu-mll/glue", "rte", "validation", 277, "task: does one sentence follow from another"},
      {"winogrande", "allenai/winogrande", "winogrande_xl", "validation", 1267, "task: whom a pronoun means"},
      {"openbookqa", "allenai/openbookqa", "main", "test", 500, "task: elementary science, by common knowledge"},
      {"arc_challenge", "allenai/ai2_arc", "ARC-Challenge", "test", 1172, "task: science at school, the hard part"},
      {"arc_easy", "allenai/ai2_arc", "ARC-Easy", "test", 2376, "task: science at school, the easy part"},
      {"hellaswag", "Rowan/hellaswag", "default", "validation", 10042, "task: how a scene goes on"},
      {"mathqa", "regisss/math_qa", "default", "test", 2985, "task: word problems in arithmetic"}};
  return sets;
}

const DataSet& known_data_set(std::string_view name) {
  const auto sets = known_data_sets();
  const auto found = std::find_if(sets.begin(), sets.end(), [&](const DataSet& set) { return set.name == name; });
  if (found != sets.end()) return *found;
  std::vector<std::string> names;
  for (const DataSet& set : sets) names.push_back(set.name);
  throw UsageError("'{}' is no data set that haqa knows; choose among {}, or all", one_line(name, 60),
                   fmt::join(names, ", "));
}

}  // namespace haqa
