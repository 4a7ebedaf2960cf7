// Any bytes are either refused with an Error or give an adapter that belongs to the model.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "haqa/adapter/gguf_adapter.h"
#include "haqa/base/error.h"
#include "haqa/model/model_test_support.h"

namespace {

const haqa::ModelInfo& model() {
  static const haqa::ModelInfo one = haqa::test_model({.n_layer = 1, .n_embd = 8, .n_head = 2, .n_ff = 8});
  return one;
}

}  // namespace

/// Leaves a good file in the corpus.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path folder = (*argv)[i];
    if (!std::filesystem::is_directory(folder)) continue;
    const std::vector<float> numbers(2 * 8);
    haqa::write_gguf({2, 4, {{"blk.0.attn_q.weight", numbers, numbers}}, {}}, model(), folder / "seed");
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = memfd_create("fuzz", MFD_CLOEXEC);  // a file in memory has a path while it is open
  if (fd < 0 || write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
  try {
    haqa::check_matches(haqa::read_gguf_adapter("/proc/self/fd/" + std::to_string(fd), model()), model());
  } catch (const haqa::Error&) {
  }
  close(fd);
  return 0;
}
