#include "haqa/tasks/lm_eval.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

namespace haqa {
namespace {

/// A standard error as lm-eval writes it.
Json error_json(double error) {
  return std::isnan(error) ? Json("N/A") : Json(error);
}

/// A number as Python prints it, which lm-eval's files of samples hold as text: the shortest that reads back the same.
std::string python_float(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

Json task_results(const TaskRun& run) {
  Json out = {{"name", run.task.name},
              {"alias", run.task.name},
              {"sample_len", run.items.size()},
              {"acc,none", run.result.acc.value},
              {"acc_stderr,none", error_json(run.result.acc.error)}};
  if (run.result.acc_norm) {
    out["acc_norm,none"] = run.result.acc_norm->value;
    out["acc_norm_stderr,none"] = error_json(run.result.acc_norm->error);
  }
  return out;
}

Json task_config(const EvaluationTask& task) {
  Json metrics = Json::array();
  for (const char* metric : {"acc", "acc_norm"})
    if (metric == std::string_view("acc") || task.acc_norm)
      metrics.push_back({{"metric", metric}, {"aggregation", "mean"}, {"higher_is_better", true}});
  return {{"task", task.name},
          {"dataset_path", task.dataset},
          {"dataset_name", task.configuration},
          {task.split == "test" ? "test_split" : "validation_split", task.split},
          {"output_type", "multiple_choice"},
          {"target_delimiter", " "},
          {"num_fewshot", 0},
          {"repeats", 1},
          {"metric_list", std::move(metrics)},
          {"metadata", {{"version", task.version}}}};
}

Json config(const RunFacts& facts) {
  Json arguments = {{"pretrained", facts.model}};
  if (!facts.adapter.empty()) arguments.update({{"peft", facts.adapter}, {"adapter_scale", facts.adapter_scale}});
  return {{"model", "gguf"},
          {"model_args", std::move(arguments)},
          {"device", nullptr},
          {"limit", facts.limit > 0 ? Json(facts.limit) : Json()},
          {"part", facts.part}};
}

/// Values of the tasks under their names, which lm-eval sorts.
template <typename Value>
Json by_name(std::span<const TaskRun> runs, const Value& value) {
  std::vector<const TaskRun*> sorted;
  for (const TaskRun& run : runs) sorted.push_back(&run);
  std::sort(sorted.begin(), sorted.end(), [](auto a, auto b) { return a->task.name < b->task.name; });
  Json out = Json::object();
  for (const TaskRun* run : sorted) out[run->task.name] = value(*run);
  return out;
}

Json mean_json(std::span<const TaskRun> runs) {
  std::vector<TaskResult> results;
  for (const TaskRun& run : runs) results.push_back(run.result);
  const MeanAccuracy mean = mean_accuracy(results);
  return {{"acc", mean.acc.value},
          {"acc_stderr", error_json(mean.acc.error)},
          {"acc_norm_or_acc", mean.headline.value},
          {"acc_norm_or_acc_stderr", error_json(mean.headline.error)}};
}

}  // namespace

Json lm_eval_results(std::span<const TaskRun> runs, const RunFacts& facts) {
  Json results = Json::object(), samples = Json::object();
  for (const TaskRun& run : runs) {
    results[run.task.name] = task_results(run);
    samples[run.task.name] = {{"original", run.n_rows}, {"effective", run.items.size()}};
  }
  return {{"results", std::move(results)},
          {"group_subtasks", Json::object()},
          {"configs", by_name(runs, [](const TaskRun& run) { return task_config(run.task); })},
          {"versions", by_name(runs, [](const TaskRun& run) { return Json(run.task.version); })},
          {"n-shot", by_name(runs, [](const TaskRun&) { return Json(0); })},
          {"higher_is_better", by_name(runs,
                                       [](const TaskRun& run) {
                                         Json better = {{"acc", true}};
                                         if (run.task.acc_norm) better["acc_norm"] = true;
                                         return better;
                                       })},
          {"n-samples", std::move(samples)},
          {"mean", mean_json(runs)},
          {"config", config(facts)},
          {"date", static_cast<double>(std::time(nullptr))},
          {"haqa_version", HAQA_VERSION},
          {"max_length", facts.max_length},
          {"model_source", "gguf"},
          {"model_name", facts.model},
          {"total_evaluation_time_seconds", python_float(facts.seconds)}};
}

std::vector<Json> lm_eval_samples(const TaskRun& run) {
  std::vector<Json> lines;
  for (size_t i = 0; i < run.items.size(); ++i) {
    const Item& item = run.items[i];
    const ItemResult& result = run.result.items[i];
    Json arguments = Json::object(), responses = Json::array(), filtered = Json::array();
    for (size_t j = 0; j < item.requests.size(); ++j) {
      arguments[fmt::format("gen_args_{}", j)] = {{"arg_0", item.requests[j].context},
                                                  {"arg_1", item.requests[j].continuation}};
      const Json score = {python_float(result.scores[j].log_likelihood), result.scores[j].greedy ? "True" : "False"};
      responses.push_back(Json::array({score}));
      filtered.push_back(score);
    }
    Json line = {{"doc_id", item.doc_id},
                 {"task", run.task.name},
                 {"target", fmt::to_string(item.gold)},
                 {"arguments", std::move(arguments)},
                 {"resps", std::move(responses)},
                 {"filtered_resps", std::move(filtered)},
                 {"filter", "none"},
                 {"metrics", run.task.acc_norm ? Json({"acc", "acc_norm"}) : Json({"acc"})},
                 {"acc", result.predicted == item.gold ? 1.0 : 0.0}};
    if (run.task.acc_norm) line["acc_norm"] = result.predicted_norm == item.gold ? 1.0 : 0.0;
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace haqa
