#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/progress.h"
#include "haqa/base/text.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/facts.h"
#include "haqa/cli/finetuning.h"
#include "haqa/cli/logged_sampler.h"
#include "haqa/cli/trial_source.h"
#include "haqa/report/finetune_report.h"
#include "haqa/report/run_log.h"
#include "haqa/sampler/registry.h"
#include "haqa/space/space_file.h"
#include "haqa/study/importance.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// From a task to a tuned adapter. Every step that takes time is recorded in the run's log when it is done.
class FinetuneRun {
 public:
  FinetuneRun(const Task& task, RunLog& log, Progress& progress);
  Json run(const std::string& command);

 private:
  void tune();
  void write_files();
  void measure_held_out();
  Json summarize(const std::string& command);

  const Task& task_;
  const FinetuneTask& finetune_;
  RunLog& log_;
  Progress& progress_;
  const SearchSpace space_;
  Finetuning finetuning_;
  Json held_out_ = Json::object();
  fs::path merged_;
};

FinetuneRun::FinetuneRun(const Task& task, RunLog& log, Progress& progress)
    : task_(task),
      finetune_(finetune_section(task)),
      log_(log),
      progress_(progress),
      space_(read_space(finetune_.space)),
      finetuning_(finetune_setup(finetune_), space_, log, log.finished(), progress) {
  merged_ = log_.folder() / fmt::format("model-merged-{}.gguf", finetuning_.objective().gguf_type());
}

Json FinetuneRun::run(const std::string& command) {
  remove_unfinished(log_.folder());
  log_.add_event("start", {{"kind", kFinetuneKind}, {"command", command}, {"task", to_json(task_)}});
  if (task_.memory_limit && !finetune_.setup.memory_limit)
    progress_.note("memory_limit is the deployed model's; a training's would be finetune.memory_limit");
  finetuning_.begin();
  tune();
  finetuning_.require_best();
  write_files();
  measure_held_out();
  return summarize(command);
}

void FinetuneRun::tune() {
  const std::string name = finetune_.sampler.empty() ? "agent" : finetune_.sampler;
  AgentSetup agent{task_.agent, log_.folder(), [&](const std::string& trouble) {
                     progress_.note(trouble);
                     log_.add_event("agent", {{"detail", trouble}});
                   }};
  const std::unique_ptr<Sampler> inner = make_named_sampler(name, task_.seed, agent);
  LoggedSamplers samplers(log_);
  Sampler& sampler = samplers.add(finetuning_.track(), *inner, log_);
  const int rounds = finetune_.rounds.value_or(task_.rounds);
  StudyOptions options;
  options.budget.rounds = rounds;
  options.on_proposal = [&](const Track&, const Trial& t) {
    progress_.step(fmt::format("round {} of {}", t.number + 1, rounds));
  };
  options.on_trial = [&](const Track&, const Trial& t) { finetuning_.finish_round(t); };
  run_study(std::array{StudyTrack{finetuning_.track(), sampler, finetuning_.objective(), log_}}, options);
}

void FinetuneRun::write_files() {
  log_.once("files", [&] {
    finetuning_.write_adapter(log_.folder());
    const FinetuneObjective& objective = finetuning_.objective();
    progress_.step(
        fmt::format("merging round {} and quantizing to {}", finetuning_.best()->number + 1, objective.gguf_type()));
    fs::rename(objective.merged(finetuning_.best()->configuration, objective.gguf_type()), merged_);
    progress_.done(fmt::format("{}: {}", merged_.string(), format_bytes(fs::file_size(merged_))));
    return Json();
  });
}

/// Once each, when the choice is made: what one looks at again and again is chosen by.
void FinetuneRun::measure_held_out() {
  const fs::path base = finetuning_.objective().base();
  const auto measured = [&](const char* key, const fs::path& model, const fs::path& adapter) {
    held_out_[key] = finetuning_.measured(fmt::format("{}: held-out", key), model, adapter, Half::held_out);
  };
  const Trial& first = log_.finished().front();
  measured("base", base, {});
  if (has_finite_value(first)) measured("defaults", base, finetuning_.adapter(first));
  measured("best", base, finetuning_.adapter(*finetuning_.best()));
  measured("merged", merged_, {});
}

Json FinetuneRun::summarize(const std::string& command) {
  const fs::path folder = log_.folder();
  Json summary = {{"haqa_version", HAQA_VERSION},
                  {"kind", kFinetuneKind},
                  {"command", command},
                  {"started", log_.events("start").front()["time"]},
                  {"seconds", log_.seconds()},
                  {"task", to_json(task_)},
                  {"model", to_json(finetuning_.objective().model())},
                  {"held_out", held_out_},
                  {"agent", usage_of(folder / "transcript.jsonl", task_.agent)},
                  {"files",
                   {{"base", finetuning_.objective().base().string()},
                    {"adapter", (folder / "adapter.gguf").string()},
                    {"peft", (folder / "adapter").string()},
                    {"merged", merged_.string()}}}};
  summary.update(finetuning_.summary());
  summary["answer"] = finetune_answer(summary);
  write_study(folder, {folder.filename().string(), finetuning_.track(), log_.finished()},
              importance(space_, log_.finished(), Direction::maximize));
  write_file(folder / "suggestions.md", finetune_suggestions(summary));
  // Last, as it is what tells that the run is complete.
  write_file(folder / "summary.json", summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  finetuning_.objective().keep_only({});
  return summary;
}

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
    print_outcome(FinetuneRun(task, log, progress).run(command), flags, log.folder());
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
  check_sampler(finetune.sampler, space);
  check_finetune(finetune_setup(finetune), space);
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
    fs::remove_all(folder / "adapters", ignored);  // it may have been killed just then
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
  CLI::App* command = app.add_subcommand("finetune", "Tune a fine-tuning: QLoRA's hyperparameters, by accuracy");
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
