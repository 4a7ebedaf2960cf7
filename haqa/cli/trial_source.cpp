#include "haqa/cli/trial_source.h"

#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/report/part.h"
#include "haqa/report/run_log.h"
#include "haqa/space/space_file.h"
#include "haqa/storage/storage.h"
#include "haqa/study/observed_space.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

Direction direction_from(const std::string& name) {
  return name == "minimize" ? Direction::minimize : Direction::maximize;
}

StudySource from_run(const fs::path& folder) {
  const Json json = read_summary(folder);
  const Part summary(json);
  StudySource study;
  for (const Part& trial : summary["trials"].list()) study.trials.push_back(trial_from_json(trial.json()));
  study.track.value_name = summary["track"]["value_name"].text();
  study.track.direction = direction_from(summary["track"]["direction"].text());
  return study;
}

/// The trial of a line; nullopt for another event of a run's log, or a track beside the main one.
std::optional<Trial> trial_of(const Json& line) {
  if (!line.is_object()) throw Error("it is no JSON object");
  if (!line.contains("event")) return trial_from_json(line);
  if (line["event"] != "trial" || line.contains("track")) return std::nullopt;
  return trial_from_json(line.at("trial"));
}

StudySource from_lines(const fs::path& file) {
  StudySource study;
  std::string text = read_file(file);
  std::istringstream lines(text);
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty()) continue;
    try {
      if (auto trial = trial_of(Json::parse(line))) study.trials.push_back(*std::move(trial));
    } catch (const std::exception& e) {
      if (lines.eof() && text.back() != '\n') break;  // another process is writing it
      throw Error("{}:{}: is no trial ({})", file.string(), number, e.what());
    }
  }
  return study;
}

StudySource from_storage(const std::string& url, const std::string& name) {
  StoredStudy stored = read_study(url, name);
  StudySource study;
  study.trials = std::move(stored.trials);
  std::erase_if(study.trials, [](const Trial& t) { return t.state == TrialState::running; });
  if (stored.goals.empty()) return study;
  study.track.value_name = stored.goals.front().value_name;
  study.track.direction = stored.goals.front().direction;
  study.track.more_goals.assign(stored.goals.begin() + 1, stored.goals.end());
  return study;
}

StudySource source_of(const SourceFlags& flags) {
  if (!flags.study.empty()) return from_storage(flags.storage, flags.study);
  if (flags.source.empty()) throw UsageError("name a run's folder, a file, or a study by --study");
  return fs::is_directory(flags.source) ? from_run(flags.source) : from_lines(flags.source);
}

}  // namespace

StudySource read_source(const SourceFlags& flags) {
  StudySource study = source_of(flags);
  if (study.trials.empty() && !flags.study.empty()) throw Error("study \"{}\" holds no finished trial", flags.study);
  if (study.trials.empty())
    throw UsageError("{}: holds no trial; name a run's folder or a file with a trial a line", flags.source);
  study.name = !flags.study.empty() ? flags.study : fs::path(flags.source).lexically_normal().filename().string();
  if (study.name.empty()) study.name = fs::absolute(flags.source).parent_path().filename().string();
  if (!flags.direction.empty()) study.track.direction = direction_from(flags.direction);
  study.track.space = flags.space.empty() ? observed_space(study.trials) : read_space(flags.space);
  return study;
}

void write_study(const fs::path& folder, const StudySource& study, const Importance& importance) {
  make_folder(folder);
  write_file(folder / "study.html",
             study_page(study.name, study.track, study.trials, importance, chart_js(), study.tables));
  for (const auto& [name, content] : study_csv(study.track, study.trials, importance))
    write_file(folder / name, content);
}

std::string chart_js() {
  return fs::exists(HAQA_CHART_JS) ? read_file(HAQA_CHART_JS) : "";
}

}  // namespace haqa
