// The module as its tests load it: with switches in the environment that the one that ships does not have.
#include <cstdlib>
#include <string_view>

#include "haqa/plugin/device.h"
#include "haqa/plugin/graph.h"

extern "C" __attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init(void) {
  const auto is_on = [](const char* name) {
    const char* value = std::getenv(name);
    return value && std::string_view(value) == "1";
  };
  haqa::TestSwitches& switches = haqa::test_switches();
  switches.packs_all = is_on("HAQA_TEST_PACKS_ALL");
  switches.native_only = is_on("HAQA_TEST_NATIVE_ONLY");
  if (const char* version = std::getenv("HAQA_TEST_GGML_VERSION")) switches.ggml_version = version;
  return haqa::registry();
}
