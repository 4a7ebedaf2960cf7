#include "haqa/deploy/python_environment.h"

#include <fcntl.h>
#include <sys/file.h>

#include "haqa/base/descriptor.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

fs::path python_in(const fs::path& venv) {
  return venv / "bin" / "python";
}

/// Empty where there is none.
std::string fault_of_making(const PythonEnvironment& environment, const fs::path& venv) {
  try {
    const ProcessResult made = environment.make(venv);
    return made.ok() ? "" : made.describe();
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {  // there is no python3
    return error.what();
  }
}

}  // namespace

ProcessResult make_venv(const fs::path& venv) {
  fs::remove_all(venv);
  return run_process({{"python3", "-m", "venv", venv}});
}

ProcessResult install_packages(const fs::path& venv, const std::vector<std::string>& packages,
                               const std::string& modules) {
  std::vector<std::string> argv = {python_in(venv), "-m", "pip", "install", "-q", "--disable-pip-version-check",
                                   "--retries",     "1"};
  argv.insert(argv.end(), packages.begin(), packages.end());
  ProcessResult installed = run_process({argv});
  if (!installed.ok()) return installed;
  return run_process({{python_in(venv), "-c", "import " + modules}});
}

fs::path python_of(const PythonEnvironment& environment, Progress& progress) {
  make_folder(cache_folder());
  const fs::path venv = cache_folder() / environment.folder, done = venv / "complete";
  const Descriptor lock(open((venv.string() + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  if (lock) flock(lock.get(), LOCK_EX);  // another may be making it
  if (!fs::exists(done) || !fs::exists(python_in(venv))) {
    progress.step(fmt::format("making the Python environment of {} in {}, once", environment.purpose, venv.string()));
    if (const std::string fault = fault_of_making(environment, venv); !fault.empty())
      throw Error(
          "{}: the Python environment of {} cannot be made ({}); check the network and that python3-venv is installed, "
          "and run it again",
          venv.string(), environment.purpose, fault);
    write_file(done, "");
    progress.done();
  }
  return python_in(venv);
}

}  // namespace haqa
