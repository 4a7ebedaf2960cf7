#include "haqa/study/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <valijson/adapters/nlohmann_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validator.hpp>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"

namespace haqa {
namespace {

using testing::HasSubstr;

/// What version 1.0.0 of the T4 results format demands. Source: results-schema.json of kernel_tuner 1.5.0.
constexpr const char* kSchema = R"({
  "type": "object",
  "properties": {
    "schema_version": {"type": "string", "pattern": "^[0-9]{1,}.[0-9]{1,}.[0-9]{1,}$"},
    "results": {"type": "array", "items": {
      "type": "object",
      "required": ["configuration", "times", "invalidity", "correctness"],
      "properties": {
        "timestamp": {"type": "string"},
        "configuration": {"type": "object"},
        "objectives": {"type": "array"},
        "times": {"type": "object", "properties": {
          "compilation_time": {"type": "number"}, "runtimes": {"type": "array"}, "framework": {"type": "number"},
          "search_algorithm": {"type": "number"}, "validation": {"type": "number"}}},
        "invalidity": {"enum": ["timeout", "compile", "runtime", "correctness", "constraints", "correct"]},
        "correctness": {"type": "number"},
        "measurements": {"type": "array", "items": {"type": "object", "properties": {
          "name": {"type": "string"}, "value": {"type": ["number", "string", "array"]}, "unit": {"type": "string"}}}}
      }}}
  }})";

bool matches_schema(const Json& value) {
  valijson::Schema schema;
  const nlohmann::json text = nlohmann::json::parse(kSchema), plain = value;
  valijson::SchemaParser().populateSchema(valijson::adapters::NlohmannJsonAdapter(text), schema);
  return valijson::Validator().validate(schema, valijson::adapters::NlohmannJsonAdapter(plain), nullptr);
}

Track track() {
  Track t;
  t.value_name = "latency";
  t.direction = Direction::minimize;
  t.space = SearchSpace({integer_parameter("x", 1, 8, 4, ""), boolean_parameter("b", false, "")});
  return t;
}

Trial trial(int x, std::optional<double> value, FailReason reason = FailReason::none) {
  Trial t;
  t.configuration = {{"x", x}, {"b", x % 2 == 0}};
  t.value = value;
  t.reason = reason;
  if (!value) {
    t.state = TrialState::failed;
    t.message = "why";
  }
  t.propose_s = 0.5;
  t.evaluate_s = 2;
  return t;
}

class SweepFile : public testing::Test {
 protected:
  Sweep read(const Json& json) {
    std::ofstream(folder_ / "sweep.json") << json.dump();
    return read_sweep(folder_ / "sweep.json");
  }
  std::string fault(const Json& json) {
    try {
      read(json);
    } catch (const Error& e) {
      return e.what();
    }
    return "none";
  }
  TemporaryFolder folder_;
};

TEST_F(SweepFile, IsWrittenInTheFormatAndReadAgain) {
  std::vector<Trial> trials = {trial(1, 7.5),
                               trial(2, std::nullopt, FailReason::timed_out),
                               trial(3, std::nullopt, FailReason::crashed),
                               trial(4, std::nullopt, FailReason::out_of_memory),
                               trial(5, std::nullopt, FailReason::wrong_result),
                               trial(6, std::nullopt, FailReason::quality_loss),
                               trial(7, std::nullopt, FailReason::does_not_compile)};
  trials[0].metrics = {
      {"GB/s", 3}, {"note", "no number"}, {"compile_s", 0.25}, {"check_s", 1}, {"runtimes_ms", {7, 8}}};
  std::vector<Trial> all = trials;
  all.push_back(trial(8, std::nullopt, FailReason::interrupted));
  all.push_back(trial(8, 1));
  all.back().state = TrialState::pruned;
  all.push_back(trial(8, std::nullopt));
  all.back().state = TrialState::running;
  all.push_back(trial(8, INFINITY));
  const Json written = to_t4(track(), all);
  EXPECT_TRUE(matches_schema(written));
  ASSERT_EQ(written["results"].size(), trials.size());
  EXPECT_EQ(written["results"][0].dump(),
            R"({"configuration":{"x":1,"b":false},"times":{"benchmark":2000.0,"search_algorithm":500.0,)"
            R"("compilation_time":250.0,"validation":1000.0,"runtimes":[7,8]},"invalidity":"correct","correctness":1,)"
            R"("measurements":[{"name":"latency","value":7.5,"unit":""},{"name":"GB/s","value":3,"unit":""}],)"
            R"("objectives":["latency"]})");
  const char* invalidities[] = {"correct", "timeout", "runtime", "runtime", "correctness", "correctness", "compile"};
  const Sweep sweep = read(written);
  EXPECT_EQ(sweep.value_name, "latency");
  EXPECT_EQ(sweep.direction, Direction::minimize);
  ASSERT_EQ(sweep.trials.size(), trials.size());
  for (size_t i = 0; i < trials.size(); ++i) {
    EXPECT_EQ(written["results"][i]["invalidity"], invalidities[i]);
    EXPECT_EQ(sweep.trials[i].configuration, trials[i].configuration);
    EXPECT_EQ(sweep.trials[i].value, trials[i].value);
    EXPECT_EQ(sweep.trials[i].state, trials[i].state);
    EXPECT_EQ(sweep.trials[i].reason, trials[i].reason) << i;
    EXPECT_EQ(sweep.trials[i].message, trials[i].message);
    EXPECT_EQ(sweep.trials[i].evaluate_s, 2);
  }
  EXPECT_EQ(sweep.trials[0].metrics["GB/s"], 3);
  EXPECT_EQ(sweep.trials[0].metrics["compile_s"], 0.25);
  EXPECT_EQ(to_t4(track(), sweep.trials), written) << "nothing is lost";
}

/// As get_t4_results() of kernel_tuner 1.5.0 writes them.
Json kernel_tuners(const char* invalidity, const Json& time, int x = 1) {
  return {{"timestamp", "2026-01-01 00:00:00+00:00"},
          {"configuration", {{"block_size_x", 32 * x}, {"unroll", "yes"}}},
          {"times", {{"compilation", 400.5}, {"benchmark", 20}, {"runtimes", {0.5, 0.6}}}},
          {"invalidity", invalidity},
          {"correctness", 1},
          {"measurements", {{{"name", "time"}, {"value", time}, {"unit", "ms"}}}},
          {"objectives", {"time"}}};
}

TEST_F(SweepFile, ReadsKernelTuners) {
  const Sweep sweep = read({{"results",
                             {kernel_tuners("compile", "CompilationFailedConfig", 3), kernel_tuners("correct", 0.5, 2),
                              kernel_tuners("runtime", "RuntimeFailedConfig", 1)}},
                            {"schema_version", "1.0.0"},
                            {"metadata", {{"timeunit", "milliseconds"}}}});
  EXPECT_EQ(sweep.direction, Direction::minimize) << "Kernel Tuner's default is a time";
  EXPECT_EQ(sweep.trials[0].reason, FailReason::does_not_compile);
  EXPECT_EQ(sweep.trials[0].message, "it was invalid in the sweep: compile");
  EXPECT_EQ(sweep.trials[1].value, 0.5);
  const SearchSpace space = space_of(sweep);
  EXPECT_EQ(space.describe(),
            "'block_size_x':  Type: Categorical, Choices: [32,64,96], Default: 64.\n"
            "'unroll':  Type: Categorical, Choices: [\"yes\"], Default: \"yes\".\n");
}

TEST_F(SweepFile, NamesWhatMakesNoSense) {
  const auto one = [](const Json& result) { return Json{{"results", {result}}}; };
  Json no_configuration = kernel_tuners("correct", 1), no_objectives = kernel_tuners("correct", 1);
  no_configuration.erase("configuration");
  no_objectives["objectives"] = {"GFLOP/s"};
  const std::pair<Json, const char*> cases[] = {
      {Json::array(), "is no T4 results file"},
      {Json::object(), "is no T4 results file"},
      {{{"results", Json::array()}}, "is no T4 results file"},
      {{{"results", 7}}, "is no T4 results file"},
      {{{"results", {7}}}, "result 1 is no object"},
      {one(no_configuration), "result 1 has no configuration"},
      {one(no_objectives), "result 1 is correct, but has no measurement \"GFLOP/s\""},
      {one(kernel_tuners("correct", "slow")), "result 1 is correct, but its time is no number"},
      {one(kernel_tuners("fine", 1)), "result 1 has \"fine\" as its invalidity"},
      {one({{"configuration", Json::object()}}), "result 1 has null as its invalidity"},
      {one({{"measurements", {{{"name", 3}, {"value", 1}}}}}), "result 1 "},
  };
  for (const auto& [json, text] : cases) EXPECT_THAT(fault(json), HasSubstr(text)) << json;
}

TEST(SweepObjective, GivesWhatTheSweepHas) {
  std::vector<Trial> trials = {trial(1, 5),
                               trial(1, 7),
                               trial(1, 6),
                               trial(2, std::nullopt, FailReason::timed_out),
                               trial(3, std::nullopt, FailReason::crashed),
                               trial(3, 4)};
  trials.push_back(trial(1, 1));
  trials.back().configuration["other"] = 1;
  SweepObjective objective(track().space, trials);
  EXPECT_EQ(objective.size(), 3u);
  EXPECT_EQ(objective.evaluate({{"x", 1}, {"b", false}}).value, 6) << "the median of three";
  EXPECT_EQ(objective.evaluate({{"x", 1.0}, {"b", false}}).value, 6);
  const Outcome failed = objective.evaluate({{"x", 2}, {"b", true}});
  EXPECT_EQ(failed.value, std::nullopt);
  EXPECT_EQ(failed.reason, FailReason::timed_out);
  const Outcome mixed = objective.evaluate({{"x", 3}, {"b", false}});
  EXPECT_EQ(mixed.value, 4);
  EXPECT_EQ(mixed.reason, FailReason::none);
  const Outcome missing = objective.evaluate({{"x", 4}, {"b", true}});
  EXPECT_EQ(missing.value, std::nullopt);
  EXPECT_EQ(missing.reason, FailReason::crashed);
  EXPECT_THAT(missing.message, HasSubstr("holds no result of this configuration"));
}

}  // namespace
}  // namespace haqa
