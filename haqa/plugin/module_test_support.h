// What the tests of the module share.
#pragma once
#include <ggml-backend.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

namespace haqa {

/// The device that the module offers. It is loaded once, as a host loads it.
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

/// The module in a folder of its own, beside those of the compiled kernels whose names have `part` in them. from: its
/// name, or that of the one with switches for tests.
inline std::filesystem::path copy_of_module(const std::filesystem::path& to, std::string_view part = {},
                                            const char* from = "libggml-haqa.so") {
  namespace fs = std::filesystem;
  const fs::path bin = HAQA_BIN_DIR;
  fs::create_directories(to / "kernels");
  fs::copy_file(bin / from, to / "libggml-haqa.so");
  for (const auto& entry : fs::directory_iterator(bin / "kernels"))
    if (const std::string name = entry.path().filename(); name.find(part) != std::string::npos)
      fs::copy_file(entry.path(), to / "kernels" / name);
  return to / "libggml-haqa.so";
}

}  // namespace haqa
