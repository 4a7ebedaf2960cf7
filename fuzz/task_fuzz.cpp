// Any file is a task or an Error; a task's document gives the same task again.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/cli/task.h"

namespace {

const haqa::TemporaryFolder& folder() {
  static const haqa::TemporaryFolder made;
  return made;
}

/// Without write_file()'s fsync, which would leave no time to the fuzzer.
void write(const std::filesystem::path& file, std::string_view content) {
  std::ofstream(file) << content;
}

}  // namespace

/// Leaves a task that has every key in the corpus, and the files that it names.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  write(folder() / "m", "");
  haqa::Task task;
  task.model = "m";
  task.memory_limit = 12'000'000'000;
  task.bit_widths = {haqa::BitWidth::int8, haqa::BitWidth::int4};
  task.max_quality_loss = 0.05;
  task.agent.provider = "openai";
  task.agent.endpoint.base_url = "http://127.0.0.1:1/v1";
  task.agent.endpoint.model = "x";
  haqa::Json document = haqa::to_json(task);
  document["model"] = document["calibration"] = document["agent"]["replay"] = "m";
  for (int i = 1; i < *argc; ++i)
    if (const std::filesystem::path corpus = (*argv)[i]; std::filesystem::is_directory(corpus)) {
      write(corpus / "seed", document.dump(1));
      break;
    }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::filesystem::path file = folder() / "task.yaml", again = folder() / "again.yaml";
  write(file, {reinterpret_cast<const char*>(data), size});
  try {
    const haqa::Json document = haqa::to_json(haqa::read_task(file));
    write(again, document.dump(2));
    if (haqa::to_json(haqa::read_task(again)) != document) std::abort();
  } catch (const haqa::Error&) {
  }
  return 0;
}
