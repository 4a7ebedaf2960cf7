#include "haqa/tasks/task.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/fnv.h"
#include "haqa/base/text.h"
#include "haqa/base/yaml_map.h"
#include "haqa/tasks/python_text.h"
#include "haqa/tasks/readers.h"

namespace haqa {
namespace {

/// FNV-1a, and MurmurHash3's finalizer: FNV's upper bits alone hardly change with a text's last characters.
uint64_t hash(const Item& item) {
  Fnv1a<uint64_t> sum;
  for (const Request& request : item.requests)
    for (const std::string_view text : {std::string_view(request.context), std::string_view(request.continuation)})
      sum.add(text).add(0xff);  // in no UTF-8 text, so that "ab", "c" differs from "a", "bc"
  uint64_t h = sum.value();
  h = (h ^ (h >> 33)) * 0xff51afd7ed558ccd;
  h = (h ^ (h >> 33)) * 0xc4ceb9fe1a85ec53;
  return h ^ (h >> 33);
}

Item item_of_line(const EvaluationTask& task, std::string_view line) {
  const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (row.is_discarded()) throw Error("is no JSON, or no UTF-8: {}", one_line(line, 60));
  if (!row.is_object()) throw Error("a row is a JSON object, not {}", one_line(line, 60));
  return task.make_item(row);
}

/// visit(line without white space around it, its number) for each line that is not empty, until it returns false.
template <typename Visit>
void each_row(const std::filesystem::path& file, const Visit& visit) {
  const std::string content = read_file(file);
  int number = 0;
  for (size_t from = 0; from < content.size();) {
    const size_t end = std::min(content.find('\n', from), content.size());
    const std::string_view line = strip(std::string_view(content).substr(from, end - from));
    from = end + 1;
    ++number;
    if (!line.empty() && !visit(line, number)) return;
  }
}

}  // namespace

const std::vector<std::string>& task_names() {
  static const std::vector<std::string> names = {"boolq",         "rte",      "winogrande", "openbookqa",
                                                 "arc_challenge", "arc_easy", "hellaswag",  "mathqa"};
  return names;
}

EvaluationTask load_task(const std::string& name) {
  const auto& names = task_names();
  if (std::find(names.begin(), names.end(), name) == names.end())
    throw UsageError("'{}' is no task; choose among {}, or all", one_line(name, 60), fmt::join(names, ", "));
  YamlMap file = YamlMap::load(data_folder() / "tasks" / (name + ".yaml"), "data/tasks/boolq.yaml");
  const auto text = [&](const std::string& key) {
    auto value = file.text(key);
    if (!value) file.fail(key, "is missing");
    return *value;
  };
  EvaluationTask task;
  task.name = name;
  task.title = text("title");
  task.dataset = text("dataset");
  task.configuration = text("configuration");
  task.split = text("split");
  task.version = file.number("version", 0, 1000).value_or(0);
  const auto metrics = file.choices("metrics", {"acc", "acc_norm"}).value_or(std::vector<std::string>{});
  task.acc_norm = std::find(metrics.begin(), metrics.end(), "acc_norm") != metrics.end();
  task.make_item = row_reader(file);
  file.finish();
  return task;
}

std::vector<EvaluationTask> load_tasks(std::string_view names) {
  std::vector<EvaluationTask> tasks;
  const auto add = [&](const std::string& name) {
    if (std::none_of(tasks.begin(), tasks.end(), [&](const EvaluationTask& t) { return t.name == name; }))
      tasks.push_back(load_task(name));
  };
  for (size_t from = 0; from <= names.size();) {
    const size_t comma = std::min(names.find(',', from), names.size());
    const std::string name(strip(names.substr(from, comma - from)));
    if (name == "all") {
      for (const std::string& each : task_names()) add(each);
    } else {
      add(name);
    }
    from = comma + 1;
  }
  return tasks;
}

ItemPart part_from(std::string_view name) {
  for (const ItemPart part : {ItemPart::all, ItemPart::validation, ItemPart::held_out})
    if (name == part_name(part)) return part;
  throw UsageError("'{}' is no part of a task; choose all, validation or held-out", one_line(name, 60));
}

std::string part_name(ItemPart part) {
  return part == ItemPart::all ? "all" : part == ItemPart::validation ? "validation" : "held-out";
}

ItemPart half_of(const Item& item) {
  return hash(item) >> 63 ? ItemPart::held_out : ItemPart::validation;
}

std::vector<Item> read_items(const EvaluationTask& task, const std::filesystem::path& file, ItemPart part, int limit) {
  std::vector<Item> items;
  int doc_id = 0;
  each_row(file, [&](std::string_view line, int number) {
    try {
      Item item = item_of_line(task, line);
      item.doc_id = doc_id++;
      if (part == ItemPart::all || half_of(item) == part) items.push_back(std::move(item));
    } catch (const Error& e) {
      throw Error("{}, line {}: {}", file.string(), number, e.what());
    }
    return limit == 0 || static_cast<int>(items.size()) < limit;
  });
  if (doc_id == 0)
    throw Error("{}: holds no questions; it takes one JSON object a line, rows of {}", file.string(), task.dataset);
  if (items.empty())
    throw Error("{}: none of its {} questions is in the part that was asked for; use --part all", file.string(),
                doc_id);
  return items;
}

size_t count_rows(const std::filesystem::path& file) {
  size_t n = 0;
  each_row(file, [&](std::string_view, int) { return ++n > 0; });
  return n;
}

}  // namespace haqa
