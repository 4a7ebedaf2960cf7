// What ggml looks for in a back end that it loads from GGML_BACKEND_PATH.
#include <cstdio>
#include <exception>

#include "haqa/plugin/device.h"

extern "C" __attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init(void) {
  try {
    return haqa::registry();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "haqa: %s; stock code serves\n", e.what());
    return nullptr;
  }
}
