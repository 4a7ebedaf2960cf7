#include "haqa/storage/trial_rows.h"

#include <fmt/chrono.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <set>

namespace haqa {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// A number as Optuna keeps it: what is not finite by its type alone.
struct StoredNumber {
  double value = 0;
  soci::indicator null = soci::i_null;
  std::string type = "FINITE";
};

StoredNumber stored(double value) {
  if (std::isnan(value)) return {0, soci::i_null, "NAN"};
  if (std::isinf(value)) return {0, soci::i_null, value > 0 ? "INF_POS" : "INF_NEG"};
  return {value, soci::i_ok, "FINITE"};
}

double number_of(const StoredNumber& s) {
  if (s.type == "INF_POS") return kInfinity;
  if (s.type == "INF_NEG") return -kInfinity;
  return s.type == "NAN" || s.null == soci::i_null ? std::nan("") : s.value;
}

/// null where the text is no JSON: Python writes NaN and Infinity, which are none.
Json lenient(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  return json.is_discarded() ? Json() : json;
}

void write_attribute(Database& db, const char* table, int trial_id, const std::string& key, const Json& value) {
  const std::string json = to_python_json(value);
  db.sql() << "INSERT INTO " << table << " (trial_id, \"key\", value_json) VALUES (" << trial_id
           << ", :key, :value) ON CONFLICT (trial_id, \"key\") DO UPDATE SET value_json = excluded.value_json",
      soci::use(key), soci::use(json);
}

}  // namespace

/// What the tables hold of one trial.
struct TrialReader::Draft {
  int number = 0;
  std::string state;
  Json parameters = Json::object();
  std::vector<double> values;
  std::vector<Intermediate> intermediate;
  Json extras = Json::object();    ///< the attributes that start with haqa:, without that
  Json enqueued = Json::object();  ///< the values that Optuna's enqueue_trial() fixed

  bool ended() const { return state != "RUNNING" && state != "WAITING"; }
};

/// The condition of what can have changed.
std::string TrialReader::news() const {
  const std::string open = open_ids_.empty() ? "" : fmt::format(" OR t.trial_id IN ({})", fmt::join(open_ids_, ","));
  return fmt::format("t.study_id = {} AND (t.trial_id > {}{})", study_id_, last_id_, open);
}

const std::vector<Trial>& TrialReader::trials() {
  std::map<int, Draft> drafts = read_news();
  if (drafts.empty()) return trials_;
  read_parameters(drafts);
  read_values(drafts);
  read_attributes(drafts);
  std::vector<int> open;
  for (auto& [id, draft] : drafts) {
    if (draft.number < 0 || draft.number > static_cast<int>(trials_.size()) ||
        (id > last_id_ && draft.number < static_cast<int>(trials_.size())))
      throw Error("trial {} of a study in {} has the wrong place; the database is damaged", draft.number, db_.name());
    if (draft.number == static_cast<int>(trials_.size())) trials_.emplace_back();
    trials_[static_cast<size_t>(draft.number)] = trial_of(draft);
    if (!draft.ended()) open.push_back(id);
    last_id_ = std::max(last_id_, id);
  }
  open_ids_ = std::move(open);
  return trials_;
}

/// The state comes first: of a trial that has ended here, all else was committed before it is read.
std::map<int, TrialReader::Draft> TrialReader::read_news() {
  std::map<int, Draft> drafts;
  int id = 0, number = 0;
  std::string state;
  soci::statement rows = (db_.sql().prepare << "SELECT t.trial_id, t.number, t.state FROM trials t WHERE " << news(),
                          soci::into(id), soci::into(number), soci::into(state));
  for (rows.execute(); rows.fetch();) {
    drafts[id].number = number;
    drafts[id].state = state;
  }
  return drafts;
}

void TrialReader::read_parameters(std::map<int, Draft>& drafts) {
  int id = 0;
  std::string name, distribution;
  double value = 0;
  soci::statement rows = (db_.sql().prepare << "SELECT p.trial_id, p.param_name, p.param_value, p.distribution_json "
                                               "FROM trial_params p JOIN trials t ON t.trial_id = p.trial_id WHERE "
                                            << news() << " ORDER BY p.param_id",
                          soci::into(id), soci::into(name), soci::into(value), soci::into(distribution));
  for (rows.execute(); rows.fetch();) {
    const auto draft = drafts.find(id);
    if (draft == drafts.end()) continue;  // came after the states were read
    auto known = distributions_.find(distribution);
    if (known == distributions_.end())
      known = distributions_.emplace(distribution, distribution_from_optuna(distribution)).first;
    draft->second.parameters[name] = from_stored(known->second, value);
  }
}

void TrialReader::read_values(std::map<int, Draft>& drafts) {
  int id = 0, at = 0;
  StoredNumber n;
  const auto read = [&](const std::string& columns, const std::string& table, const std::string& order) {
    return (db_.sql().prepare << "SELECT v.trial_id, " << columns << " FROM " << table
                              << " v JOIN trials t ON t.trial_id = v.trial_id WHERE " << news() << " ORDER BY "
                              << order,
            soci::into(id), soci::into(at), soci::into(n.value, n.null), soci::into(n.type));
  };
  soci::statement values = read("v.objective, v.value, v.value_type", "trial_values", "v.objective");
  for (values.execute(); values.fetch();)
    if (const auto draft = drafts.find(id); draft != drafts.end()) draft->second.values.push_back(number_of(n));
  soci::statement steps =
      read("v.step, v.intermediate_value, v.intermediate_value_type", "trial_intermediate_values", "v.step");
  for (steps.execute(); steps.fetch();)
    if (const auto draft = drafts.find(id); draft != drafts.end())
      draft->second.intermediate.push_back({at, number_of(n)});
}

void TrialReader::read_attributes(std::map<int, Draft>& drafts) {
  int id = 0;
  std::string key, json;
  const auto read = [&](const char* table, const char* which) {
    return (db_.sql().prepare << "SELECT a.trial_id, a.\"key\", a.value_json FROM " << table
                              << " a JOIN trials t ON t.trial_id = a.trial_id WHERE " << which << " AND " << news(),
            soci::into(id), soci::into(key), soci::into(json));
  };
  soci::statement extras = read("trial_user_attributes", "a.\"key\" LIKE 'haqa%'");
  for (extras.execute(); extras.fetch();)
    if (const auto draft = drafts.find(id); draft != drafts.end() && key.starts_with("haqa:"))
      draft->second.extras[key.substr(5)] = lenient(json);
  soci::statement enqueued = read("trial_system_attributes", "a.\"key\" = 'fixed_params'");
  for (enqueued.execute(); enqueued.fetch();)
    if (const auto draft = drafts.find(id); draft != drafts.end())
      if (Json fixed = lenient(json); fixed.is_object()) draft->second.enqueued = std::move(fixed);
}

/// In the space's order. Optuna keeps what a trial has asked for so far: the rest is what enqueue_trial() fixed, or the
/// default.
Configuration TrialReader::fitted(const Draft& draft) const {
  Configuration all = Json::object();
  if (!space_) {
    all = draft.enqueued;
    all.update(draft.parameters);
    return draft.ended() ? draft.parameters : all;
  }
  const Configuration rest = space_->clipped(draft.enqueued);
  for (const Parameter& p : space_->parameters()) {
    if (p.when && !p.when->holds(all)) continue;
    const auto own = draft.parameters.find(p.name);
    all[p.name] = own != draft.parameters.end() ? *own : rest.value(p.name, p.default_value);
  }
  return all;
}

Trial TrialReader::trial_of(Draft& draft) const {
  Trial t;
  t.number = draft.number;
  t.configuration = fitted(draft);
  t.fits = !space_ || !draft.ended() || !space_->problem(draft.parameters);
  t.intermediate = std::move(draft.intermediate);
  const Json& extras = draft.extras;
  const auto text = [&](const char* key, const char* otherwise) {
    return extras.contains(key) && extras[key].is_string() ? extras[key].get<std::string>() : otherwise;
  };
  const auto seconds = [&](const char* key) {
    return extras.contains(key) && extras[key].is_number() ? extras[key].get<double>() : 0;
  };
  t.proposed_by = text("proposed_by", draft.state == "WAITING" ? "enqueued" : "optuna");
  t.thought = text("thought", "");
  t.message = text("message", "");
  t.propose_s = seconds("propose_s");
  t.evaluate_s = seconds("evaluate_s");
  if (extras.contains("metrics") && extras["metrics"].is_object()) t.metrics = extras["metrics"];

  t.state = TrialState::running;
  if (!draft.ended()) return t;
  // A pruned trial's value is the last that it reported.
  if (draft.state == "PRUNED" && draft.values.empty() && !t.intermediate.empty())
    draft.values.push_back(t.intermediate.back().value);
  if (draft.state == "FAIL" || draft.values.empty()) {
    t.state = TrialState::failed;
    t.reason = fail_reason(text("reason", draft.state == "FAIL" ? "crashed" : "none")).value_or(FailReason::crashed);
    if (t.message.empty()) t.message = draft.state == "FAIL" ? "it failed under Optuna" : "it ended without a value";
    return t;
  }
  t.state = draft.state == "PRUNED" ? TrialState::pruned : TrialState::complete;
  t.value = draft.values.front();
  t.more_values.assign(draft.values.begin() + 1, draft.values.end());
  return t;
}

void write_parameters(Database& db, int trial_id, const Configuration& configuration,
                      const std::map<std::string, Distribution>& distributions) {
  for (const auto& [name, value] : configuration.items()) {
    const Distribution d = of_value(distributions.at(name), value);
    const std::string column = name, distribution = to_optuna(d);
    const double number = to_stored(d, value);
    db.sql() << "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES (" << trial_id
             << ", :name, :value, :distribution) ON CONFLICT (trial_id, param_name) DO NOTHING",
        soci::use(column), soci::use(number), soci::use(distribution);
  }
}

void write_value(Database& db, int trial_id, int objective, double value) {
  StoredNumber n = stored(value);
  db.sql() << "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (" << trial_id << ", "
           << objective << ", :value, :type) ON CONFLICT (trial_id, objective) DO UPDATE SET value = excluded.value, "
           << "value_type = excluded.value_type",
      soci::use(n.value, n.null), soci::use(n.type);
}

void write_intermediate(Database& db, int trial_id, const Intermediate& value) {
  StoredNumber n = stored(value.value);
  db.sql() << "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
           << "VALUES (" << trial_id << ", " << value.step << ", :value, :type) ON CONFLICT (trial_id, step) DO UPDATE "
           << "SET intermediate_value = excluded.intermediate_value, intermediate_value_type = "
           << "excluded.intermediate_value_type",
      soci::use(n.value, n.null), soci::use(n.type);
}

void write_missing_intermediate(Database& db, int trial_id, std::span<const Intermediate> values) {
  std::set<int> there;
  int step = 0;
  soci::statement rows =
      (db.sql().prepare << "SELECT step FROM trial_intermediate_values WHERE trial_id = " << trial_id,
       soci::into(step));
  for (rows.execute(); rows.fetch();) there.insert(step);
  for (const Intermediate& value : values)
    if (!there.contains(value.step)) write_intermediate(db, trial_id, value);
}

void write_user_attribute(Database& db, int trial_id, const std::string& key, const Json& value) {
  write_attribute(db, "trial_user_attributes", trial_id, key, value);
}

void write_system_attribute(Database& db, int trial_id, const std::string& key, const Json& value) {
  write_attribute(db, "trial_system_attributes", trial_id, key, value);
}

void write_extras(Database& db, const Trial& t, int trial_id) {
  const auto write = [&](const char* key, const Json& value) {
    write_user_attribute(db, trial_id, fmt::format("haqa:{}", key), value);
  };
  write("proposed_by", t.proposed_by);
  if (!t.thought.empty()) write("thought", t.thought);
  if (!t.metrics.empty()) write("metrics", t.metrics);
  if (t.propose_s > 0) write("propose_s", t.propose_s);
  if (t.evaluate_s > 0) write("evaluate_s", t.evaluate_s);
  if (t.state == TrialState::failed) write("reason", to_string(t.reason));
  if (!t.message.empty()) write("message", t.message);
}

std::string database_now() {
  const auto now = std::chrono::system_clock::now();
  const auto part = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count() % 1000000;
  return fmt::format("{:%Y-%m-%d %H:%M:%S}.{:06}", fmt::localtime(std::chrono::system_clock::to_time_t(now)), part);
}

std::string optuna_state(TrialState state) {
  switch (state) {
    case TrialState::complete:
      return "COMPLETE";
    case TrialState::pruned:
      return "PRUNED";
    case TrialState::failed:
      return "FAIL";
    case TrialState::running:
      break;
  }
  return "RUNNING";
}

}  // namespace haqa
