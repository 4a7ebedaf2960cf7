#pragma once
#include <string>

#include "haqa/base/error.h"

namespace haqa {

/// Of the Error that `work` throws; empty where it throws none.
template <typename Work>
std::string message_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace haqa
