#pragma once
#include "haqa/finetune/finetune_test_support.h"
#include "tests/program.h"

namespace haqa {

/// A folder with what a small model learns from within a second, and the means to run haqa in it.
class LearningTest : public testing::Test {
 protected:
  explicit LearningTest(int examples = 300) { write_learning_data(folder_.path(), examples); }
  Command haqa(std::vector<std::string> arguments) const {
    Command command{{HAQA_BIN_DIR "/haqa"}};
    command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
    if (!llama_bin_.empty()) command.environment.emplace_back("HAQA_LLAMA_BIN", llama_bin_);
    command.timeout_s = 240;
    return command;
  }
  /// As a user calls it who is in the folder.
  Command haqa_in_folder(std::vector<std::string> arguments) const {
    Command command = haqa(std::move(arguments));
    command.argv.insert(command.argv.begin(), {"env", "-C", folder_.path().string()});
    return command;
  }
  /// From now on a llama-bench that runs `script` first, which may end it.
  void use_llama_bench(const std::string& script) { llama_bin_ = llama_bench_that(folder_.path(), script); }
  ProcessResult run(std::vector<std::string> arguments) const { return run_process(haqa(std::move(arguments))); }
  std::string path(const std::string& name) const { return folder_ / name; }
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name) << content;
    return path(name);
  }
  const TemporaryFolder folder_;

 private:
  std::string llama_bin_;
};

/// The same with a search space and a task.
class FinetuneTest : public LearningTest {
 protected:
  FinetuneTest() {
    write("space.yaml", learning_space());
    write("task.yaml", task());
  }
  /// `more`: lines of the section, which take the place of the usual ones of the same key; top: lines before it.
  std::string task(const std::vector<std::pair<std::string, std::string>>& more = {},
                   const std::string& top = "") const {
    std::vector<std::pair<std::string, std::string>> keys = {{"examples", "examples.jsonl"},
                                                             {"data", "data"},
                                                             {"tasks", "[boolq]"},
                                                             {"space", "space.yaml"},
                                                             {"rounds", "3"},
                                                             {"context", "64"},
                                                             {"threads", "1"}};
    for (const auto& [key, value] : more) {
      std::erase_if(keys, [&, k = key](const auto& known) { return known.first == k; });
      keys.emplace_back(key, value);
    }
    std::string text = "model: " + learning_model().string() + "\n" + top + "finetune:\n";
    for (const auto& [key, value] : keys)
      if (value != "-") text += "  " + key + ": " + value + "\n";
    return text;
  }
};

/// Of a log or a summary: what was tried, and what came out.
inline std::vector<std::pair<Json, Json>> tried(const Json& summary) {
  std::vector<std::pair<Json, Json>> all;
  for (const Json& t : summary["trials"]) all.emplace_back(t["configuration"], t["value"]);
  return all;
}

}  // namespace haqa
