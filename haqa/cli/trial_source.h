#pragma once
#include <filesystem>
#include <optional>
#include <string>

#include "haqa/report/study_page.h"
#include "haqa/study/importance.h"
#include "haqa/study/study.h"

namespace haqa {

/// A study read from where a user has it, to look back at: what is known of its track, and its trials.
struct StudySource {
  std::string name;
  Track track;
  std::vector<Trial> trials;
  std::vector<TitledTable> tables = {};  ///< what else its page shows
};

/// What the user says of the study besides.
struct SourceFlags {
  std::string source;           ///< a run's folder, or a file with a line a trial: a run's log.jsonl, or bare trials
  std::filesystem::path space;  ///< of search; empty: as far as the trials tell
  std::string storage = "sqlite:///haqa.db", study;  ///< instead of a source: a study in a database
  std::string direction;  ///< "maximize" or "minimize"; empty: what the run or the database says, else maximize
};

/// Throws UsageError where the source holds no trial; Error naming the line that is damaged.
StudySource read_source(const SourceFlags& flags);

/// Writes study.html, trials.csv and importance.csv into the folder, which is made.
void write_study(const std::filesystem::path& folder, const StudySource& study, const Importance& importance);

/// Chart.js's text; empty where it is not installed.
std::string chart_js();

}  // namespace haqa
