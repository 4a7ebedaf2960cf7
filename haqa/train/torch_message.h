#pragma once
#include <string>

#include "haqa/base/text.h"
#include "haqa/train/torch.h"

namespace haqa {

/// What libtorch says, without the stack and the places in its own source that follow.
inline std::string first_line(const c10::Error& error) {
  const std::string_view text = error.what_without_backtrace();
  return one_line(text.substr(0, text.find('\n')), 500);
}

}  // namespace haqa
