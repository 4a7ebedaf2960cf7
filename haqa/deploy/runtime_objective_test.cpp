#include "haqa/deploy/runtime_objective.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"
#include "haqa/worker/worker.h"

namespace haqa {
namespace {

using testing::HasSubstr;

struct Fixture {
  SearchSpace space = runtime_space({2, 4, 4, false, {"Q4_0", "IQ4_NL"}});
  std::string refused, too_large;
  std::function<Measurement(const Setup&)> bench = [](const Setup& s) {
    Measurement m;
    m.tokens_per_s = s.options.threads == 4 ? 15 : 10;
    return m;
  };
  RuntimeObjective objective() {
    RuntimeObjective::Tools tools;
    tools.benchmark = [this](const Setup& s) { return bench(s); };
    tools.model = [](const std::string& type) { return std::filesystem::path(type + ".gguf"); };
    tools.quality = [this](const Setup&) { return Json{{"perplexity_ratio", 1.5}, {"refused", refused}}; };
    tools.too_large = [this](const Setup&) { return too_large; };
    return RuntimeObjective(tools, space.defaults(), 3);
  }
  Configuration with(const char* name, const Json& value) {
    Configuration c = space.defaults();
    c[name] = value;
    return c;
  }
};

TEST(RuntimeObjective, ValueIsTheSpeedUpOverTheDefaults) {
  Fixture f;
  auto objective = f.objective();
  EXPECT_EQ(objective.evaluate(f.space.defaults()).value, 1.0);
  const Outcome o = objective.evaluate(f.with("threads", 4));
  EXPECT_DOUBLE_EQ(o.value.value(), 1.5);
  EXPECT_EQ(o.metrics["tokens_per_s"], 15.0);
  EXPECT_EQ(o.metrics["default_tokens_per_s"], 10.0);
  EXPECT_EQ(o.metrics["pairs"], 3);
}

TEST(RuntimeObjective, DefaultsAreOneEvenInNoise) {
  Fixture f;
  int call = 0;
  f.bench = [&](const haqa::Setup&) {
    Measurement m;
    m.tokens_per_s = 10 + ++call;
    return m;
  };
  auto objective = f.objective();
  const Outcome o = objective.evaluate(f.space.defaults());
  EXPECT_EQ(o.value, 1.0);
  EXPECT_NE(o.metrics["speedup"], 1.0);
}

// A round must not be blamed for what happens to the defaults beside it.
TEST(RuntimeObjective, TheDefaultsFailureIsNoRounds) {
  int failures = 0;
  Fixture f;
  f.bench = [&](const haqa::Setup& s) -> Measurement {
    if (s.options.threads != 4 && failures-- > 0) throw WorkerError(ProcessEnd::timed_out, "hung");
    return {.tokens_per_s = s.options.threads == 4 ? 15.0 : 10.0};
  };
  auto objective = f.objective();
  failures = 1;
  EXPECT_DOUBLE_EQ(objective.evaluate(f.with("threads", 4)).value.value(), 1.5) << "once is tried again";
  for (const Configuration& c : {f.with("threads", 4), f.space.defaults()}) {
    failures = 2;
    try {
      objective.evaluate(c);
      ADD_FAILURE();
    } catch (const WorkerError&) {
      ADD_FAILURE() << "that would be the round's";
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("failed twice: hung"));
    }
  }
}

TEST(RuntimeObjective, FailuresAreOutcomes) {
  const std::pair<ProcessEnd, FailReason> cases[] = {{ProcessEnd::out_of_memory, FailReason::out_of_memory},
                                                     {ProcessEnd::timed_out, FailReason::timed_out},
                                                     {ProcessEnd::signalled, FailReason::crashed},
                                                     {ProcessEnd::exited, FailReason::crashed}};
  for (const auto& [end, reason] : cases) {
    Fixture f;
    f.bench = [end = end](const haqa::Setup& s) -> Measurement {
      if (s.options.threads == 4) throw WorkerError(end, "what happened");
      return {.tokens_per_s = 10};
    };
    auto objective = f.objective();
    const Outcome o = objective.evaluate(f.with("threads", 4));
    EXPECT_EQ(o.value, std::nullopt);
    EXPECT_EQ(o.reason, reason);
    EXPECT_EQ(o.message, "what happened");
  }
  Fixture f;
  f.refused = "it raises the perplexity";
  auto objective = f.objective();
  EXPECT_EQ(objective.evaluate(f.space.defaults()).reason, FailReason::quality_loss);
}

TEST(RuntimeObjective, RubbishIsAWrongResult) {
  Fixture f;
  f.bench = [](const haqa::Setup& s) -> Measurement {
    if (s.options.threads == 4) throw WrongResult("llama-bench wrote no result");
    return {.tokens_per_s = 10};
  };
  auto objective = f.objective();
  const Outcome o = objective.evaluate(f.with("threads", 4));
  EXPECT_EQ(o.value, std::nullopt);
  EXPECT_EQ(o.reason, FailReason::wrong_result);
}

TEST(RuntimeObjective, WhatDoesNotFitIsNotRun) {
  Fixture f;
  f.bench = [](const haqa::Setup&) -> Measurement {
    ADD_FAILURE();
    return {};
  };
  f.too_large = "it needs 5 GB";
  auto objective = f.objective();
  const Outcome o = objective.evaluate(f.with("ubatch", 512));
  EXPECT_EQ(o.value, std::nullopt);
  EXPECT_EQ(o.reason, FailReason::out_of_memory);
  EXPECT_EQ(o.message, "it needs 5 GB");
}

TEST(RuntimeObjective, WhatLosesQualityIsNotTimed) {
  Fixture f;
  f.refused = "it raises the perplexity by 50 %";
  f.bench = [](const haqa::Setup&) -> Measurement {
    ADD_FAILURE();
    return {};
  };
  auto objective = f.objective();
  const Outcome o = objective.evaluate(f.with("cache_type_k", "q4_0"));
  EXPECT_EQ(o.value, std::nullopt);
  EXPECT_EQ(o.message, f.refused);
  EXPECT_EQ(o.metrics["quality"]["perplexity_ratio"], 1.5);
}

TEST(RuntimeObjective, FilesAndQualityMayFailToo) {
  for (const bool at_model : {true, false}) {
    RuntimeObjective::Tools tools;
    tools.benchmark = [](const haqa::Setup&) { return Measurement{1, 1, 1, 1, 1}; };
    tools.model = [&](const std::string& type) -> std::filesystem::path {
      if (at_model && type == "IQ4_NL") throw WorkerError(ProcessEnd::out_of_memory, "too large");
      return type;
    };
    tools.quality = [&](const haqa::Setup&) -> Json { throw WorkerError(ProcessEnd::out_of_memory, "too large"); };
    Fixture f;
    RuntimeObjective objective(tools, f.with("threads", 4), 3);
    const Outcome o = objective.evaluate(f.with("gguf_type", "IQ4_NL"));
    EXPECT_EQ(o.reason, FailReason::out_of_memory);
    EXPECT_EQ(o.message, "too large");
  }
}

// A full disk or Ctrl-C is no property of a configuration.
TEST(RuntimeObjective, WhatEndsTheStudyIsThrown) {
  Fixture f;
  auto objective = f.objective();
  f.bench = [](const haqa::Setup&) -> Measurement { throw Error("no space"); };
  EXPECT_THROW(objective.evaluate(f.space.defaults()), Error);
  f.bench = [](const haqa::Setup&) -> Measurement { throw Interrupted("interrupted"); };
  EXPECT_THROW(objective.evaluate(f.space.defaults()), Interrupted);
}

TEST(RuntimeObjective, TimesTheTypeThatIsAskedForAgainstTheDefault) {
  Fixture f;
  std::vector<std::string> calls;
  f.bench = [&](const haqa::Setup& s) {
    calls.push_back(s.model.string());
    return Measurement{1, 1, 1, s.model == "Q4_0.gguf" ? 10.0 : 8.0, 1};
  };
  auto objective = f.objective();
  const Outcome o = objective.evaluate(f.with("gguf_type", "IQ4_NL"));
  EXPECT_DOUBLE_EQ(o.value.value(), 0.8);
  EXPECT_EQ(o.metrics["pairs"], 2) << "clearly slower";
  EXPECT_THAT(calls, testing::ElementsAre("Q4_0.gguf", "IQ4_NL.gguf", "IQ4_NL.gguf", "Q4_0.gguf"));
  EXPECT_DOUBLE_EQ(o.metrics["speedup_low"], 0.8);
}

}  // namespace
}  // namespace haqa
