#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/progress.h"
#include "haqa/cli/commands.h"
#include "haqa/deploy/evaluation.h"
#include "haqa/model/model_info.h"

namespace haqa {
namespace {

/// "FILE" or "FILE:SCALE"; a colon that no number follows belongs to the name.
void set_adapter(EvaluationRequest& request, const std::string& text) {
  request.adapter = text;
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || std::filesystem::exists(text)) return;
  const char* end = text.data() + text.size();
  const auto [stop, code] = std::from_chars(text.data() + colon + 1, end, request.adapter_scale);
  if (code != std::errc() || stop != end || !std::isfinite(request.adapter_scale))
    throw UsageError("--adapter {}: what follows the colon is no number", text);
  request.adapter = text.substr(0, colon);
}

std::string percent(const Accuracy& accuracy) {
  if (std::isnan(accuracy.error)) return fmt::format("{:.2f}", 100 * accuracy.value);
  return fmt::format("{:.2f} ± {:.2f}", 100 * accuracy.value, 100 * accuracy.error);
}

void print_row(const std::string& title, const std::string& items, const std::string& acc, const std::string& norm) {
  fmt::print("{:<14} {:>6}  {:>14}  {:>14}\n", title, items, acc, norm);
}

/// Whether some questions have no right choice, as MathQA's pattern loses some options.
size_t without_answer(const TaskRun& run) {
  return static_cast<size_t>(
      std::count_if(run.items.begin(), run.items.end(), [](const Item& item) { return item.gold < 0; }));
}

void print_table(const Evaluation& evaluation) {
  print_row("task", "items", "acc %", "acc_norm %");
  for (const TaskRun& run : evaluation.runs)
    print_row(run.task.title, fmt::to_string(run.items.size()), percent(run.result.acc),
              run.result.acc_norm ? percent(*run.result.acc_norm) : "");
  const MeanAccuracy mean = evaluation.mean();
  if (evaluation.runs.size() > 1) print_row("mean", "", percent(mean.acc), percent(mean.headline));
  fmt::print("± is one standard error{}.\n",
             evaluation.runs.size() > 1 ? "; the mean under acc_norm takes acc where a task has no acc_norm" : "");
  for (const TaskRun& run : evaluation.runs)
    if (const size_t n = without_answer(run))
      fmt::print("{}: {} of the questions have no right choice and count as wrong, as in lm-eval.\n", run.task.title,
                 n);
  if (evaluation.truncated > 0)
    fmt::print("{} of {} requests were longer than the {} tokens that the model reads, and lost their beginning.\n",
               evaluation.truncated, evaluation.requests, evaluation.facts.max_length);
}

std::string samples_text(const Evaluation& evaluation) {
  std::string text;
  for (const TaskRun& run : evaluation.runs)
    for (const Json& line : lm_eval_samples(run)) text += to_line(line) + "\n";
  return text;
}

std::string work_done(const Evaluation& e) {
  size_t items = 0;
  for (const TaskRun& run : e.runs) items += run.items.size();
  return fmt::format("{} questions in {}, {:.1f}/s; {} tokens computed, {} with each choice by itself", items,
                     format_seconds(e.facts.seconds), static_cast<double>(items) / e.facts.seconds, e.tokens,
                     e.tokens_apart);
}

}  // namespace

void add_eval(CLI::App& app) {
  struct Options {
    EvaluationRequest request;
    std::string tasks = "all", adapter, part = "all";
    std::filesystem::path output, samples;
    bool json = false, quiet = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("eval", "Accuracy of a GGUF on multiple-choice tasks as lm-eval defines them, zero-shot");
  command->add_option("model", o->request.model, "GGUF file")->required()->type_name("MODEL");
  command
      ->add_option("-t,--tasks", o->tasks,
                   "Tasks with commas between: boolq, rte, winogrande, openbookqa, "
                   "arc_challenge, arc_easy, hellaswag, mathqa; or all")
      ->capture_default_str();
  command->add_option("-d,--data", o->request.data, "Folder with TASK.jsonl for each task (`haqa data`)")
      ->required()
      ->check(not_empty)
      ->type_name("DIR");
  command->add_option("--adapter", o->adapter, "LoRA adapter in GGUF format, and how strongly it acts (default 1)")
      ->check(not_empty)
      ->type_name("FILE[:SCALE]");
  command->add_option("--part", o->part, "all, or one of two fixed halves: validation to choose by, held-out to report")
      ->capture_default_str();
  command->add_option("-n,--limit", o->request.limit, "Only the first N questions of each task's part")
      ->check(CLI::Range(1, 1000000000))
      ->type_name("N");
  command->add_option("--threads", o->request.threads, "Threads (default: all cores)")->check(CLI::Range(1, 4096));
  command->add_option("--max-length", o->request.max_length, "Tokens read at most (default: the model's own context)")
      ->check(CLI::Range(1, 100000000));
  command->add_option("--cache-type-k", o->request.type_k, "Type of the cache of keys")->capture_default_str();
  command->add_option("--cache-type-v", o->request.type_v, "Type of the cache of values")->capture_default_str();
  command->add_option("--flash-attention", o->request.flash_attention, "on, off or auto")
      ->check(CLI::IsMember({"on", "off", "auto"}))
      ->capture_default_str();
  command->add_option("-o,--output", o->output, "Write the results in lm-eval's JSON form")->type_name("FILE");
  command->add_option("--samples", o->samples, "Write each question with its scores, a line each")->type_name("FILE");
  command->add_flag("--json", o->json, "Print the results in lm-eval's JSON form");
  command->add_flag("-q,--quiet", o->quiet, "No progress on standard error");
  command->footer(
      "Examples:\n  haqa eval model-q4_0.gguf --data eval-data --tasks boolq,rte --limit 200\n"
      "  haqa eval model-f16.gguf --data eval-data --adapter adapter.gguf:0.5 --part held-out --json");
  command->callback([o] {
    EvaluationRequest& request = o->request;
    request.tasks = load_tasks(o->tasks);
    request.part = part_from(o->part);
    set_adapter(request, o->adapter);
    read_model(request.model);  // a clear error before anything runs
    if (!request.adapter.empty() && !std::filesystem::is_regular_file(request.adapter))
      throw Error("{}: is no file; name a LoRA adapter in GGUF format", request.adapter.string());
    Progress progress(o->quiet);
    progress.step(fmt::format("{} task{}", request.tasks.size(), request.tasks.size() > 1 ? "s" : ""));
    const Evaluation evaluation = evaluate_model(request, [&](double share) { progress.update(share); });
    progress.done(work_done(evaluation));
    const Json results = lm_eval_results(evaluation.runs, evaluation.facts);
    if (!o->output.empty()) write_file(o->output, results.dump(2) + "\n");
    if (!o->samples.empty()) write_file(o->samples, samples_text(evaluation));
    if (o->json) {
      fmt::print("{}\n", results.dump(2));
    } else {
      print_table(evaluation);
    }
  });
}

}  // namespace haqa
