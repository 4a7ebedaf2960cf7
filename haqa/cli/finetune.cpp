#include "haqa/cli/finetune.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "haqa/adapter/merge.h"
#include "haqa/base/bytes.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/progress.h"
#include "haqa/base/text.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/facts.h"
#include "haqa/cli/logged_sampler.h"
#include "haqa/cli/trial_source.h"
#include "haqa/deploy/benchmark.h"
#include "haqa/deploy/quantize.h"
#include "haqa/finetune/finetune_report.h"
#include "haqa/hardware/detect.h"
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
  Json measured(const std::string& step, const fs::path& model, const fs::path& adapter, Half half);
  void tune();
  fs::path adapter_of(const Configuration& configuration) const;
  const Trial& best() const;
  void measure_held_out();
  void write_files();
  void merge_best(const fs::path& file);
  Json summarize(const std::string& command);

  const Task& task_;
  const FinetuneTask& finetune_;
  RunLog& log_;
  Progress& progress_;
  SearchSpace space_;
  FinetuneSetup setup_;
  FinetuneObjective objective_;
  Track track_;
  Json before_, held_out_ = Json::object();
  fs::path merged_;
};

FinetuneRun::FinetuneRun(const Task& task, RunLog& log, Progress& progress)
    : task_(task),
      finetune_(finetune_section(task)),
      log_(log),
      progress_(progress),
      space_(read_space(finetune_.space)),
      setup_(finetune_setup(finetune_)),
      objective_(setup_, space_, log.folder(),
                 [&progress](std::string_view what, double share) { progress.update(share, what); }) {
  merged_ = log_.folder() / fmt::format("model-merged-{}.gguf", objective_.gguf_type());
}

/// What a killed process was writing. The lock on log.jsonl says that no other is.
void remove_unfinished(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().find(".part-") != std::string::npos) fs::remove(entry.path());
}

Json FinetuneRun::run(const std::string& command) {
  remove_unfinished(log_.folder());
  remove_unfinished(log_.folder() / "models");
  log_.add_event("start", {{"command", command}, {"task", to_json(task_)}});
  progress_.step(fmt::format("the model as {}", objective_.gguf_type()));
  objective_.base();
  progress_.done();
  before_ = measured("base:validation", objective_.base(), {}, Half::validation);
  track_ = finetune_track(setup_, space_, objective_, before_);
  tune();
  write_files();
  measure_held_out();
  return summarize(command);
}

Json FinetuneRun::measured(const std::string& step, const fs::path& model, const fs::path& adapter, Half half) {
  return log_.once(step, [&] {
    progress_.step(fmt::format("accuracy of {}", step));
    const TaskAccuracies found = objective_.accuracy(model, adapter, half);
    progress_.done(fmt::format("accuracy of {}: {:.2f} ± {:.2f} %", step, 100 * found.mean, 100 * found.error));
    return to_json(found);
  });
}

void FinetuneRun::tune() {
  const std::string name = finetune_.sampler.empty() ? "agent" : finetune_.sampler;
  AgentSetup agent{task_.agent, log_.folder(), [&](const std::string& trouble) {
                     progress_.note(trouble);
                     log_.add_event("agent", {{"detail", trouble}});
                   }};
  const std::unique_ptr<Sampler> inner = make_named_sampler(name, task_.seed, agent);
  LoggedSampler sampler(*inner, log_);
  StudyOptions options;
  options.budget.rounds = finetune_.rounds;
  options.on_proposal = [&](const Track&, const Trial& t) {
    progress_.step(fmt::format("round {} of {}", t.number + 1, finetune_.rounds));
  };
  const Configuration defaults = space_.defaults();
  options.on_trial = [&](const Track&, const Trial& t) {
    progress_.done(describe_finetune(t, defaults));
    if (const std::string note = t.metrics.value("examples", ""); t.number == 0 && !note.empty()) progress_.note(note);
    std::vector<Configuration> kept = {defaults};
    if (const Trial* so_far = best_trial(log_.finished(), Direction::maximize)) kept.push_back(so_far->configuration);
    objective_.keep_only(kept);
  };
  run_study(std::array{StudyTrack{track_, sampler, objective_, log_}}, options);
}

const Trial& FinetuneRun::best() const {
  if (const Trial* found = best_trial(log_.finished(), Direction::maximize)) return *found;
  throw Error("no round gave a model; the last: {}; see {}", log_.finished().back().message,
              (log_.folder() / "log.jsonl").string());
}

fs::path FinetuneRun::adapter_of(const Configuration& configuration) const {
  return objective_.adapter_folder(configuration) / "adapter.gguf";
}

void FinetuneRun::write_files() {
  const fs::path from = objective_.adapter_folder(best().configuration), to = log_.folder();
  log_.once("files", [&] {
    for (const char* name : {"adapter.gguf", "adapter"}) {
      fs::remove_all(to / name);
      fs::copy(from / name, to / name, fs::copy_options::recursive);
    }
    merge_best(merged_);
    return Json();
  });
}

void FinetuneRun::merge_best(const fs::path& file) {
  const fs::path whole = log_.folder() / "models" / "merged.gguf";
  make_folder(whole.parent_path());
  progress_.step(fmt::format("merging round {} and quantizing to {}", best().number + 1, objective_.gguf_type()));
  std::error_code ignored;
  fs::remove(whole, ignored);
  merge(TensorData(setup_.model), read_adapter(adapter_of(best().configuration), objective_.model()), 1, whole,
        [&](double share) {
          check_interrupted();
          progress_.update(share, "merging");
        });
  fs::remove(file, ignored);
  quantize_model(read_model(whole), objective_.gguf_type(), file, false,
                 [&](double share) { progress_.update(share, "quantizing"); });
  fs::remove(whole, ignored);
  progress_.done(fmt::format("{}: {}", file.string(), format_bytes(fs::file_size(file))));
}

/// Once each, when the choice is made: what one looks at again and again is chosen by.
void FinetuneRun::measure_held_out() {
  const fs::path base = objective_.base();
  held_out_["base"] = measured("base:held-out", base, {}, Half::held_out);
  if (has_finite_value(log_.finished().front()))
    held_out_["defaults"] =
        measured("defaults:held-out", base, adapter_of(log_.finished().front().configuration), Half::held_out);
  held_out_["best"] = best().number == 0
                          ? held_out_["defaults"]
                          : measured("best:held-out", base, log_.folder() / "adapter.gguf", Half::held_out);
  held_out_["merged"] = measured("merged:held-out", merged_, {}, Half::held_out);
}

Json FinetuneRun::summarize(const std::string& command) {
  const fs::path folder = log_.folder();
  Json trials = Json::array();
  for (const Trial& t : log_.finished()) trials.push_back(to_json(t));
  Json summary = {{"haqa_version", HAQA_VERSION},
                  {"command", command},
                  {"started", log_.events("start").front()["time"]},
                  {"seconds", log_.seconds()},
                  {"task", to_json(task_)},
                  {"model", to_json(objective_.model())},
                  {"track", {{"name", track_.name}, {"value_name", track_.value_name}, {"direction", "maximize"}}},
                  {"base_validation", before_},
                  {"trials", std::move(trials)},
                  {"best", best().number},
                  {"held_out", held_out_},
                  {"agent", usage_of(folder / "transcript.jsonl", task_.agent)},
                  {"files",
                   {{"base", objective_.base().string()},
                    {"adapter", (folder / "adapter.gguf").string()},
                    {"peft", (folder / "adapter").string()},
                    {"merged", merged_.string()}}}};
  summary["answer"] = finetune_answer(summary);
  write_study(folder, {folder.filename().string(), track_, log_.finished()},
              importance(space_, log_.finished(), Direction::maximize));
  write_file(folder / "suggestions.md", finetune_suggestions(summary));
  // Last, as it is what tells that the run is complete.
  write_file(folder / "summary.json", summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  objective_.keep_only({});
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
  }
}

std::string checked_sampler(const std::string& name) {
  const std::vector<std::string> names = named_samplers();
  if (!human_file(name) && std::find(names.begin(), names.end(), name) == names.end())
    throw UsageError("--sampler {}: there is none such; use one of {}, or human:FILE", one_line(name),
                     fmt::join(names, ", "));
  return name;
}

void start(const Task& task, const RunFlags& flags) {
  const fs::path folder = flags.output.empty() ? new_folder(task.file.stem().string()) : flags.output;
  const FinetuneTask& finetune = finetune_section(task);
  const SearchSpace space = read_space(finetune.space);
  check_sampler(finetune.sampler, space);
  check_finetune(finetune.setup, space);
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
  if (fs::exists(folder / "summary.json")) return print_outcome(read_summary(folder), flags, folder);
  RunLog log = RunLog::resume(folder);
  run_finetune(read_task(folder / "task.yaml"), log, "haqa finetune --resume " + folder.string(), flags);
}

}  // namespace

const FinetuneTask& finetune_section(const Task& task) {
  if (!task.finetune) throw UsageError("{}: has no section finetune; docs/finetune.md shows one", task.file.string());
  const bool asks = task.finetune->sampler.empty() || asks_agent(task.finetune->sampler);
  if (asks && task.agent.provider == "self")
    throw UsageError("{}: agent.provider self is for haqa run; take expert, openai or manual", task.file.string());
  return *task.finetune;
}

FinetuneSetup finetune_setup(const FinetuneTask& finetune) {
  FinetuneSetup setup = finetune.setup;
  setup.memory_free = read_memory().free_bytes;
  return setup;
}

Track finetune_track(const FinetuneSetup& setup, const SearchSpace& space, const FinetuneObjective& objective,
                     const Json& before) {
  const ModelInfo& m = objective.model();
  const Prompts prompts = agent_prompts();
  const bool int8 = setup.bit_width == BitWidth::int8;
  const std::map<std::string, std::string> structure = {
      {"n_layer", std::to_string(m.n_layer)},
      {"n_embd", std::to_string(m.n_embd)},
      {"n_head", std::to_string(m.n_head)},
      {"n_head_kv", std::to_string(m.n_head_kv)},
      {"n_ff", std::to_string(m.n_ff)},
      {"n_vocab", std::to_string(m.n_vocab)},
      {"quantizer", prompts.render(int8 ? "finetune_int8" : "finetune_nf4", {})}};
  Track track;
  track.name = "fine-tuning";
  track.space = space;
  track.value_name = "accuracy";
  track.direction = Direction::maximize;
  track.brief = prompts.render(
      "finetune",
      {{"model", fmt::format("{} ({}, {:.3g} billion parameters)", m.name, m.architecture,
                             static_cast<double>(m.parameters()) * 1e-9)},
       {"bit_width", std::string(to_string(setup.bit_width))},
       {"base", int8 ? "LLM.int8" : "NF4 with double quantization"},
       {"gguf_type", objective.gguf_type()},
       {"schedule", setup.schedule},
       {"compute", setup.compute},
       {"examples", fmt::format("{} ({} examples)", setup.examples.filename().string(), objective.n_examples())},
       {"context", std::to_string(setup.context)},
       {"tasks", fmt::format("{}", fmt::join(setup.tasks, ", "))},
       {"questions", std::to_string(setup.limit)},
       {"before", to_line(before)},
       {"memory", setup.memory_limit ? fmt::format("A training that needs more than {} of memory fails.",
                                                   format_bytes(*setup.memory_limit))
                                     : ""},
       {"code", prompts.render("finetune_code", structure)}});
  return track;
}

std::string describe_finetune(const Trial& t, const Configuration& defaults) {
  const std::string changed = changes(Part(defaults), Part(t.configuration));
  const std::string what = changed.empty() ? "the defaults" : changed;
  if (!t.value)
    return one_line(fmt::format("round {}: failed ({}): {} [{}: {}]", t.number + 1, to_string(t.reason), what,
                                t.proposed_by, t.message),
                    1000);
  const Json error = t.metrics.value("error", Json());
  return one_line(fmt::format("round {}: accuracy {:.2f}{} %, {:.0f} tokens/s: {} [{}]", t.number + 1, 100 * *t.value,
                              error.is_number() ? fmt::format(" ± {:.2f}", 100 * error.get<double>()) : "",
                              t.metrics.value("tokens_per_second", 0.0), what, t.proposed_by),
                  1000);
}

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
    if (read.finetune && !o->sampler.empty()) read.finetune->sampler = checked_sampler(o->sampler);
    start(read, o->flags);
  });
}

}  // namespace haqa
