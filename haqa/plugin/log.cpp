#include "haqa/plugin/log.h"

#include "haqa/plugin/ggml.h"

namespace haqa {

void log_info(const std::string& line) {
  GGML_LOG_INFO("haqa: %s\n", line.c_str());
}

void log_warning(const std::string& line) {
  GGML_LOG_WARN("haqa: %s\n", line.c_str());
}

}  // namespace haqa
