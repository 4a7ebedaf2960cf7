// Against the real Optuna, the latest on PyPI, in both directions; optuna_peer.py is its side.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <array>
#include <cmath>
#include <regex>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/storage/storage_test_support.h"

namespace haqa {
namespace {

using testing::HasSubstr;

/// A Python with Optuna, kept in the cache folder. Empty with `why` where pip cannot fetch it.
std::string python(std::string& why) {
  const std::filesystem::path venv = cache_folder() / "optuna-test", done = venv / "complete";
  make_folder(venv.parent_path());
  const Descriptor lock(open((venv.string() + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  flock(lock.get(), LOCK_EX);  // tests run beside one another
  if (!std::filesystem::exists(done)) {
    for (const auto& argv : {std::vector<std::string>{"python3", "-m", "venv", venv},
                             std::vector<std::string>{venv / "bin" / "pip", "install", "-q", "--upgrade", "optuna",
                                                      "psycopg2-binary", "optuna-dashboard"}})
      if (const ProcessResult made = run_process({argv}); !made.ok()) {
        why = "no Optuna from PyPI: " + made.describe();
        return "";
      }
    write_file(done, "");
  }
  return venv / "bin" / "python";
}

class WithOptuna : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!database_.skipped.empty()) GTEST_SKIP() << database_.skipped;
    std::string why;
    python_ = python(why);
    if (python_.empty()) GTEST_SKIP() << why;
  }
  Json optuna(const char* command, const std::string& study = "study") {
    const std::string script = HAQA_SOURCE_DIR "/haqa/storage/optuna_peer.py";
    const ProcessResult run = run_process({{python_, "-W", "ignore", script, command, database_.url, study}});
    if (!run.ok()) throw Error("optuna_peer.py {}: {}\n{}", command, run.describe(), run.errors);
    return Json::parse(run.output);
  }
  std::unique_ptr<DatabaseStorage> open(const Track& track) { return open_storage(database_.url, "study", track); }

  TestDatabase database_{GetParam()};
  std::string python_;
};

double number(const Json& repr) {
  return std::stod(repr.get<std::string>());
}

void expect_number(double ours, const Json& theirs) {
  if (std::isnan(number(theirs))) {
    EXPECT_TRUE(std::isnan(ours));
  } else {
    EXPECT_EQ(ours, number(theirs));
  }
}

/// That we see of a trial what Optuna sees. Parameters it never asked for are at their default with us.
void expect_same(const Trial& ours, const Json& theirs, const SearchSpace& space) {
  SCOPED_TRACE(theirs.dump() + "\n" + to_json(ours).dump());
  const std::string state = theirs["state"];
  EXPECT_EQ(ours.number, theirs["number"]);
  Json wanted = space.defaults();
  for (const Parameter& p : space.parameters())
    if (theirs["params"].contains(p.name)) wanted[p.name] = theirs["params"][p.name];
  for (const auto& [name, value] : ours.configuration.items()) EXPECT_EQ(value.dump(), wanted[name].dump()) << name;

  ASSERT_EQ(ours.intermediate.size(), theirs["intermediate"].size());
  for (size_t i = 0; i < ours.intermediate.size(); ++i) {
    EXPECT_EQ(ours.intermediate[i].step, theirs["intermediate"][i][0]);
    expect_number(ours.intermediate[i].value, theirs["intermediate"][i][1]);
  }
  const bool valued = state == "COMPLETE" || (state == "PRUNED" && !theirs["values"].is_null());
  EXPECT_EQ(ours.value.has_value(), valued);
  if (!valued) {
    EXPECT_EQ(to_string(ours.state), state == "RUNNING" || state == "WAITING" ? "running" : "failed");
    return;
  }
  EXPECT_EQ(to_string(ours.state), state == "COMPLETE" ? "complete" : "pruned");
  expect_number(*ours.value, theirs["values"][0]);
  ASSERT_EQ(ours.more_values.size() + 1, theirs["values"].size());
  for (size_t i = 0; i < ours.more_values.size(); ++i) expect_number(ours.more_values[i], theirs["values"][i + 1]);
}

void expect_same(const std::vector<Trial>& ours, const Json& theirs, const SearchSpace& space) {
  ASSERT_EQ(ours.size(), theirs["trials"].size());
  for (size_t i = 0; i < ours.size(); ++i) expect_same(ours[i], theirs["trials"][i], space);
}

/// One trial of each outcome, and more; the last still runs.
void write_trials(Storage& storage, const Track& track) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 8; ++i) {
    const Proposal p{i == 0 ? track.space.defaults() : track.space.sample(random), "expert", "because é", {}};
    Trial t = running_trial(storage.start(p), p);
    for (int step = 0; step < 3; ++step) {
      t.intermediate.push_back({step, i + 0.1 * step});
      storage.report(t.number, t.intermediate.back());
    }
    if (i == 7) return;
    t.metrics = {{"memory_bytes", 1000 + i}};
    t.evaluate_s = 0.5;
    t.state = i == 2 ? TrialState::failed : i == 4 ? TrialState::pruned : TrialState::complete;
    if (i == 2) {
      t.reason = FailReason::out_of_memory;
      t.message = "needs 9 GB";
    } else {
      t.value = i == 4 ? t.intermediate.back().value : 80 + i / 3.0;
    }
    storage.finish(t);
  }
}

TEST_P(WithOptuna, ReadsAndContinuesOurs) {
  const Track track = every_kind();
  const auto ours = open(track);
  write_trials(*ours, track);
  const Json read = optuna("read");
  EXPECT_EQ(read["directions"], Json({"MAXIMIZE"}));
  EXPECT_EQ(read["metric_names"], Json({"accuracy, %"}));
  EXPECT_EQ(read["best"], 6);
  expect_same(ours->trials(), read, track.space);
  const Json& first = read["trials"][0];
  EXPECT_EQ(first["params"].dump(), track.space.defaults().dump());
  EXPECT_EQ(first["distributions"]["learning_rate"], "FloatDistribution(high=0.1, log=True, low=1e-05, step=None)");
  EXPECT_EQ(first["distributions"]["dropout"], "FloatDistribution(high=0.5, log=False, low=0.0, step=0.1)");
  EXPECT_EQ(first["distributions"]["batch_size"], "IntDistribution(high=256, log=False, low=8, step=8)");
  EXPECT_EQ(first["distributions"]["bias"], "CategoricalDistribution(choices=(False, True))");
  EXPECT_EQ(first["user_attrs"]["haqa:thought"], "because é");
  EXPECT_EQ(first["user_attrs"]["haqa:metrics"], Json({{"memory_bytes", 1000}}));
  EXPECT_EQ(read["trials"][2]["user_attrs"]["haqa:reason"], "out_of_memory");
  EXPECT_EQ(read["trials"][2]["state"], "FAIL");
  EXPECT_EQ(read["trials"][4]["state"], "PRUNED");
  EXPECT_EQ(read["trials"][7]["state"], "RUNNING");
  EXPECT_GE(first["seconds"], 0);  // both of the same clock
  EXPECT_LT(first["seconds"], 60);

  const Json page = optuna("dashboard");  // what optuna-dashboard shows
  EXPECT_EQ(page["name"], "study");
  EXPECT_EQ(page["objective_names"], Json({"accuracy, %"}));
  EXPECT_EQ(page["trials"].size(), 8u);
  EXPECT_EQ(page["trials"][0]["values"], Json({80.0}));
  EXPECT_EQ(page["trials"][0]["state"], "Complete");
  EXPECT_EQ(page["trials"][0]["intermediate_values"].size(), 3u);
  EXPECT_EQ(page["best_trials"][0]["number"], 6);

  const Json more = optuna("goes-on");  // by its TPE
  EXPECT_EQ(more["trials"].size(), 23u);
  expect_same(ours->trials(), more, track.space);  // what it wrote while this storage was open
  EXPECT_EQ(ours->trials()[0].proposed_by, "expert");
  EXPECT_EQ(ours->trials()[10].proposed_by, "optuna");
  expect_same(open(track)->trials(), more, track.space);
  write_trials(*ours, track);
  expect_same(ours->trials(), optuna("goes-on"), track.space);
  EXPECT_GT(optuna("analyze")["importances"].size(), 5u);
}

TEST_P(WithOptuna, OursReadsAndContinuesItsStudy) {
  const Json written = optuna("write");
  const Track track = every_kind();
  const auto ours = open(track);
  std::vector<Trial> trials = ours->trials();
  ASSERT_EQ(trials.size(), 12u);
  EXPECT_EQ(trials[11].proposed_by, "enqueued");
  EXPECT_EQ(trials[11].configuration["batch_size"], 16);
  Json known = written;
  known["trials"].erase(11);
  trials.pop_back();
  expect_same(trials, known, track.space);
  EXPECT_EQ(trials[3].value, std::numeric_limits<double>::infinity());
  EXPECT_EQ(trials[0].metrics, Json({{"memory_bytes", 0}}));
  EXPECT_EQ(trials[2].reason, FailReason::crashed);
  EXPECT_EQ(trials[2].message, "it failed under Optuna");
  EXPECT_EQ(trials[6].state, TrialState::failed);  // pruned, but it reported nothing
  for (const Trial& t : trials) EXPECT_EQ(track.space.hash(t.configuration).size(), 16u);  // what samplers do with it

  const std::vector<Trial> raw = read_study(database_.url, "study").trials;
  for (size_t i = 0; i < trials.size(); ++i)
    EXPECT_EQ(raw[i].configuration.dump(), written["trials"][i]["params"].dump());
  EXPECT_EQ(raw[11].configuration.dump(), R"({"momentum":0.25,"batch_size":16,"optimizer":"sgd"})");

  write_trials(*ours, track);
  optuna("goes-on");
  const std::vector<Trial> all = ours->trials();
  const Json read = optuna("read");
  ASSERT_EQ(all.size(), read["trials"].size());
  for (size_t i = 12; i < all.size(); ++i) expect_same(all[i], read["trials"][i], track.space);
  EXPECT_EQ(read_study(database_.url, "study").trials.size(), all.size());
}

TEST_P(WithOptuna, EnqueuedTrialsWaitUntilTheyAreClaimed) {
  optuna("enqueue");
  const Track track = every_kind();
  const auto ours = open(track);
  const Proposal p{track.space.defaults(), "expert", "", {}};
  EXPECT_EQ(ours->start(p), 2);
  EXPECT_EQ(optuna("read")["trials"][0]["state"], "WAITING");
  const std::vector<Trial> before = ours->trials();
  EXPECT_EQ(before[0].state, TrialState::running);
  EXPECT_EQ(before[0].proposed_by, "enqueued");

  std::optional<Trial> claimed = ours->claim_waiting();
  ASSERT_TRUE(claimed);
  EXPECT_EQ(claimed->number, 0);
  Configuration wanted = track.space.defaults();
  wanted.update({{"momentum", 0.25}, {"batch_size", 16}, {"optimizer", "sgd"}});
  wanted["nesterov"] = true;
  EXPECT_EQ(claimed->configuration, wanted);
  claimed->state = TrialState::complete;
  claimed->value = 5;
  ours->finish(*claimed);
  claimed = open(track)->claim_waiting();  // another coordinator takes the next
  ASSERT_TRUE(claimed);
  EXPECT_EQ(claimed->number, 1);
  EXPECT_EQ(claimed->configuration["learning_rate"], 0.1);  // brought into the space
  EXPECT_FALSE(ours->claim_waiting());

  const Json read = optuna("read");
  expect_same(ours->trials(), read, track.space);
  EXPECT_EQ(read["trials"][0]["state"], "COMPLETE");
  EXPECT_EQ(read["trials"][0]["params"].size(), track.space.defaults().size() + 1);
  EXPECT_EQ(read["trials"][1]["state"], "RUNNING");
}

TEST_P(WithOptuna, SeveralGoalsBothWays) {
  Track track;
  track.direction = Direction::minimize;
  track.value_name = "loss";
  track.more_goals = {{"distance, m", Direction::maximize}};
  track.space = SearchSpace({real_parameter("x", 0, 5, 1, ""), integer_parameter("n", 0, 3, 1, "")});
  const auto ours = open(track);
  for (const auto& [value, more] : {std::pair{-3.0, -5.0}, {-4.0, -std::numeric_limits<double>::infinity()}}) {
    const Proposal p{track.space.defaults(), "expert", "", {}};
    Trial t = running_trial(ours->start(p), p);
    t.state = TrialState::complete;
    t.value = value;
    t.more_values = {more};
    ours->finish(t);
  }
  for (const TrialState state : {TrialState::pruned, TrialState::failed}) {
    const Proposal p{track.space.defaults(), "expert", "", {}};
    Trial t = running_trial(ours->start(p), p);
    t.state = state;
    t.intermediate = {{0, 1.5}};
    if (state == TrialState::pruned) t.value = 1.5;
    ours->finish(t);
  }
  const Json theirs = optuna("two");
  EXPECT_EQ(theirs["directions"], Json({"MINIMIZE", "MAXIMIZE"}));
  EXPECT_EQ(theirs["metric_names"], Json({"loss", "distance, m"}));
  EXPECT_EQ(theirs["trials"].size(), 16u);
  expect_same(ours->trials(), theirs, track.space);
  EXPECT_THAT(optuna("analyze")["front"], testing::Contains(1));

  const Json made = optuna("two", "other");
  expect_same(open_storage(database_.url, "other", track)->trials(), made, track.space);
}

TEST_P(WithOptuna, TheTablesAreItsOwn) {
  const bool postgres = GetParam() == std::string("postgres");
  const auto schema = [&](const std::string& url) {
    ProcessResult dump;
    if (postgres) {
      dump = run_process({{"pg_dump", "-s", "--no-comments", "postgresql" + url.substr(url.find("://"))}});
    } else {
      dump = run_process({{python_, "-c",
                           "import sqlite3, sys\nfor row in sqlite3.connect(sys.argv[1]).execute('SELECT "
                           "type, name, tbl_name, sql FROM sqlite_master'): print(row)",
                           url.substr(10)}});
    }
    EXPECT_TRUE(dump.ok()) << dump.describe();
    // pg_dump writes a random word into these.
    return std::regex_replace(dump.output, std::regex(R"(\\(un)?restrict \w+)"), "");
  };
  open(every_kind());
  const std::string ours = schema(database_.url);
  const TestDatabase empty(GetParam());
  database_.url = empty.url;
  optuna("schema");
  EXPECT_THAT(ours, HasSubstr("trial_heartbeats"));
  EXPECT_EQ(ours, schema(database_.url));
}

INSTANTIATE_TEST_SUITE_P(Every, WithOptuna, testing::Values("sqlite", "postgres"),
                         [](const auto& kind) { return std::string(kind.param); });

}  // namespace
}  // namespace haqa
