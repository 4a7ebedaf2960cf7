// Any file is a tuning file of the module or leaves the defaults, with a line in the log: llama.cpp runs on. What it
// names is there with the hash that it says.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/processor_levels.h"
#include "haqa/plugin/tuning.h"

namespace {

const haqa::TemporaryFolder& folder() {
  static const haqa::TemporaryFolder made;
  return made;
}

std::filesystem::path variant() {
  return folder().path() / "variant.so";
}

}  // namespace

/// Leaves a good one in the corpus.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  std::ofstream(variant()) << "a variant";
  for (int i = 1; i < *argc; ++i)
    if (const std::filesystem::path corpus = (*argv)[i]; std::filesystem::is_directory(corpus))
      std::ofstream(corpus / "seed") << R"({"format": 1, "processor": ")" << haqa::processor_identity()
                                     << R"(", "stock": ["attention"], "kernels": [{"kernel": "matvec", "type": "Q8_0",)"
                                     << R"("rows": 2048, "columns": 64, "file": "variant.so", "hash": ")"
                                     << haqa::OpenFile(variant()).hash() << R"("}]})";
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::filesystem::path file = folder().path() / "haqa-tuning.json";
  std::ofstream(file).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const haqa::Tuning tuning = haqa::read_tuning(file);
  for (const haqa::TunedKernel& kernel : tuning.kernels)
    if (!std::filesystem::equivalent(kernel.file, variant())) std::abort();
  return 0;
}
