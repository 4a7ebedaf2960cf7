#pragma once
#include <fcntl.h>
#include <sys/file.h>

#include <filesystem>
#include <string>
#include <vector>

#include "haqa/base/descriptor.h"
#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/worker/process.h"

namespace haqa {

/// A folder of the cache with Python packages for tests, without those they depend on. Throws where pip cannot fetch
/// them.
inline std::filesystem::path python_packages(const std::filesystem::path& python, const std::string& name,
                                             const std::vector<std::string>& packages) {
  const std::filesystem::path folder = cache_folder() / (name + "-test"), done = folder / "complete";
  const Descriptor lock(open((folder.string() + ".lock").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  flock(lock.get(), LOCK_EX);  // tests run beside one another
  if (std::filesystem::exists(done)) return folder;
  std::filesystem::remove_all(folder);
  std::vector<std::string> argv = {python,      "-m",       "pip", "install", "-q", "--disable-pip-version-check",
                                   "--no-deps", "--target", folder};
  argv.insert(argv.end(), packages.begin(), packages.end());
  const ProcessResult made = run_process({argv});
  if (!made.ok()) throw Error("no {} from PyPI: {}", name, made.describe());
  write_file(done, "");
  return folder;
}

}  // namespace haqa
