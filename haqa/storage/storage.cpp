#include "haqa/storage/storage.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "haqa/storage/coordinator.h"
#include "haqa/storage/schema.h"
#include "haqa/storage/trial_rows.h"

namespace haqa {
namespace {

constexpr const char* kProcess = "haqa:process";
constexpr std::ptrdiff_t kLongestName = 512;  // of Optuna's column

std::string optuna_name(Direction direction) {
  return direction == Direction::maximize ? "MAXIMIZE" : "MINIMIZE";
}

std::vector<Direction> directions_of(const Track& track) {
  std::vector<Direction> all{track.direction};
  for (const Goal& goal : track.more_goals) all.push_back(goal.direction);
  return all;
}

std::string shown(const std::vector<Direction>& directions) {
  std::vector<std::string> words;
  for (const Direction d : directions) words.emplace_back(to_string(d));
  return fmt::format("{}", fmt::join(words, ", "));
}

Json metric_names(const Track& track) {
  Json names = Json::array({track.value_name});
  for (const Goal& goal : track.more_goals) names.push_back(goal.value_name);
  return names;
}

std::optional<int> find_study(Database& db, const std::string& name) {
  int id = 0;
  db.sql() << "SELECT study_id FROM studies WHERE study_name = :name", soci::use(name), soci::into(id);
  return db.sql().got_data() ? std::optional(id) : std::nullopt;
}

std::vector<Direction> read_directions(Database& db, int study_id) {
  std::vector<Direction> all;
  std::string name;
  soci::statement rows = (db.sql().prepare << "SELECT direction FROM study_directions WHERE study_id = " << study_id
                                           << " ORDER BY objective",
                          soci::into(name));
  for (rows.execute(); rows.fetch();) all.push_back(name == "MAXIMIZE" ? Direction::maximize : Direction::minimize);
  return all;
}

/// What Optuna's set_metric_names() or ourselves named the values; null where nobody did.
Json read_metric_names(Database& db, int study_id) {
  std::string text;
  soci::indicator null = soci::i_null;
  db.sql() << "SELECT value_json FROM study_system_attributes WHERE \"key\" = 'study:metric_names' AND study_id = "
           << study_id,
      soci::into(text, null);
  const Json names = null == soci::i_ok ? Json::parse(text, nullptr, false) : Json();
  return names.is_array() ? names : Json();
}

/// "value" and "value 2" where they have no names.
std::vector<Goal> read_goals(Database& db, int study_id) {
  const Json names = read_metric_names(db, study_id);
  std::vector<Goal> goals;
  for (const Direction direction : read_directions(db, study_id)) {
    const size_t i = goals.size();
    const bool named = i < names.size() && names[i].is_string();
    goals.push_back({named    ? names[i].get<std::string>()
                     : i == 0 ? "value"
                              : fmt::format("value {}", i + 1),
                     direction});
  }
  return goals;
}

/// Nothing happens where another process was faster.
void create_study(Database& db, const std::string& name, const Track& track) {
  int id = 0;
  db.sql() << "INSERT INTO studies (study_name) VALUES (:name) ON CONFLICT (study_name) DO NOTHING RETURNING study_id",
      soci::use(name), soci::into(id);
  if (!db.sql().got_data()) return;
  const Json names = metric_names(track);
  const std::vector<Direction> directions = directions_of(track);
  for (size_t i = 0; i < directions.size(); ++i) {
    const std::string direction = optuna_name(directions[i]);
    db.sql() << "INSERT INTO study_directions (direction, study_id, objective) VALUES (:direction, " << id << ", " << i
             << ")",
        soci::use(direction);
  }
  if (track.value_name.empty()) return;
  const std::string key = "study:metric_names", json = to_python_json(names);
  db.sql() << "INSERT INTO study_system_attributes (study_id, \"key\", value_json) VALUES (" << id << ", :key, :value)",
      soci::use(key), soci::use(json);
}

/// Every distribution that the study's trials had, by parameter.
std::vector<std::pair<std::string, Distribution>> read_distributions(Database& db, int study_id) {
  std::vector<std::pair<std::string, Distribution>> all;
  std::string name, json;
  soci::statement rows = (db.sql().prepare << "SELECT DISTINCT p.param_name, p.distribution_json FROM trial_params p "
                                              "JOIN trials t ON t.trial_id = p.trial_id WHERE t.study_id = "
                                           << study_id,
                          soci::into(name), soci::into(json));
  for (rows.execute(); rows.fetch();) all.emplace_back(name, distribution_from_optuna(json));
  return all;
}

class OptunaStorage : public DatabaseStorage {
 public:
  OptunaStorage(const std::string& url, const std::string& name, const Track& track)
      : db_(url, Database::Missing::create), name_(name), space_(track.space), objectives_(directions_of(track)) {
    for (const Parameter& p : space_.parameters()) distributions_[p.name] = distribution_of(p);
    prepare_schema(db_, Database::Missing::create);
    std::optional<int> id;
    db_.read([&] { id = find_study(db_, name); });
    if (!id)
      db_.write([&] {
        create_study(db_, name, track);
        id = find_study(db_, name);
      });
    study_id_ = *id;
    db_.read([&] { check_study(metric_names(track)); });
    end_orphans();
    reader_.emplace(db_, study_id_, &space_);
  }

  std::vector<Trial> trials() override {
    std::vector<Trial> all;
    db_.read([&] { all = reader_->trials(); });
    return all;
  }

  int start(const Proposal& proposal) override {
    int number = 0;
    db_.write([&] {
      lock_study();
      int id = 0;
      const std::string now = database_now();
      db_.sql() << "INSERT INTO trials (number, study_id, state, datetime_start) VALUES ((SELECT count(*) FROM trials "
                << "WHERE study_id = " << study_id_ << "), " << study_id_
                << ", 'RUNNING', :now) RETURNING trial_id, number",
          soci::use(now), soci::into(id), soci::into(number);
      begin_trial(id, running_trial(number, proposal));
    });
    return number;
  }

  std::optional<Trial> claim_waiting() override {
    std::optional<Trial> claimed;
    db_.write([&] {
      lock_study();
      int id = 0, number = 0;
      const std::string now = database_now();
      db_.sql() << "UPDATE trials SET state = 'RUNNING', datetime_start = :now WHERE state = 'WAITING' AND trial_id = "
                << "(SELECT min(trial_id) FROM trials WHERE state = 'WAITING' AND study_id = " << study_id_
                << ") RETURNING trial_id, number",
          soci::use(now), soci::into(id), soci::into(number);
      if (!db_.sql().got_data()) return;
      claimed = reader_->trials().at(static_cast<size_t>(number));
      claimed->proposed_by = "enqueued";
      begin_trial(id, *claimed);
    });
    return claimed;
  }

  void report(int number, const Intermediate& value) override {
    db_.write([&] { write_intermediate(db_, running_id(number), value); });
  }

  void finish(const Trial& trial) override {
    check_values(trial);
    db_.write([&] {
      const int id = running_id(trial.number);
      if (trial.value) write_value(db_, id, 0, *trial.value);
      for (size_t i = 0; i < trial.more_values.size(); ++i)
        write_value(db_, id, static_cast<int>(i) + 1, trial.more_values[i]);
      write_missing_intermediate(db_, id, trial.intermediate);
      write_extras(db_, trial, id);
      end_trial(id, trial.state);
    });
  }

  /// Else Optuna would see it run until a coordinator of this host comes again.
  void abandon(const Trial& trial) override { finish(trial); }

 private:
  /// Throws where the track cannot go on with what is there; takes over the order of choices that it has.
  void check_study(const Json& names) {
    if (const auto there = read_directions(db_, study_id_); there != objectives_)
      throw Error("study \"{}\" in {} has the directions {}, this one {}; take another name", name_, db_.name(),
                  shown(there), shown(objectives_));
    const Json theirs = read_metric_names(db_, study_id_);
    if (!theirs.is_null() && names != Json::array({""}) && theirs != names)
      throw Error("study \"{}\" in {} measures {}, this one {}; take another name", name_, db_.name(), to_line(theirs),
                  to_line(names));
    std::set<std::string> others;
    size_t shared = 0;
    for (const auto& [name, stored] : read_distributions(db_, study_id_)) {
      const auto ours = distributions_.find(name);
      if (ours == distributions_.end()) others.insert(name);
      if (ours == distributions_.end()) continue;
      ++shared;
      if (const auto why = contradiction(stored, ours->second))
        throw Error("parameter \"{}\" of study \"{}\" in {} {}; take another study name", name, name_, db_.name(),
                    *why);
      if (ours->second.type != ParameterType::text) ours->second.choices = stored.choices;
    }
    if (shared == 0 && !others.empty())
      throw Error("study \"{}\" in {} has no parameter of this search space but {}; take another study name", name_,
                  db_.name(), fmt::join(others, ", "));
  }

  /// Ends running trials whose process is gone.
  void end_orphans() {
    std::vector<std::pair<int, Json>> orphans;
    const auto read = [&](const char* lock) {
      int id = 0;
      std::string json;
      soci::statement rows =
          (db_.sql().prepare << "SELECT t.trial_id, a.value_json FROM trials t JOIN trial_system_attributes a ON "
                                "a.trial_id = t.trial_id WHERE t.state = 'RUNNING' AND a.\"key\" = '"
                             << kProcess << "' AND t.study_id = " << study_id_ << " ORDER BY t.trial_id" << lock,
           soci::into(id), soci::into(json));
      for (rows.execute(); rows.fetch();)
        if (const Json process = Json::parse(json, nullptr, false); is_gone(process)) orphans.emplace_back(id, process);
    };
    db_.read([&] { read(""); });
    if (orphans.empty()) return;
    db_.write([&] {
      // Again: another coordinator may have been faster, or the server may still be busy with the last words of one.
      orphans.clear();
      read(db_.postgres() ? " FOR UPDATE OF t" : "");
      for (const auto& [id, process] : orphans) {
        write_user_attribute(db_, id, "haqa:reason", to_string(FailReason::interrupted));
        write_user_attribute(db_, id, "haqa:message",
                             fmt::format("its coordinator, process {} on {}, ended before it did",
                                         process["pid"].get<int64_t>(), process["host"].get<std::string>()));
        end_trial(id, TrialState::failed);
      }
    });
  }

  /// Numbers follow one another: whoever adds a trial holds the study, as Optuna does. SQLite lets one writer in
  /// anyway.
  void lock_study() {
    int id = 0;
    // By its name too: SQLite gives the numbers of what was deleted to others.
    db_.sql() << "SELECT study_id FROM studies WHERE study_id = " << study_id_ << " AND study_name = :name"
              << (db_.postgres() ? " FOR UPDATE" : ""),
        soci::use(name_), soci::into(id);
    if (!db_.sql().got_data()) throw Error("study \"{}\" is no longer in {}; somebody deleted it", name_, db_.name());
  }

  void begin_trial(int id, const Trial& trial) {
    write_parameters(db_, id, trial.configuration, distributions_);
    write_system_attribute(db_, id, kProcess, this_coordinator());
    write_extras(db_, trial, id);
  }

  int running_id(int number) {
    lock_study();
    int id = 0;
    db_.sql() << "SELECT trial_id FROM trials WHERE state = 'RUNNING' AND number = " << number
              << " AND study_id = " << study_id_ << (db_.postgres() ? " FOR UPDATE" : ""),
        soci::into(id);
    if (!db_.sql().got_data())
      throw Error("trial {} of study \"{}\" in {} does not run; another program has ended it", number, name_,
                  db_.name());
    return id;
  }

  void end_trial(int id, TrialState state) {
    const std::string name = optuna_state(state), now = database_now();
    db_.sql() << "UPDATE trials SET state = :state, datetime_complete = :now WHERE trial_id = " << id, soci::use(name),
        soci::use(now);
  }

  /// Optuna cannot read a complete trial otherwise.
  void check_values(const Trial& trial) const {
    if (trial.state != TrialState::complete) return;
    const size_t count = trial.more_values.size() + (trial.value ? 1 : 0);
    if (!trial.value || count != objectives_.size())
      throw Error("trial {} has {} values{}, study \"{}\" {}", trial.number, count,
                  trial.value ? "" : ", none for the first goal", name_, objectives_.size());
    std::vector<double> all = trial.more_values;
    all.push_back(*trial.value);
    for (const double v : all)
      if (std::isnan(v)) throw Error("a value of trial {} is no number, and Optuna keeps none such", trial.number);
  }

  Database db_;
  std::string name_;
  SearchSpace space_;
  std::vector<Direction> objectives_;
  std::map<std::string, Distribution> distributions_;  ///< by parameter
  int study_id_ = 0;
  std::optional<TrialReader> reader_;
};

}  // namespace

std::unique_ptr<DatabaseStorage> open_storage(const std::string& url, const std::string& study_name,
                                              const Track& track) {
  const auto begins = [](char c) { return (c & 0xc0) != 0x80; };  // a character of UTF-8
  const auto characters = std::count_if(study_name.begin(), study_name.end(), begins);
  if (study_name.empty() || characters > kLongestName)
    throw UsageError("a study's name has 1 to {} characters", kLongestName);
  return std::make_unique<OptunaStorage>(url, study_name, track);
}

StoredStudy read_study(const std::string& url, const std::string& study_name) {
  Database db(url, Database::Missing::refuse);
  StoredStudy study;
  const bool there = prepare_schema(db, Database::Missing::refuse);
  db.read([&] {
    const auto id = there ? find_study(db, study_name) : std::nullopt;
    if (!id) throw Error("there is no study \"{}\" in {}", study_name, db.name());
    study.goals = read_goals(db, *id);
    study.trials = TrialReader(db, *id, nullptr).trials();
  });
  return study;
}

bool has_trials(const std::string& url, const std::string& study_name) {
  int count = 0;
  try {
    Database db(url, Database::Missing::refuse);
    if (!prepare_schema(db, Database::Missing::refuse)) return false;
    db.read([&] {
      db.sql() << "SELECT count(*) FROM trials t JOIN studies s ON s.study_id = t.study_id WHERE t.state <> 'WAITING' "
                  "AND s.study_name = :name",
          soci::use(study_name), soci::into(count);
    });
  } catch (const NoDatabase&) {
  }
  return count > 0;
}

}  // namespace haqa
