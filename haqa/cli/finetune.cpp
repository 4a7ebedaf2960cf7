#include <fmt/format.h>
#include <fmt/ranges.h>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/progress.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/finetune_run.h"
#include "haqa/cli/finetuning.h"
#include "haqa/cli/trial_source.h"
#include "haqa/finetune/bit_width_choice.h"
#include "haqa/report/finetune_report.h"
#include "haqa/report/run_log.h"
#include "haqa/space/space_file.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

void print_outcome(const Json& summary, const RunFlags& flags, const fs::path& folder) {
  if (flags.json) {
    fmt::print("{}\n", summary.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    fmt::print("{}\nreport: {}\n", finetune_text(summary), (folder / "study.html").string());
  }
}

void run_finetune(const Task& task, RunLog& log, const std::string& command, const RunFlags& flags) {
  Progress progress(flags.quiet);
  try {
    print_outcome(make_finetune_run(task, log, progress)->run(command), flags, log.folder());
  } catch (const Interrupted&) {
    throw Interrupted("interrupted; what was finished is kept: go on with haqa finetune --resume {}",
                      log.folder().string());
  } catch (const NoSpaceError& e) {
    if (!log.has_results()) throw;
    throw NoSpaceError("{}; then go on with haqa finetune --resume {}", e.what(), log.folder().string());
  }
}

void start(const Task& task, const RunFlags& flags) {
  const fs::path folder = flags.output.empty() ? new_folder(task.file.stem().string()) : flags.output;
  const FinetuneTask& finetune = finetune_section(task);
  const SearchSpace space = read_space(finetune.space);
  check_finetune_task(finetune, space);
  check_sampler(finetune.sampler, finetune.images ? with_bit_width(space, finetune.images->bit_widths) : space);
  RunLog log = RunLog::create(folder);
  try {
    write_file(folder / "task.yaml", to_json(task).dump(2) + "\n");
    run_finetune(task, log, "haqa finetune " + task.file.string(), flags);
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception&) {
    std::error_code ignored;
    if (!log.has_results()) fs::remove_all(folder, ignored);
    throw;
  }
}

void resume(const fs::path& folder, const RunFlags& flags) {
  require_kind(folder, kFinetuneKind);
  if (fs::exists(folder / "summary.json")) {
    std::error_code ignored;
    for (const char* trained : {"adapters", "networks"})  // it may have been killed just then
      fs::remove_all(folder / trained, ignored);
    return print_outcome(read_summary(folder), flags, folder);
  }
  RunLog log = RunLog::resume(folder);
  run_finetune(read_task(folder / "task.yaml"), log, "haqa finetune --resume " + folder.string(), flags);
}

}  // namespace

void add_finetune(CLI::App& app) {
  struct Options {
    RunFlags flags;
    fs::path task, resume;
    std::string sampler;
  };
  auto o = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("finetune", "Tune a fine-tuning by accuracy: QLoRA of a LLaMA, or DoReFa of a ResNet");
  CLI::Option* task = command->add_option("task", o->task, "Task file with a section finetune; see docs/finetune.md")
                          ->type_name("TASK");
  CLI::Option* resume_option =
      command->add_option("--resume", o->resume, "Go on with an interrupted run")->type_name("RUN")->excludes(task);
  command
      ->add_option("--sampler", o->sampler,
                   fmt::format("Who proposes: {}, human:FILE (default: the task's)", fmt::join(named_samplers(), ", ")))
      ->check(not_empty)
      ->excludes(resume_option);
  o->flags.add_to(*command);
  resume_option->excludes("--output");
  command->footer(
      "Examples:\n"
      "  haqa finetune task.yaml\n"
      "  haqa finetune task.yaml --sampler bayesian --output runs/bayesian\n"
      "  haqa finetune --resume runs/bayesian");
  command->callback([o, task, resume_option] {
    if (resume_option->count()) return resume(o->resume, o->flags);
    if (!task->count())
      throw UsageError("name a task file, or a run to go on with by --resume; see haqa finetune --help");
    Task read = read_task(o->task);
    if (const auto unknown = unknown_sampler(o->sampler); unknown && !o->sampler.empty())
      throw UsageError("--sampler: {}", *unknown);
    if (read.finetune && !o->sampler.empty()) read.finetune->sampler = located_sampler(o->sampler, fs::current_path());
    start(read, o->flags);
  });
}

}  // namespace haqa
