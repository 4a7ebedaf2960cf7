// Any bytes are either refused with an Error or give tensors that can be read.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/adapter/safetensors.h"
#include "haqa/base/error.h"

/// Leaves a good file in the corpus.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path folder = (*argv)[i];
    if (!std::filesystem::is_directory(folder)) continue;
    const std::vector<float> numbers(6);
    haqa::write_safetensors({{"a", {2, 3}, numbers}, {"b", {}, std::span(numbers).first(1)}}, folder / "seed");
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = memfd_create("fuzz", MFD_CLOEXEC);  // a file in memory has a path while it is open
  if (fd < 0 || write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
  try {
    const haqa::SafetensorsFile file("/proc/self/fd/" + std::to_string(fd));
    for (const auto& [name, tensor] : file.tensors()) {
      try {
        if (file.floats(name).size() != static_cast<size_t>(tensor.elements())) std::abort();
      } catch (const haqa::Error&) {  // of integers, say
      }
    }
  } catch (const haqa::Error&) {
  }
  close(fd);
  return 0;
}
