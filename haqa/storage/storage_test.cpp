#include "haqa/storage/storage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <soci/soci.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <limits>

#include "haqa/base/error.h"
#include "haqa/base/error_test_support.h"
#include "haqa/storage/storage_test_support.h"

namespace haqa {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

Track simple(Direction direction = Direction::maximize) {
  Track t;
  t.direction = direction;
  t.value_name = "tokens/s";
  t.space = SearchSpace({integer_parameter("x", 0, 1000, 5, "")});
  return t;
}

Proposal propose(int x) {
  return {{{"x", x}}, "test", "because"};
}

Trial complete(Trial t, double value) {
  t.state = TrialState::complete;
  t.value = value;
  return t;
}

/// All of a trial as text, numbers in full.
std::string text(const Trial& t) {
  return to_json(t).dump();
}

/// The contract of study.h over every storage. Each kind can be opened again.
class StorageContract : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!database_.skipped.empty()) GTEST_SKIP() << database_.skipped;
  }
  std::unique_ptr<Storage> open(const Track& track) {
    if (GetParam() == std::string("memory")) return std::make_unique<MemoryStorage>();
    return open_storage(database_.url, "study", track);
  }
  /// What another process sees; a memory's own trials, which no other can see.
  std::vector<Trial> seen(Storage& storage, const Track& track) {
    return GetParam() == std::string("memory") ? storage.trials() : open(track)->trials();
  }
  TestDatabase database_{GetParam()};
};

TEST_P(StorageContract, BeginsEmptyAndNumbersTrials) {
  const auto storage = open(simple());
  EXPECT_TRUE(storage->trials().empty());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(storage->start(propose(10 * i)), i);
  const std::vector<Trial> trials = storage->trials();
  ASSERT_EQ(trials.size(), 5u);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(text(trials[i]), text(running_trial(i, propose(10 * i))));
}

TEST_P(StorageContract, KeepsAllOfATrial) {
  const Track track = every_kind();
  const auto storage = open(track);
  std::vector<Trial> wanted;
  std::mt19937_64 random(7);
  for (int i = 0; i < 40; ++i) {
    const Proposal p{
        i == 0 ? track.space.defaults() : track.space.sample(random), "größer \"x\"", "a\nb \t é \u0001", {}};
    Trial t = running_trial(storage->start(p), p);
    t.propose_s = 0.1 * i;
    t.evaluate_s = 1.0 / 3 * i;
    t.metrics = {{"memory_bytes", 123456789012345}, {"list", {1, 2.5, nullptr, "é"}}};
    for (int step = 0; step < i % 4; ++step) {
      t.intermediate.push_back({3 * step, 1.0 / (step + 3)});
      storage->report(t.number, t.intermediate.back());
    }
    if (i % 4 == 1) {
      t.state = TrialState::failed;
      t.reason = static_cast<FailReason>(i % 7);
      t.message = "CUDA out of memory: 'x'; DROP TABLE trials --";
    } else {
      t.state = i % 4 == 2 ? TrialState::pruned : TrialState::complete;
      t.value = t.state == TrialState::pruned ? t.intermediate.back().value : std::sqrt(i) / 3 * std::pow(10, i - 20);
    }
    storage->finish(t);
    wanted.push_back(t);
  }
  const std::vector<Trial> again = seen(*storage, track);
  for (const auto& got : {storage->trials(), again}) {
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_EQ(text(got[i]), text(wanted[i]));
  }
}

TEST_P(StorageContract, KeepsTexts) {
  Track track = simple();
  track.space = SearchSpace({integer_parameter("x", 0, 1000, 5, ""), text_parameter("code", 30000, "")});
  auto storage = open(track);
  const std::string texts[] = {"", "a\n\t\"é\" '; DROP TABLE trials --", std::string(30000, '{'), ""};
  for (const std::string& text : texts) {
    const Proposal p{{{"x", 1}, {"code", text}}, "test", "because", {}};
    storage->finish(complete(running_trial(storage->start(p), p), 1));
  }
  if (GetParam() != std::string("memory")) storage = open(track);  // what is there fits
  const std::vector<Trial> trials = storage->trials();
  ASSERT_EQ(trials.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(trials[i].configuration["code"], texts[i]);
    EXPECT_TRUE(trials[i].fits);
  }
}

TEST_P(StorageContract, ShowsWhatRunningTrialsReport) {
  const auto storage = open(simple());
  const int a = storage->start(propose(1)), b = storage->start(propose(2));
  storage->report(a, {0, 0.5});
  EXPECT_EQ(storage->trials()[a].intermediate.size(), 1u);
  storage->report(a, {1, 0.25});
  storage->report(b, {0, -1});
  const std::vector<Trial> trials = storage->trials();
  ASSERT_EQ(trials[a].intermediate.size(), 2u);
  EXPECT_EQ(trials[a].intermediate[1].step, 1);
  EXPECT_EQ(trials[a].intermediate[1].value, 0.25);
  EXPECT_EQ(trials[b].intermediate.size(), 1u);
  EXPECT_EQ(trials[a].state, TrialState::running);
}

TEST_P(StorageContract, FinishesInAnyOrder) {
  const auto storage = open(simple());
  for (int i = 0; i < 4; ++i) storage->start(propose(i));
  for (const int i : {2, 0, 3}) {
    storage->finish(complete(storage->trials()[i], 100 + i));
    EXPECT_EQ(storage->trials()[i].value, 100 + i);
  }
  EXPECT_EQ(storage->trials()[1].state, TrialState::running);
  EXPECT_EQ(storage->start(propose(9)), 4);
  storage->finish(complete(storage->trials()[1], 101));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(storage->trials()[i].value, 100 + i);
}

TEST_P(StorageContract, KeepsSeveralValuesAndInfinities) {
  Track track = simple();
  track.more_goals = {{"memory, GB", Direction::minimize}, {"loss", Direction::minimize}};
  const auto storage = open(track);
  Trial t = running_trial(storage->start(propose(1)), propose(1));
  t.more_values = {-kInfinity, 0.1 + 0.2};
  storage->finish(complete(t, kInfinity));
  const Trial got = seen(*storage, track).at(0);
  EXPECT_EQ(got.value, kInfinity);
  EXPECT_EQ(got.more_values, t.more_values);
}

INSTANTIATE_TEST_SUITE_P(Every, StorageContract, testing::Values("memory", "sqlite", "postgres"),
                         [](const auto& kind) { return std::string(kind.param); });

/// What databases have beyond that.
class DatabaseStorageTest : public StorageContract {
 protected:
  /// The database without us.
  soci::session raw() {
    if (GetParam() == std::string("sqlite")) return {"sqlite3", "db=" + database_.url.substr(10)};
    return {"postgresql", "postgresql" + database_.url.substr(database_.url.find("://"))};
  }
};

TEST_P(DatabaseStorageTest, SeesWhatOthersWrite) {
  const auto one = open(simple()), other = open(simple());
  for (int i = 0; i < 6; ++i) {
    Storage& writer = i % 2 ? *one : *other;
    EXPECT_EQ(writer.start(propose(i)), i);
    EXPECT_EQ(one->trials().size(), static_cast<size_t>(i) + 1);
    if (i >= 2) writer.finish(complete(one->trials()[i - 2], i));
    EXPECT_EQ(one->trials()[std::max(0, i - 2)].state, other->trials()[std::max(0, i - 2)].state);
  }
}

TEST_P(DatabaseStorageTest, KeepsStudiesApart) {
  const auto a = open_storage(database_.url, "a", simple());
  const auto b = open_storage(database_.url, "it's \"b\" é", simple(Direction::minimize));
  for (const int value : {3, 1, 2}) {
    for (const auto* s : {&a, &b}) {
      const int number = (*s)->start(propose(value));
      (*s)->finish(complete((*s)->trials()[number], value));
    }
    a->start(propose(50));
  }
  EXPECT_EQ(read_study(database_.url, "a").trials.size(), 6u);
  EXPECT_EQ(text(read_study(database_.url, "it's \"b\" é").trials[1]), text(b->trials()[1]));
  EXPECT_THAT(message_of([&] { read_study(database_.url, "none"); }), HasSubstr("there is no study \"none\""));
}

TEST_P(DatabaseStorageTest, KnowsAStudysGoals) {
  Track both = simple();
  both.more_goals = {{"memory", Direction::minimize}};
  open_storage(database_.url, "a", both);
  const auto goals = [&] {
    std::string all;
    for (const Goal& g : read_study(database_.url, "a").goals)
      all += fmt::format("{} {}, ", to_string(g.direction), g.value_name);
    return all;
  };
  EXPECT_EQ(goals(), "maximize tokens/s, minimize memory, ");
  for (const std::string names : {"[\"only one\"]", "[7, null]", "rubbish", "{}"}) {
    raw() << "UPDATE study_system_attributes SET value_json = :names", soci::use(names);
    EXPECT_EQ(goals(), fmt::format("maximize {}, minimize value 2, ", names[2] == 'o' ? "only one" : "value")) << names;
  }
  raw() << "DELETE FROM study_system_attributes";
  EXPECT_EQ(goals(), "maximize value, minimize value 2, ");
}

// What it cannot read of one study says nothing of another.
TEST_P(DatabaseStorageTest, ADamagedStudyHarmsNoOther) {
  for (const char* name : {"good", "bad"}) {
    const auto storage = open_storage(database_.url, name, simple());
    EXPECT_FALSE(has_trials(database_.url, name));
    storage->start(propose(1));
    EXPECT_TRUE(has_trials(database_.url, name));
  }
  EXPECT_FALSE(has_trials(database_.url, "none"));
  EXPECT_FALSE(has_trials("sqlite:////nowhere/none.db", "good"));
  raw() << "UPDATE trials SET number = 7 WHERE study_id = (SELECT study_id FROM studies WHERE study_name = 'bad')";
  EXPECT_EQ(read_study(database_.url, "good").trials.size(), 1u);
  EXPECT_THAT(message_of([&] { read_study(database_.url, "bad"); }), HasSubstr("is damaged"));
}

TEST_P(DatabaseStorageTest, ATrialThatIsAbandonedRunsNoMore) {
  const auto storage = open(simple());
  Trial t = running_trial(storage->start(propose(1)), propose(1));
  t.state = TrialState::failed;
  t.reason = FailReason::interrupted;
  t.message = "as at Ctrl-C";
  storage->abandon(t);
  std::string state;
  raw() << "SELECT state FROM trials", soci::into(state);
  EXPECT_EQ(state, "FAIL");
  EXPECT_EQ(text(open(simple())->trials().at(0)), text(t));
}

TEST_P(DatabaseStorageTest, RefusesWhatContradictsTheTrack) {
  open(every_kind())->start({every_kind().space.defaults(), "", "", {}});
  Track track = every_kind();
  track.direction = Direction::minimize;
  EXPECT_THAT(message_of([&] { open(track); }), HasSubstr("has the directions maximize, this one minimize"));
  track = every_kind();
  track.value_name = "another value";
  EXPECT_THAT(message_of([&] { open(track); }), HasSubstr("this one [\"another value\"]; take another name"));
  track = every_kind();
  track.more_goals = {{"memory", Direction::minimize}};
  EXPECT_THAT(message_of([&] { open(track); }), HasSubstr("this one maximize, minimize"));
  const std::pair<Parameter, const char*> cases[] = {
      {integer_parameter("momentum", 0, 1, 0, ""), "\"momentum\" of study \"study\""},
      {integer_parameter("momentum", 0, 1, 0, ""), "is a real number there and a whole number here"},
      {real_parameter("momentum", 0.1, 1, 0.2, "", true), "has a linear scale there and a logarithmic one here"},
      {categorical_parameter("optimizer", {"sgd", "lion"}, "sgd", ""), "[\"sgd\",\"lion\"] here"},
      {boolean_parameter("optimizer", true, ""), "[false,true] here"},
  };
  for (const auto& [parameter, why] : cases) {
    track.more_goals.clear();
    track.space = SearchSpace({parameter});
    EXPECT_THAT(message_of([&] { open(track); }), HasSubstr(why));
  }
  // Other ranges, other parameters and another order of choices are no contradiction.
  track.space = SearchSpace({real_parameter("momentum", 0.95, 0.99, 0.96, ""), integer_parameter("new", 1, 3, 2, ""),
                             categorical_parameter("optimizer", {"größer", "adamw", "sgd"}, "sgd", "")});
  EXPECT_EQ(open(track)->trials().at(0).configuration.dump(), R"({"momentum":0.9,"new":2,"optimizer":"adamw"})");
  // Optuna holds the order against a study: new trials keep the one that is there.
  open(track)->start({track.space.defaults(), "", "", {}});
  int orders = 0;
  raw() << "SELECT count(DISTINCT distribution_json) FROM trial_params WHERE param_name = 'optimizer'",
      soci::into(orders);
  EXPECT_EQ(orders, 1);
  EXPECT_EQ(open(track)->trials().at(1).configuration["optimizer"], "sgd");
}

TEST_P(DatabaseStorageTest, RefusesAnotherVersion) {
  open(simple());
  soci::session sql = raw();
  sql << "UPDATE alembic_version SET version_num = 'v9.9.9.a'";
  for (const auto& use :
       std::vector<std::function<void()>>{[&] { open(simple()); }, [&] { read_study(database_.url, "study"); }})
    EXPECT_THAT(message_of(use), AllOf(HasSubstr("has version v9.9.9.a of Optuna's tables, and HAQA knows v3.2.0.a"),
                                       Not(HasSubstr("secret"))));
  sql << "UPDATE version_info SET schema_version = 11";
  EXPECT_THAT(message_of([&] { open(simple()); }), HasSubstr("has version 11 of Optuna's tables, and HAQA knows 12"));
}

TEST_P(DatabaseStorageTest, MissesAStudyThatSomebodyDeleted) {
  const auto storage = open(simple());
  raw() << "DELETE FROM study_system_attributes";
  raw() << "DELETE FROM study_directions";
  raw() << "DELETE FROM studies";
  open_storage(database_.url, "another", simple());  // gets its number in SQLite
  EXPECT_THAT(message_of([&] { storage->start(propose(1)); }), HasSubstr("study \"study\" is no longer in"));
  EXPECT_TRUE(read_study(database_.url, "another").trials.empty());
}

// In SQLite another study may get its number, and run a trial of the same number.
TEST_P(DatabaseStorageTest, WritesNothingIntoAnothersStudy) {
  const auto storage = open(simple());
  storage->start(propose(1));
  const Trial trial = storage->trials()[0];
  for (const char* table : {"trial_user_attributes", "trial_system_attributes", "trial_params", "trials",
                            "study_system_attributes", "study_directions", "studies"})
    raw() << "DELETE FROM " << table;
  const auto another = open_storage(database_.url, "another", simple());
  another->start(propose(2));
  const std::string before = text(another->trials()[0]);
  for (const auto& use : std::vector<std::function<void()>>{[&] { storage->finish(complete(trial, 3)); },
                                                            [&] {
                                                              storage->report(0, {1, 2});
                                                            }})
    EXPECT_THAT(message_of(use), HasSubstr("study \"study\" is no longer in"));
  EXPECT_EQ(text(another->trials()[0]), before);
}

// As Optuna keeps it: its dashboard would show our trials hours away from its own.
TEST_P(DatabaseStorageTest, KeepsLocalTime) {
  const char* zone = std::getenv("TZ");
  const std::optional<std::string> before = zone ? std::optional<std::string>(zone) : std::nullopt;
  const auto storage = open(simple());
  for (const char* there : {"XST-9", "YST5:30"}) {
    setenv("TZ", there, 1);
    tzset();
    const int number = storage->start(propose(1));
    std::string stored;
    raw() << "SELECT CAST(datetime_start AS VARCHAR(40)) FROM trials WHERE number = " << number, soci::into(stored);
    std::tm time{};
    ASSERT_NE(strptime(stored.c_str(), "%Y-%m-%d %H:%M:%S", &time), nullptr) << stored;
    time.tm_isdst = 0;
    EXPECT_NEAR(static_cast<double>(std::mktime(&time)), static_cast<double>(std::time(nullptr)), 60) << stored;
  }
  before ? setenv("TZ", before->c_str(), 1) : unsetenv("TZ");
  tzset();
}

TEST(Storage, CompletesTablesThatWereLeftHalfMade) {
  const TemporaryFolder folder;
  const std::string file = (folder / "study.db").string();
  {
    soci::session sql("sqlite3", "db=" + file);
    sql << "CREATE TABLE studies (study_id INTEGER NOT NULL, study_name VARCHAR(512) NOT NULL, PRIMARY KEY (study_id))";
    sql << "CREATE TABLE mine (x INTEGER)";  // somebody's own, as Optuna leaves it
  }
  open_storage("sqlite:///" + file, "study", simple())->start(propose(1));
  EXPECT_EQ(open_storage("sqlite:///" + file + "?timeout=5", "study", simple())->trials().size(), 1u);
}

TEST_P(DatabaseStorageTest, RefusesWhatOptunaCouldNotRead) {
  const auto storage = open(simple());
  storage->start(propose(1));
  Trial t = storage->trials()[0];
  EXPECT_THAT(message_of([&] { storage->finish(complete(t, std::nan(""))); }), HasSubstr("is no number"));
  t.more_values = {1};
  EXPECT_THAT(message_of([&] { storage->finish(complete(t, 1)); }), HasSubstr("has 2 values, study \"study\" 1"));
  t.state = TrialState::complete;
  EXPECT_THAT(message_of([&] { storage->finish(t); }),
              HasSubstr("has 1 values, none for the first goal, study \"study\" 1"));
  t.more_values.clear();
  storage->finish(complete(t, 1));
  EXPECT_THAT(message_of([&] { storage->finish(complete(t, 2)); }), HasSubstr("another program has ended it"));
  EXPECT_THAT(message_of([&] { storage->report(0, {1, 2}); }), HasSubstr("another program has ended it"));
  EXPECT_EQ(storage->trials()[0].value, 1.0);
}

/// Proposes the next whole number; the value is it, after two reports.
struct CountingUp : Sampler, Objective {
  Proposal ask(const Track&, std::span<const Trial> trials, int) override {
    return propose(static_cast<int>(trials.size()));
  }
  Outcome evaluate(const Configuration& c, const Report& report) override {
    Outcome outcome;
    outcome.value = c["x"].get<double>();
    for (const int step : {0, 1}) report(step, *outcome.value + step);
    return outcome;
  }
};

TEST_P(DatabaseStorageTest, CarriesAStudyWithSeveralWorkersAndGoesOn) {
  const Track track = simple();
  for (const int rounds : {9, 14}) {
    const auto storage = open(track);
    CountingUp both;
    StudyOptions options;
    options.budget.rounds = rounds;
    options.workers = 3;
    EXPECT_EQ(run_study(std::array{StudyTrack{track, both, both, *storage}}, options), StopReason::rounds);
  }
  const std::vector<Trial> trials = open(track)->trials();
  ASSERT_EQ(trials.size(), 14u);
  for (int i = 0; i < 14; ++i) {
    EXPECT_EQ(trials[i].value, i == 0 ? 5 : i);  // the first runs the defaults
    EXPECT_EQ(trials[i].intermediate.size(), 2u);
    EXPECT_GT(trials[i].propose_s, 0);
  }
}

TEST_P(DatabaseStorageTest, IsQuickWith200Trials) {
  const Track track = every_kind();
  std::mt19937_64 random(1);
  const auto storage = open(track);
  for (int i = 0; i < 200; ++i) {
    const Proposal p{track.space.sample(random), "test", "because", {}};
    Trial t = running_trial(storage->start(p), p);
    t.metrics = {{"memory_bytes", i}};
    storage->finish(complete(t, i));
  }
  std::vector<double> opening, known;
  for (int i = 0; i < 9; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const auto again = open(track);
    EXPECT_EQ(again->trials().size(), 200u);
    const auto read = std::chrono::steady_clock::now();
    EXPECT_EQ(again->trials().size(), 200u);
    opening.push_back(std::chrono::duration<double, std::milli>(read - start).count());
    known.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - read).count());
  }
  std::sort(opening.begin(), opening.end());
  std::sort(known.begin(), known.end());
  RecordProperty("open_and_read_ms", std::to_string(opening[4]));
  std::printf("opening and reading 200 trials: %.1f ms; reading again: %.2f ms\n", opening[4], known[4]);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  if (GetParam() == std::string("sqlite")) {
    EXPECT_LT(opening[0], 50);
  }
#endif
}

INSTANTIATE_TEST_SUITE_P(Every, DatabaseStorageTest, testing::Values("sqlite", "postgres"),
                         [](const auto& kind) { return std::string(kind.param); });

TEST(Storage, GoesOnAfterTheServerWasRestarted) {
  std::string why;
  PostgresServer* server = PostgresServer::get(why);
  if (!server) GTEST_SKIP() << why;
  const auto storage = open_storage(server->new_database(), "study", simple());
  storage->start(propose(1));
  server->restart();
  EXPECT_EQ(storage->start(propose(2)), 1);
  EXPECT_EQ(storage->trials().size(), 2u);
}

// As people write it; the host comes from the environment, as the server listens on no port.
TEST(Storage, TakesAPostgresUrlWithoutAQuery) {
  TestDatabase database("postgres");
  if (!database.skipped.empty()) GTEST_SKIP() << database.skipped;
  const size_t query = database.url.find("?host=");
  const std::string plain = database.url.substr(0, query);
  ASSERT_EQ(setenv("PGHOST", database.url.substr(query + 6).c_str(), 1), 0);
  const auto storage = open_storage(plain, "study", simple());
  EXPECT_EQ(storage->start(propose(1)), 0);
  EXPECT_EQ(read_study(database.url, "study").trials.size(), 1u);
  unsetenv("PGHOST");
}

TEST(Storage, SaysWhatIsWrongWithAUrl) {
  const TemporaryFolder folder;
  const std::string here = folder.path().string();
  std::ofstream(folder / "text.db") << std::string(5000, 'x');
  std::filesystem::create_directory(folder / "folder.db");
  struct Case {
    std::string url, says;
  };
  const Case cases[] = {
      {"study.db", "study.db is no storage's URL; use sqlite:///file.db"},
      {"", "is no storage's URL"},
      {"sqlite://study.db", "is no storage's URL"},
      {"mysql://me:secret@host/db", "mysql://me:***@host/db is no storage's URL"},
      {"sqlite:///" + here + "/none/study.db", "check that its folder exists"},
      {"sqlite:///" + here + "/text.db", "it is no SQLite file"},
      {"sqlite:///" + here + "/folder.db", "unable to open"},
      {"postgresql://me:secret@127.0.0.1:1/db", "check that the server runs"},
      {"postgresql+psycopg2://me:secret@127.0.0.1:1/db", "postgresql+psycopg2://me:***@127.0.0.1:1/db failed"},
      {"postgresql://me@127.0.0.1:1/db?password=secret", "password=***"},
      {"postgresql://me:secret@127.0.0.1:rubbish/db", "me:***@"},
      {"postgresql://me:p@127.0.0.1:1/db", "postgresql://me:***@127.0.0.1:1/db failed"},
      {"postgresql://me:se@cret@127.0.0.1:1/db", "write them as %40"},
      {"postgresql://me:se/cret@127.0.0.1:1/db", "write them as %40"},
  };
  for (const Case& c : cases) {
    const std::string said = message_of([&] { open_storage(c.url, "study", simple()); });
    EXPECT_THAT(said, AllOf(HasSubstr(c.says), Not(HasSubstr("secret")), Not(HasSubstr("cret@")))) << c.url;
  }
  EXPECT_THROW(open_storage("study.db", "study", simple()), UsageError);
  EXPECT_THROW(open_storage("sqlite:///" + here + "/a.db", "", simple()), UsageError);
  EXPECT_THAT(message_of([&] { read_study("sqlite:///" + here + "/none.db", "study"); }),
              HasSubstr("there is no database"));
  EXPECT_FALSE(std::filesystem::exists(folder / "none.db"));
}

TEST(Storage, TakesFileNamesWithBlanks) {
  const TemporaryFolder folder;
  open_storage("sqlite:///" + (folder / "my 2nd  study=é.db").string(), "study", simple());
  EXPECT_TRUE(std::filesystem::exists(folder / "my 2nd  study=é.db"));
}

}  // namespace
}  // namespace haqa
