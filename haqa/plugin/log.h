#pragma once
#include <string>

namespace haqa {

/// One line in the host's own log, through ggml's, with "haqa: " before it.
void log_info(const std::string& line);
void log_warning(const std::string& line);

}  // namespace haqa
