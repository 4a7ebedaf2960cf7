#include "haqa/deploy/evaluation.h"

#include <fmt/format.h>

#include <chrono>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

TaskRun read_task(const EvaluationTask& task, const EvaluationRequest& request) {
  const std::filesystem::path file = rows_of(task, request.data);
  TaskRun run{task, read_items(task, file, request.part, request.limit), count_rows(file), {}};
  return run;
}

Json worker_request(const EvaluationRequest& request, const std::vector<TaskRun>& runs) {
  Json questions = Json::array();
  for (const TaskRun& run : runs)
    questions.push_back({{"task", run.task.name}, {"file", rows_of(run.task, request.data).string()}});
  return {{"command", "evaluate"},
          {"model", request.model.string()},
          {"adapter", request.adapter.string()},
          {"adapter_scale", request.adapter_scale},
          {"tasks", std::move(questions)},
          {"part", part_name(request.part)},
          {"limit", request.limit},
          {"threads", request.threads},
          {"max_length", request.max_length},
          {"type_k", request.type_k},
          {"type_v", request.type_v},
          {"flash_attention", request.flash_attention}};
}

}  // namespace

std::filesystem::path rows_of(const EvaluationTask& task, const std::filesystem::path& data) {
  const std::filesystem::path file = data / (task.name + ".jsonl");
  if (!std::filesystem::exists(file))
    throw Error(
        "{}: is missing; `haqa data {} --output {}` fetches it, or put there the {} rows of {} ({}), one a line",
        file.string(), task.name, data.string(), task.split, task.dataset, task.configuration);
  return file;
}

MeanAccuracy Evaluation::mean() const {
  std::vector<TaskResult> results;
  for (const TaskRun& run : runs) results.push_back(run.result);
  return mean_accuracy(results);
}

Evaluation evaluate_model(const EvaluationRequest& request, const std::function<void(double)>& progress) {
  Evaluation out;
  for (const EvaluationTask& task : request.tasks) out.runs.push_back(read_task(task, request));
  const auto start = std::chrono::steady_clock::now();
  const Json answer = call_worker("haqa-infer", worker_request(request, out.runs), {request.timeout_s, 0}, progress);
  std::vector<Score> scores;
  for (const Json& score : answer.at("scores")) scores.push_back({score.at(0), score.at(1)});
  std::span<const Score> rest = scores;
  for (TaskRun& run : out.runs) {
    size_t n = 0;
    for (const Item& item : run.items) n += item.requests.size();
    if (rest.size() < n) throw WrongResult("haqa-infer gave too few scores");
    run.result = grade(run.task, run.items, rest.first(n));
    rest = rest.subspan(n);
  }
  out.requests = scores.size();
  out.truncated = answer.at("truncated");
  out.tokens = answer.at("tokens");
  out.tokens_apart = answer.at("tokens_apart");
  out.facts = {request.model.string(),
               request.adapter.string(),
               request.adapter_scale,
               part_name(request.part),
               request.limit,
               answer.at("max_length"),
               std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
  return out;
}

}  // namespace haqa
