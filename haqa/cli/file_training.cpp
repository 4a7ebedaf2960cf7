#include "haqa/cli/file_training.h"

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/worker/worker.h"

namespace haqa {

namespace fs = std::filesystem;

FileTraining::FileTraining(fs::path output)
    : output_(std::move(output)), folder_(fs::absolute(output_.string() + ".unfinished")) {
  if (fs::exists(output_))
    throw Error("{}: is there already; remove it or name another file with --output", output_.string());
  PendingFile pending(output_);  // throws where there is no folder for it
}

bool FileTraining::goes_on() const {
  return fs::exists(folder_ / "checkpoint");
}

/// A checkpoint is worth its place, but for one of a training that diverged, which would do so again.
void FileTraining::clear_away(bool keeps_checkpoint) const {
  std::error_code ignored;
  if (!keeps_checkpoint || !fs::exists(folder_ / "checkpoint", ignored)) fs::remove_all(folder_, ignored);
}

Json FileTraining::call(const Json& request, Progress& progress,
                        const std::function<std::string(double)>& shown) const {
  double before = -1;  // share done by an earlier part, which the time left must not count
  const auto on_progress = [&](double share) {
    if (before < 0) before = goes_on() ? share : 0;
    progress.update(before < 1 ? (share - before) / (1 - before) : 1, shown(share));
  };
  try {
    return call_worker("haqa-train", request, {}, on_progress);
  } catch (const Interrupted&) {
    clear_away(true);
    if (!fs::exists(folder_)) throw Interrupted("interrupted before the first checkpoint; nothing is kept");
    throw Interrupted("interrupted; {} is kept: the same command goes on from its checkpoint",
                      output_.string() + ".unfinished");
  } catch (const WorkerError& e) {
    clear_away(!std::string_view(e.what()).starts_with("the training diverged"));
    throw;
  }
}

Json FileTraining::run(const Json& request, const std::string& made, Progress& progress,
                       const std::function<std::string(double)>& shown) const {
  make_folder(folder_);
  const LineFile lock(folder_ / "lock");  // against a second one with the same output
  remove_unfinished(folder_);
  Json told = call(request, progress, shown);
  fs::rename(folder_ / made, output_);
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
  return told;
}

}  // namespace haqa
