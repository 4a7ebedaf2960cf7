#pragma once
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/storage/database.h"
#include "haqa/storage/distribution.h"
#include "haqa/study/study.h"

namespace haqa {

/// The trials of one study, read within a transaction. Ended ones never change: each is read once.
class TrialReader {
 public:
  /// space: what configurations are fitted to; nullptr: they stay as they are. It must outlive this.
  TrialReader(Database& db, int study_id, const SearchSpace* space) : db_(db), study_id_(study_id), space_(space) {}
  /// All trials, number i at i. Throws Error where they are not numbered so.
  const std::vector<Trial>& trials();

 private:
  struct Draft;
  std::map<int, Draft> read_news();
  void read_parameters(std::map<int, Draft>& drafts);
  void read_values(std::map<int, Draft>& drafts);
  void read_attributes(std::map<int, Draft>& drafts);
  std::string news() const;
  Trial trial_of(Draft& draft) const;
  Configuration fitted(const Draft& draft) const;

  Database& db_;
  int study_id_;
  const SearchSpace* space_;
  std::map<std::string, Distribution> distributions_;  ///< by their JSON
  std::vector<Trial> trials_;
  std::vector<int> open_ids_;  ///< of trials that had not ended
  int last_id_ = 0;
};

/// Rows of one trial, written within a transaction. What is there already is replaced, but for parameters.
void write_parameters(Database& db, int trial_id, const Configuration& configuration,
                      const std::map<std::string, Distribution>& distributions);
void write_value(Database& db, int trial_id, int objective, double value);
void write_intermediate(Database& db, int trial_id, const Intermediate& value);
/// Those whose step is not there yet.
void write_missing_intermediate(Database& db, int trial_id, std::span<const Intermediate> values);
void write_user_attribute(Database& db, int trial_id, const std::string& key, const Json& value);
void write_system_attribute(Database& db, int trial_id, const std::string& key, const Json& value);
/// What Optuna has no column for: who proposed it and why, the reason of its failure, metrics, times.
void write_extras(Database& db, const Trial& trial, int trial_id);

/// Local time, as Optuna keeps it (datetime.now() in _rdb/storage.py of 5.0): "2026-11-24 08:19:33.123456".
std::string database_now();

/// Optuna's name of a state that trials end in.
std::string optuna_state(TrialState state);

}  // namespace haqa
