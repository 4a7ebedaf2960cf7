#pragma once
#include <filesystem>
#include <functional>
#include <string>

#include "haqa/base/json.h"
#include "haqa/base/progress.h"

namespace haqa {

/// A training by haqa-train whose result is one file, there whole or not at all. What the same command goes on from
/// after an interruption is kept in FILE.unfinished beside it.
class FileTraining {
 public:
  /// Throws Error where the file is there already or cannot be made.
  explicit FileTraining(std::filesystem::path output);

  /// The worker's "folder".
  const std::filesystem::path& folder() const { return folder_; }
  /// Whether there is a checkpoint to go on from.
  bool goes_on() const;
  /// What the worker told; `made` in its folder has become the output then. shown: what is written at a share of the
  /// training. Throws what the worker does, and Interrupted that says what is kept.
  Json run(const Json& request, const std::string& made, Progress& progress,
           const std::function<std::string(double share)>& shown) const;

 private:
  void clear_away(bool keeps_checkpoint) const;
  Json call(const Json& request, Progress& progress, const std::function<std::string(double)>& shown) const;

  const std::filesystem::path output_, folder_;
};

}  // namespace haqa
