#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/base/json.h"

namespace haqa {

/// The multiple-choice tasks as lm-eval 0.4.13 defines them, without examples in the prompt (zero-shot): from a data
/// set's rows to what a model is asked. Links no model, so that both haqa and its workers can use it.

/// What a model scores: how likely the continuation is after the context. Both UTF-8, put together as they stand.
struct Request {
  std::string context, continuation;
};

/// One question.
struct Item {
  int doc_id = 0;                 ///< the row's index in its file, from 0, as lm-eval counts
  std::vector<Request> requests;  ///< one for each choice
  std::vector<int> lengths;       ///< each choice in characters (code points), by which acc_norm divides
  int gold = -1;                  ///< index of the right choice; -1 where none of the choices is right
};

struct EvaluationTask {
  std::string name;                           ///< lm-eval's: "arc_challenge"; also of the file with its rows
  std::string title;                          ///< "ARC-Challenge"
  std::string dataset, configuration, split;  ///< where the rows come from, on the Hugging Face hub
  double version = 0;                         ///< lm-eval's
  bool acc_norm = false;                      ///< whether lm-eval reports acc_norm beside acc
  /// An Item without its doc_id. Throws Error that says what is wrong with the row.
  std::function<Item(const Json& row)> make_item;
};

/// Those in data/tasks/, in the paper's order: boolq, rte, winogrande, openbookqa, arc_challenge, arc_easy, hellaswag,
/// mathqa.
const std::vector<std::string>& task_names();

/// Throws UsageError that lists the names.
EvaluationTask load_task(const std::string& name);

/// "boolq,rte" or "all". Each task once, in the order given. Throws UsageError.
std::vector<EvaluationTask> load_tasks(std::string_view names);

/// Which items of a task count. The halves never share a question: tune on one, report on the other.
enum class ItemPart { all, validation, held_out };

/// "all", "validation", "held-out". The first throws UsageError.
ItemPart part_from(std::string_view name);
std::string part_name(ItemPart part);

/// An item's half, by a hash of its texts: it stays where it is when rows are added, moved or written in another way.
ItemPart half_of(const Item& item);

/// Rows of a data set, one JSON object a line, with the data set's own fields; empty lines do not count. Keeps those of
/// `part`, and of these the first `limit`; 0: all.
/// Throws Error that names file and line of a row that is broken, and where nothing is left.
std::vector<Item> read_items(const EvaluationTask& task, const std::filesystem::path& file,
                             ItemPart part = ItemPart::all, int limit = 0);

/// Lines of such a file that are not empty.
size_t count_rows(const std::filesystem::path& file);

}  // namespace haqa
