// What the tests of the module share: it is loaded once, as a host loads it.
#pragma once
#include <ggml-backend.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace haqa {

/// The device that the module offers.
inline ggml_backend_dev_t module_device() {
  static ggml_backend_dev_t device = [] {
    setenv("HAQA_TUNING", "/nowhere", 1);  // defaults alone
    ggml_backend_load_all();
    ggml_backend_load(HAQA_BIN_DIR "/libggml-haqa.so");
    return ggml_backend_dev_by_name("HAQA");
  }();
  return device;
}

/// The buffer type whose matrices are packed.
inline ggml_backend_buffer_type_t packed_buffers() {
  const auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
      ggml_backend_dev_backend_reg(module_device()), "ggml_backend_dev_get_extra_bufts"));
  return extra(module_device())[0];
}

}  // namespace haqa
