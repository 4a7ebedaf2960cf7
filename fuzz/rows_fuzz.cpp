// Any file of rows is questions or an Error, for each task; each question has choices, lengths and a half.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/tasks/task.h"

namespace {

const haqa::TemporaryFolder& folder() {
  static const haqa::TemporaryFolder made;
  return made;
}

void require(bool truth) {
  if (!truth) std::abort();
}

}  // namespace

/// Leaves a row of each task in the corpus.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path corpus = (*argv)[i];
    if (!std::filesystem::is_directory(corpus)) continue;
    std::ofstream(corpus / "seed-rows")
        << R"({"passage":"p","question":"q","label":0,"sentence1":"a","sentence2":"b"})"
        << "\n\n"
        << R"({"sentence":"a _ b","option1":"x","option2":"y","answer":"2"})"
        << "\n"
        << R"({"question_stem":"s","question":"q","choices":{"text":["u"],"label":["A"]},"answerKey":" A"})"
        << "\n"
        << R"({"activity_label":"l","ctx_a":"[a] [title] x","ctx_b":"y","endings":["  e","[f]"],"label":"1"})"
        << "\n"
        << R"({"Problem":"p","options":"a ) 1 , b ) 2 , e ) 3","correct":"e"})"
        << "\n";
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<haqa::EvaluationTask> tasks = haqa::load_tasks("all");
  std::ofstream(folder() / "rows.jsonl", std::ios::binary)
      << std::string_view(reinterpret_cast<const char*>(data), size);
  for (const haqa::EvaluationTask& task : tasks) try {
      for (const haqa::Item& item : haqa::read_items(task, folder() / "rows.jsonl")) {
        require(!item.requests.empty() && item.lengths.size() == item.requests.size());
        require(item.gold >= -1 && item.gold < static_cast<int>(item.requests.size()));
        require(haqa::half_of(item) != haqa::ItemPart::all);
      }
    } catch (const haqa::Error&) {
    }
  return 0;
}
