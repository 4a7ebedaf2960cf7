#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "haqa/base/progress.h"
#include "haqa/worker/process.h"

namespace haqa {

/// Python packages that HAQA runs a program of, in a virtual environment in the cache folder.
struct PythonEnvironment {
  std::string folder;   ///< its name in the cache, with the versions: others are another environment
  std::string purpose;  ///< what it is for, as messages name it
  /// Makes it in a folder that is not there yet. A failed one is cleared by the next call.
  std::function<ProcessResult(const std::filesystem::path& venv)> make;
};

/// The environment's Python. The first call makes it, which takes a minute and needs a network; several processes at
/// once make it once. Throws Error that says what pip said; the next call tries again.
std::filesystem::path python_of(const PythonEnvironment& environment, Progress& progress);

/// For `make`: an environment without packages, in place of what is there.
ProcessResult make_venv(const std::filesystem::path& venv);
/// For `make`: gets packages into it and tries whether `modules`, such as "numpy, torch", can be imported.
ProcessResult install_packages(const std::filesystem::path& venv, const std::vector<std::string>& packages,
                               const std::string& modules);

}  // namespace haqa
