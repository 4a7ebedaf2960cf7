#include "haqa/tasks/lm_eval.h"

#include <gtest/gtest.h>

#include <charconv>
#include <cmath>

namespace haqa {
namespace {

const Json& golden() {
  static const Json json = read_json(HAQA_SOURCE_DIR "/tests/golden/evaluation/lmeval.json");
  return json;
}

/// All tasks, with lm-eval's own scores: tests/golden/evaluation.py.
std::vector<TaskRun> golden_runs() {
  std::vector<TaskRun> runs;
  for (const std::string& name : task_names()) {
    const std::filesystem::path file =
        std::filesystem::path(HAQA_SOURCE_DIR "/tests/golden/evaluation") / (name + ".jsonl");
    TaskRun run{load_task(name), {}, count_rows(file), {}};
    run.items = read_items(run.task, file);
    std::vector<Score> scores;
    for (const Json& sample : golden()["tasks"][name])
      for (const Json& score : sample["scores"]) scores.push_back({score[0], score[1]});
    run.result = grade(run.task, run.items, scores);
    runs.push_back(std::move(run));
  }
  return runs;
}

/// The same keys in the same order, and the same values, numbers but for rounding.
void expect_same(const Json& got, const Json& want, const std::string& path) {
  if (want.is_number_float() && got.is_number()) {
    EXPECT_NEAR(got.get<double>(), want.get<double>(), 1e-12) << path;
  } else if (want.is_object() && got.is_object()) {
    ASSERT_EQ(got.size(), want.size()) << path;
    for (auto g = got.begin(), w = want.begin(); w != want.end(); ++g, ++w) {
      ASSERT_EQ(g.key(), w.key()) << path;
      expect_same(g.value(), w.value(), path + "." + w.key());
    }
  } else {
    EXPECT_EQ(got, want) << path;
  }
}

TEST(LmEval, ResultsHaveItsForm) {
  RunFacts facts;
  facts.model = "model.gguf";
  const Json got = lm_eval_results(golden_runs(), facts);
  for (const char* key : {"results", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples"})
    expect_same(got[key], golden()[key], key);
  const Json& config = got["configs"]["arc_easy"];
  EXPECT_EQ(config["task"], "arc_easy");
  EXPECT_EQ(config["dataset_path"], "allenai/ai2_arc");
  EXPECT_EQ(config["num_fewshot"], 0);
  EXPECT_EQ(config["metadata"]["version"], 1.0);
  EXPECT_EQ(got["config"]["model_args"]["pretrained"], "model.gguf");
  EXPECT_TRUE(got["config"]["limit"].is_null());
}

TEST(LmEval, AStandardErrorOfOneIsNone) {
  std::vector<TaskRun> runs = golden_runs();
  runs.resize(1);
  runs[0].items.resize(1);
  runs[0].result = grade(runs[0].task, runs[0].items, std::vector<Score>(2));
  EXPECT_EQ(lm_eval_results(runs, {})["results"]["boolq"]["acc_stderr,none"], "N/A");
}

TEST(LmEval, SamplesHoldEachQuestion) {
  for (const TaskRun& run : golden_runs()) {
    const std::vector<Json> lines = lm_eval_samples(run);
    ASSERT_EQ(lines.size(), run.items.size());
    for (size_t i = 0; i < lines.size(); ++i) {
      const Json& want = golden()["tasks"][run.task.name][i];
      EXPECT_EQ(lines[i]["doc_id"], static_cast<int>(i));
      EXPECT_EQ(lines[i]["acc"], want["acc"]);
      EXPECT_EQ(lines[i].contains("acc_norm"), want.contains("acc_norm"));
      if (want.contains("acc_norm")) {
        EXPECT_EQ(lines[i]["acc_norm"], want["acc_norm"]);
      }
      const size_t n = want["requests"].size();
      for (size_t j = 0; j < n; ++j) {
        const Json& arguments = lines[i]["arguments"]["gen_args_" + std::to_string(j)];
        EXPECT_EQ(arguments["arg_0"], want["requests"][j][0]);
        EXPECT_EQ(arguments["arg_1"], want["requests"][j][1]);
        const std::string text = lines[i]["filtered_resps"][j][0];
        double value = 0;
        std::from_chars(text.data(), text.data() + text.size(), value);
        EXPECT_EQ(value, want["scores"][j][0].get<double>());
        EXPECT_EQ(lines[i]["filtered_resps"][j][1], want["scores"][j][1].get<bool>() ? "True" : "False");
      }
    }
  }
}

}  // namespace
}  // namespace haqa
