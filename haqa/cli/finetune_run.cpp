#include "haqa/cli/finetune_run.h"

#include <fmt/format.h>

#include <array>

#include "haqa/base/file.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/facts.h"
#include "haqa/cli/finetuning.h"
#include "haqa/cli/logged_sampler.h"
#include "haqa/cli/trial_source.h"
#include "haqa/finetune/image_objective.h"
#include "haqa/report/finetune_report.h"
#include "haqa/space/space_file.h"
#include "haqa/study/importance.h"

namespace haqa {

namespace fs = std::filesystem;

FinetuneRun::FinetuneRun(const Task& task, RunLog& log, Progress& progress)
    : task_(task),
      finetune_(finetune_section(task)),
      log_(log),
      progress_(progress),
      space_(read_space(finetune_.space)) {}

Json FinetuneRun::run(const std::string& command) {
  remove_unfinished(log_.folder());
  log_.add_event("start", {{"kind", kFinetuneKind}, {"command", command}, {"task", to_json(task_)}});
  rounds().begin();
  tune();
  rounds().require_best();
  write_files();
  return summarize(command, measure_held_out());
}

void FinetuneRun::tune() {
  const std::string name = finetune_.sampler.empty() ? "agent" : finetune_.sampler;
  AgentSetup agent{task_.agent, log_.folder(), [&](const std::string& trouble) {
                     progress_.note(trouble);
                     log_.add_event("agent", {{"detail", trouble}});
                   }};
  const std::unique_ptr<Sampler> inner = make_named_sampler(name, task_.seed, agent);
  LoggedSamplers samplers(log_);
  Sampler& sampler = samplers.add(rounds().track(), *inner, log_);
  const int budget = finetune_.rounds.value_or(task_.rounds);
  StudyOptions options;
  options.budget.rounds = budget;
  options.on_proposal = [&](const Track&, const Trial& t) {
    progress_.step(fmt::format("round {} of {}", t.number + 1, budget));
  };
  options.on_trial = [&](const Track&, const Trial& t) { rounds().finish_round(t); };
  run_study(std::array{StudyTrack{rounds().track(), sampler, rounds().objective(), log_}}, options);
}

Json FinetuneRun::summarize(const std::string& command, const Json& held_out) {
  const fs::path folder = log_.folder();
  Json summary = {{"haqa_version", HAQA_VERSION}, {"kind", kFinetuneKind},
                  {"command", command},           {"started", log_.events("start").front()["time"]},
                  {"seconds", log_.seconds()},    {"task", to_json(task_)},
                  {"held_out", held_out},         {"agent", usage_of(folder / "transcript.jsonl", task_.agent)}};
  summary.update(description());
  summary.update(rounds().summary());
  summary["answer"] = finetune_answer(summary);
  write_study(folder,
              {folder.filename().string(),
               rounds().track(),
               log_.finished(),
               {{kDeploymentTitle, deployment_table(Part(summary))}}},
              importance(rounds().track().space, log_.finished(), Direction::maximize));
  write_file(folder / "suggestions.md", finetune_suggestions(summary));
  // Last, as it is what tells that the run is complete.
  write_file(folder / "summary.json", summary.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  rounds().objective().keep_only({});
  return summary;
}

std::unique_ptr<FinetuneRun> make_finetune_run(const Task& task, RunLog& log, Progress& progress) {
  return finetune_section(task).images ? make_image_run(task, log, progress) : make_llama_run(task, log, progress);
}

void check_finetune_task(const FinetuneTask& finetune, const SearchSpace& space) {
  if (finetune.images)
    check_image_training(*finetune.images, space);
  else
    check_finetune(finetune_setup(finetune), space);
}

}  // namespace haqa
