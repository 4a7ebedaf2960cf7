#include "haqa/study/importance.h"

#include <fmt/format.h>

#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/cli/commands.h"
#include "haqa/cli/trial_source.h"
#include "haqa/report/study_page.h"

namespace haqa {
namespace {

struct Options {
  SourceFlags flags;
  ImportanceOptions importance;
  std::filesystem::path output;
  bool json = false;
};

void print_importance(const Importance& importance) {
  if (!importance.caution.empty()) fmt::print("{}\n", importance.caution);
  if (importance.parameters.empty()) return;
  const std::string title =
      fmt::format("Importance: the best {} of {} complete trials against all", importance.best, importance.trials);
  fmt::print("{}", text_table(title, importance_table(importance)).substr(1));
}

void run(const Options& o) {
  const StudySource study = read_source(o.flags);
  const Importance result = importance(study.track.space, study.trials, study.track.direction, o.importance);
  if (!o.output.empty()) write_study(o.output, study, result);
  if (o.json)
    fmt::print("{}\n", to_json(result).dump(2, ' ', false, Json::error_handler_t::replace));
  else
    print_importance(result);
  if (!o.output.empty() && !o.json)
    fmt::print("\n{}: study.html and its figures as CSV\n", one_line(o.output.string()));
}

}  // namespace

void add_importance(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("importance", "Which parameters mattered, by the trials of a study");
  CLI::Option* source = command->add_option("source", o->flags.source, "Folder of a run, or a file with a trial a line")
                            ->check(CLI::ExistingPath)
                            ->type_name("STUDY");
  command->add_option("--study", o->flags.study, "Study in a database instead")
      ->type_name("NAME")
      ->check(not_empty)
      ->excludes(source);
  command->add_option("--storage", o->flags.storage, "Its database; see docs/storage.md")
      ->type_name("URL")
      ->check(not_empty)
      ->capture_default_str();
  command->add_option("--space", o->flags.space, "File of the search space (default: as far as the trials tell)")
      ->check(CLI::ExistingFile)
      ->type_name("FILE");
  command
      ->add_option("--direction", o->flags.direction,
                   "What is better (default: as the run or the database says, else maximize)")
      ->check(CLI::IsMember({"maximize", "minimize"}));
  command
      ->add_option("--quantile", o->importance.target_quantile,
                   "Share of best trials to set against all (default: a tenth, at least ten trials)")
      ->check(CLI::Range(0.001, 0.999))
      ->check(not_nan);
  command->add_option("-o,--output", o->output, "Folder for study.html, trials.csv and importance.csv")
      ->type_name("FOLDER")
      ->check(not_empty);
  command->add_flag("--json", o->json, "Print JSON; see docs/compare.md");
  command->footer(
      "Examples:\n  haqa importance runs/quickstart-20261124T081933 --output study\n"
      "  haqa importance --study space-0ab1cd23 --space space.yaml");
  command->callback([o] { run(*o); });
}

}  // namespace haqa
