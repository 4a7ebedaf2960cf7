// A folder for files that do not stay: a test's, a trial's.
#pragma once
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>

#include "haqa/base/error.h"

namespace haqa {

/// A new folder, which is gone with all that is in it when this is.
class TemporaryFolder {
 public:
  /// In $TMPDIR, else /tmp. Throws Error where none can be made.
  TemporaryFolder() {
    std::error_code fault;
    const std::filesystem::path parent = std::filesystem::temp_directory_path(fault);
    if (fault) throw Error("$TMPDIR: {}; set it to a folder that can be written", fault.message());
    std::string name = (parent / "haqa-XXXXXX").string();
    if (!mkdtemp(name.data()))
      throw Error("{}: cannot make a folder for files that do not stay: {}; free space there, or set TMPDIR to another",
                  parent.string(), std::strerror(errno));
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;  // somebody may have made a part of it read-only
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace haqa
