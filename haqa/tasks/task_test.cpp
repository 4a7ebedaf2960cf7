#include "haqa/tasks/task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <set>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/tasks/readers.h"

namespace haqa {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::filesystem::path kGolden = HAQA_SOURCE_DIR "/tests/golden/evaluation";

/// What lm-eval 0.4.13 asks of the same rows: tests/golden/evaluation.py.
const Json& golden() {
  static const Json json = read_json(kGolden / "lmeval.json");
  return json;
}

class EachTask : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Tasks, EachTask, ::testing::ValuesIn(task_names()), [](const auto& p) { return p.param; });

TEST_P(EachTask, AsksWhatLmEvalAsks) {
  const EvaluationTask task = load_task(GetParam());
  const std::vector<Item> items = read_items(task, kGolden / (task.name + ".jsonl"));
  const Json& samples = golden()["tasks"][task.name];
  ASSERT_EQ(items.size(), samples.size());
  for (size_t i = 0; i < items.size(); ++i) {
    Json requests = Json::array();
    for (const Request& request : items[i].requests) requests.push_back({request.context, request.continuation});
    EXPECT_EQ(requests, samples[i]["requests"]) << task.name << " " << i;
    EXPECT_EQ(items[i].doc_id, static_cast<int>(i));
  }
}

TEST_P(EachTask, HasLmEvalsFactsAndRightAnswers) {
  const EvaluationTask task = load_task(GetParam());
  EXPECT_EQ(Json(task.version), golden()["versions"][task.name]);
  EXPECT_EQ(task.acc_norm, golden()["higher_is_better"][task.name].contains("acc_norm"));
  const std::vector<Item> items = read_items(task, kGolden / (task.name + ".jsonl"));
  for (size_t i = 0; i < items.size(); ++i) {
    const Json& target = golden()["tasks"][task.name][i]["target"];
    if (task.name == "winogrande") continue;  // lm-eval logs the suffix there, not the index
    const int n = static_cast<int>(items[i].requests.size());
    EXPECT_EQ(items[i].gold, target.get<int>() < n ? target.get<int>() : -1) << i;
  }
}

TEST_P(EachTask, HalvesAreWholeAndStayWhenRowsMove) {
  const EvaluationTask task = load_task(GetParam());
  const std::filesystem::path file = kGolden / (task.name + ".jsonl");
  const auto all = read_items(task, file), first = read_items(task, file, ItemPart::validation),
             second = read_items(task, file, ItemPart::held_out);
  EXPECT_EQ(first.size() + second.size(), all.size());
  std::set<int> ids;
  for (const auto* half : {&first, &second})
    for (const Item& item : *half) ids.insert(item.doc_id);
  EXPECT_EQ(ids.size(), all.size());

  // The rows in another order, with blank lines and keys written in another way.
  const TemporaryFolder folder;
  std::string text;
  std::string_view rest = "";
  const std::string content = read_file(file);
  std::vector<std::string> lines;
  for (rest = content; !rest.empty();) {
    const size_t end = rest.find('\n');
    lines.emplace_back(Json::parse(rest.substr(0, end)).dump(-1, ' ', true));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) text += *line + "\n\n";
  write_file(folder / "moved.jsonl", text);
  std::set<std::string> before, after;
  for (const Item& item : first) before.insert(item.requests[0].context);
  for (const Item& item : read_items(task, folder / "moved.jsonl", ItemPart::validation))
    after.insert(item.requests[0].context);
  EXPECT_EQ(before, after);
}

TEST(Task, HalvesAreAboutEqual) {
  const TemporaryFolder folder;
  std::string rows;
  for (int i = 0; i < 2000; ++i)
    rows += R"({"sentence1":"a","sentence2":")" + std::to_string(i) + R"(","label":0})" + "\n";
  write_file(folder / "rte.jsonl", rows);
  const auto n = read_items(load_task("rte"), folder / "rte.jsonl", ItemPart::validation).size();
  EXPECT_GT(n, 900u);  // 1000 +- 4.5 standard deviations
  EXPECT_LT(n, 1100u);
}

TEST(Task, TheLimitTakesTheFirstOfThePart) {
  const EvaluationTask task = load_task("boolq");
  const auto part = read_items(task, kGolden / "boolq.jsonl", ItemPart::held_out);
  const auto some = read_items(task, kGolden / "boolq.jsonl", ItemPart::held_out, 3);
  ASSERT_EQ(some.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(some[i].doc_id, part[i].doc_id);
}

TEST(Task, NamesAreLists) {
  const auto names = [](std::string_view text) {
    std::vector<std::string> out;
    for (const EvaluationTask& task : load_tasks(text)) out.push_back(task.name);
    return out;
  };
  EXPECT_THAT(names("rte, boolq,rte"), ElementsAre("rte", "boolq"));
  EXPECT_EQ(names("all"), task_names());
  for (const char* wrong : {"", "boolq,", "mmlu", "../boolq"}) EXPECT_THROW(load_tasks(wrong), UsageError) << wrong;
  EXPECT_EQ(part_from("held-out"), ItemPart::held_out);
  EXPECT_THROW(part_from("test"), UsageError);
}

TEST(Task, BrokenRowsAreNamedByFileAndLine) {
  const TemporaryFolder folder;
  const std::string good = R"({"sentence1":"a","sentence2":"b","label":1})";
  const auto fault = [&](const std::string& name, const std::string& content) -> std::string {
    write_file(folder / (name + ".jsonl"), content);
    try {
      read_items(load_task(name), folder / (name + ".jsonl"));
      return "none";
    } catch (const Error& e) {
      return e.what();
    }
  };
  EXPECT_EQ(fault("rte", good + "\n\n \n" + good), "none");
  EXPECT_THAT(fault("rte", good + "\n\n{\"sentence1\":"), HasSubstr("rte.jsonl, line 3: is no JSON"));
  EXPECT_THAT(fault("rte", "{\"sentence1\":\"\xff\"}"), HasSubstr("line 1: is no JSON, or no UTF-8"));
  EXPECT_THAT(fault("rte", "[1]"), HasSubstr("JSON object"));
  EXPECT_THAT(fault("rte", R"({"sentence1":"a","label":1})"), HasSubstr("\"sentence2\" is missing"));
  EXPECT_THAT(fault("rte", R"({"sentence1":7,"sentence2":"b","label":1})"),
              HasSubstr("\"sentence1\" is 7, not a text"));
  for (const char* label : {"-1", "\"\"", "null", "1.5", "\"x\"", "99999999999", "true"})
    EXPECT_THAT(fault("rte", R"({"sentence1":"a","sentence2":"b","label":)" + std::string(label) + "}"),
                HasSubstr("no answer; take a split that has answers"))
        << label;
  EXPECT_THAT(fault("rte", "\n"), HasSubstr("no questions"));
  EXPECT_THAT(fault("arc_easy", R"({"question":"q","choices":{"text":["a"],"label":["A"]},"answerKey":"B"})"),
              HasSubstr("none of the choices"));
  EXPECT_THAT(fault("arc_easy", R"({"question":"q","choices":["a"],"answerKey":"B"})"),
              HasSubstr("\"choices.text\" is missing"));
  EXPECT_THAT(fault("arc_easy", R"({"question":"q","choices":{"text":[],"label":["B"]},"answerKey":"B"})"),
              HasSubstr("no choices"));
  EXPECT_THAT(fault("winogrande", R"({"sentence":"no blank","option1":"a","option2":"b","answer":"1"})"),
              HasSubstr("no blank"));
  EXPECT_THAT(fault("winogrande", R"({"sentence":"a _","option1":"a","option2":"b","answer":""})"),
              HasSubstr("none of the choices"));
  EXPECT_THAT(fault("mathqa", R"({"Problem":"p","options":"none","correct":"a"})"), HasSubstr("no choices"));
}

}  // namespace
}  // namespace haqa
