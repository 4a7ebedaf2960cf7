#include "haqa/sampler/human.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/sampler/registry.h"

namespace haqa {
namespace {

using testing::HasSubstr;

class Human : public testing::Test {
 protected:
  std::filesystem::path written(const std::string& text) {
    write_file(folder_ / "list.yaml", text);
    return folder_ / "list.yaml";
  }
  /// What is wrong with a list; empty where nothing is.
  std::string fault(const std::string& text) {
    try {
      HumanSampler(written(text)).check(track_.space);
    } catch (const UsageError& e) {
      return e.what();
    }
    return "";
  }
  static Track track() {
    Track t;
    Parameter momentum = real_parameter("momentum", 0, 1, 0.9, "");
    momentum.when = Expression("optimizer == 'sgd'");
    t.space = SearchSpace({categorical_parameter("optimizer", {"sgd", "adam"}, "sgd", ""), momentum,
                           real_parameter("rate", 1e-5, 1, 1e-3, "", true), integer_parameter("epochs", 1, 9, 3, "")},
                          {Expression("rate * epochs <= 1")});
    return t;
  }

  TemporaryFolder folder_;
  Track track_ = track();
};

Trial trial(int number, const Configuration& configuration, std::optional<double> value) {
  Trial t;
  t.number = number;
  t.configuration = configuration;
  t.value = value;
  t.state = value ? TrialState::complete : TrialState::failed;
  return t;
}

TEST_F(Human, ReplaysTheListInOrderAndKeepsItsBestAfterwards) {
  const auto sampler = make_sampler("human:" + written("- {optimizer: adam, rate: 1e-2, epochs: 5.0}\n"
                                                       "- {optimizer: sgd, momentum: 0.9, rate: 1e-3, epochs: 3}\n"
                                                       "- {optimizer: sgd, momentum: 0.5, rate: 0.1, epochs: 9}\n")
                                                   .string(),
                                    1);
  std::vector<Trial> trials = {trial(0, track_.space.defaults(), 0.5)};
  const Configuration first = {{"optimizer", "adam"}, {"rate", 1e-2}, {"epochs", 5}};
  const Configuration third = {{"optimizer", "sgd"}, {"momentum", 0.5}, {"rate", 0.1}, {"epochs", 9}};
  Proposal p = sampler->ask(track_, trials, 9);
  EXPECT_EQ(p.configuration.dump(), first.dump()) << "5.0 is 5";
  EXPECT_EQ(p.proposed_by, "human");
  EXPECT_THAT(p.thought, HasSubstr("Entry 1 of 3 in list.yaml"));
  trials.push_back(trial(1, p.configuration, 0.8));
  p = sampler->ask(track_, trials, 8);
  EXPECT_EQ(p.configuration, third) << "the second are the defaults, which the first round ran";
  trials.push_back(trial(2, p.configuration, std::nullopt));
  for (int round = 3; round < 6; ++round) {
    p = sampler->ask(track_, trials, 1);
    EXPECT_EQ(p.configuration, first);
    EXPECT_THAT(p.thought, HasSubstr("from round 2"));
    trials.push_back(trial(round, p.configuration, 0.8));
  }
}

TEST_F(Human, RepeatsTheFirstWhereNothingRan) {
  HumanSampler sampler(written("[{\"optimizer\": \"adam\", \"rate\": 0.01, \"epochs\": 5}]"));
  const Configuration only = {{"optimizer", "adam"}, {"rate", 0.01}, {"epochs", 5}};
  EXPECT_EQ(sampler.ask(track_, {}, 3).configuration, only);
  EXPECT_EQ(sampler.ask(track_, std::vector{trial(0, only, std::nullopt)}, 2).configuration, only);
}

// A study may go on with narrower ranges: its best is not what can be run again then.
TEST_F(Human, RepeatsOnlyWhatIsValidToday) {
  HumanSampler sampler(written("- {optimizer: adam, rate: 0.01, epochs: 5}\n"));
  const Configuration only = {{"optimizer", "adam"}, {"rate", 0.01}, {"epochs", 5}};
  const std::vector<Trial> trials = {trial(0, {{"optimizer", "adam"}, {"rate", 0.01}, {"epochs", 20}}, 0.9),
                                     trial(1, only, 0.5)};
  const Proposal p = sampler.ask(track_, trials, 1);
  EXPECT_EQ(p.configuration, only);
  EXPECT_THAT(p.thought, HasSubstr("from round 2"));
  EXPECT_EQ(sampler.ask(track_, std::vector{trials[0], trial(1, only, std::nullopt)}, 1).configuration, only);
}

TEST_F(Human, NamesFileAndEntryOfWhatIsWrong) {
  const std::string good = "- {optimizer: adam, rate: 0.01, epochs: 5}\n";
  EXPECT_EQ(fault(good), "");
  const struct {
    std::string text, message;
  } cases[] = {
      {good + "- {optimizer: adam, rate: 2, epochs: 5}\n", "list.yaml: entry 2: \"rate\" is 2; it must be a number"},
      {good + good + "- {optimizer: adam, epochs: 5}\n", "list.yaml: entry 3: \"rate\" is missing"},
      {"- {optimizer: sgd, rate: 0.01, epochs: 5}\n", "entry 1: \"momentum\" is missing"},
      {"- {optimizer: adam, rate: 0.5, epochs: 5}\n", "entry 1: it must hold that rate * epochs <= 1"},
      {"- {optimizer: adam, rate: 0.01, epochs: 5, lr: 1}\n", "entry 1: \"lr\" is no parameter"},
      {"- 5\n", "entry 1: the configuration must be one JSON object"},
      {"optimizer: adam\n", "list.yaml: must be a list of configurations"},
      {"", "list.yaml: must be a list of configurations"},
      {"- {optimizer: adam, rate: 0.01, epochs: 5, rate: 0.1}\n", "list.yaml: line 1: the key rate stands there twice"},
      {"[]", "list.yaml: must be a list of configurations"},
      {"- {optimizer: adam", "list.yaml: '- {optimizer: adam' is not valid YAML"},
  };
  for (const auto& c : cases) EXPECT_THAT(fault(c.text), HasSubstr(c.message)) << c.text;
  HumanSampler wrong(written("- {optimizer: adam}\n"));
  EXPECT_THROW(wrong.ask(track_, {}, 1), UsageError);
  EXPECT_THROW(HumanSampler(folder_ / "missing.yaml"), Error);
}

}  // namespace
}  // namespace haqa
