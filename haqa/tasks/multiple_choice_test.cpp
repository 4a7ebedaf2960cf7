#include "haqa/tasks/multiple_choice.h"

#include <gtest/gtest.h>

#include <cmath>

#include "haqa/base/error.h"

namespace haqa {
namespace {

const Json& golden() {
  static const Json json = read_json(HAQA_SOURCE_DIR "/tests/golden/evaluation/lmeval.json");
  return json;
}

// lm-eval's log-likelihoods through our grading give lm-eval's metrics: tests/golden/evaluation.py.
TEST(MultipleChoice, GradesAsLmEvalDoes) {
  for (const std::string& name : task_names()) {
    const EvaluationTask task = load_task(name);
    const auto items =
        read_items(task, std::filesystem::path(HAQA_SOURCE_DIR "/tests/golden/evaluation") / (name + ".jsonl"));
    std::vector<Score> scores;
    for (const Json& sample : golden()["tasks"][name])
      for (const Json& score : sample["scores"]) scores.push_back({score[0], score[1]});
    const TaskResult result = grade(task, items, scores);
    for (size_t i = 0; i < items.size(); ++i) {
      const Json& sample = golden()["tasks"][name][i];
      const ItemResult& r = result.items[i];
      EXPECT_EQ(r.predicted == r.gold, sample["acc"] == 1.0) << name << " " << i;
      if (task.acc_norm) {
        EXPECT_EQ(r.predicted_norm == r.gold, sample["acc_norm"] == 1.0) << name << " " << i;
      }
    }
    const Json& summary = golden()["results"][name];
    EXPECT_NEAR(result.acc.value, summary["acc,none"], 1e-12);
    EXPECT_NEAR(result.acc.error, summary["acc_stderr,none"], 1e-12);
    EXPECT_EQ(result.acc_norm.has_value(), summary.contains("acc_norm,none"));
    if (result.acc_norm) {
      EXPECT_NEAR(result.acc_norm->value, summary["acc_norm,none"], 1e-12);
      EXPECT_NEAR(result.acc_norm->error, summary["acc_norm_stderr,none"], 1e-12);
    }
  }
}

Item item_of(std::vector<int> lengths, int gold) {
  Item item;
  item.requests.resize(lengths.size());
  item.lengths = std::move(lengths);
  item.gold = gold;
  return item;
}

TEST(MultipleChoice, TiesAndEmptyChoices) {
  EvaluationTask task;
  task.acc_norm = true;
  const double nan = std::nan("");
  struct Case {
    std::vector<int> lengths;
    std::vector<double> scores;
    int predicted, predicted_norm;
  };
  for (const Case& c : std::vector<Case>{{{1, 1}, {-2, -2}, 0, 0},            // the first of equals
                                         {{1, 4}, {-2, -4}, 0, 1},            // -2 against -1
                                         {{0, 1}, {-1, -9}, 0, 1},            // an empty choice is infinitely bad
                                         {{1, 1, 1}, {-1, nan, -0.5}, 1, 1},  // as numpy's argmax has it
                                         {{3}, {-7}, 0, 0}}) {
    std::vector<Score> scores;
    for (const double s : c.scores) scores.push_back({s, false});
    const std::vector<Item> items = {item_of(c.lengths, 0)};
    const TaskResult result = grade(task, items, scores);
    EXPECT_EQ(result.items[0].predicted, c.predicted);
    EXPECT_EQ(result.items[0].predicted_norm, c.predicted_norm);
    EXPECT_TRUE(std::isnan(result.acc.error));  // of one item
  }
}

TEST(MultipleChoice, NoRightChoiceCountsAsWrong) {
  const std::vector<Item> items = {item_of({1, 1}, -1), item_of({1, 1}, 1)};
  const std::vector<Score> scores = {{-1, false}, {-2, false}, {-2, false}, {-1, false}};
  EXPECT_EQ(grade({}, items, scores).acc.value, 0.5);
}

TEST(MultipleChoice, ScoresMustBeAsManyAsRequests) {
  const std::vector<Item> items = {item_of({1, 1}, 0)};
  EXPECT_THROW(grade({}, items, std::vector<Score>(1)), Error);
  EXPECT_THROW(grade({}, items, std::vector<Score>(3)), Error);
}

TEST(MultipleChoice, MeanWeighsTasksEqually) {
  std::vector<TaskResult> results(2);
  results[0].acc = {0.5, 0.03};
  results[0].acc_norm = Accuracy{0.7, 0.04};
  results[1].acc = {0.3, 0.04};
  const MeanAccuracy mean = mean_accuracy(results);
  EXPECT_DOUBLE_EQ(mean.acc.value, 0.4);
  EXPECT_DOUBLE_EQ(mean.acc.error, 0.025);  // sqrt(0.03^2 + 0.04^2) / 2
  EXPECT_DOUBLE_EQ(mean.headline.value, 0.5);
  EXPECT_DOUBLE_EQ(mean.headline.error, std::sqrt(0.0032) / 2);
}

}  // namespace
}  // namespace haqa
