// Any bytes are either refused with an Error or give a model that can be planned.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "haqa/base/error.h"
#include "haqa/model/memory_plan.h"
#include "haqa/model/model_info.h"
#include "haqa/model/model_test_support.h"

namespace {

/// read_model wants a path; a file in memory has one while it is open.
class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, size_t size) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (fd_ < 0 || write(fd_, data, size) != static_cast<ssize_t>(size)) std::abort();
    // The data of a model is longer than what a fuzzer likes to make: let it be a hole.
    if (ftruncate(fd_, static_cast<off_t>(size + 4'000'000)) != 0) std::abort();
  }
  ~MemoryFile() { close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

}  // namespace

/// Leaves a good header of each architecture in the corpus, without which a fuzzer would search for one for days.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path folder = (*argv)[i];
    if (!std::filesystem::is_directory(folder)) continue;
    for (const char* architecture : {"llama", "gpt2"}) {
      const haqa::ModelInfo model = haqa::test_model({.architecture = architecture, .n_layer = 1, .n_head_kv = 4});
      const std::filesystem::path seed = folder / (std::string("seed-") + architecture);
      haqa::write_model(model, seed);
      std::filesystem::resize_file(seed, gguf_get_data_offset(haqa::GgufFile(seed).context()));
    }
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const MemoryFile file(data, size);
  try {
    const haqa::ModelInfo model = haqa::read_model(file.path());
    if (haqa::plan_memory(model, {}, 1).rows.size() != 3) std::abort();
  } catch (const haqa::Error&) {
  }
  return 0;
}
