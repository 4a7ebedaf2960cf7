// Any text gives objects that can be written as a line and read again; any object is a trial, a profile or an Error,
// and can be reported as the summary of a run.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/hardware/profile.h"
#include "haqa/report/report.h"
#include "haqa/study/study.h"

namespace {

void require(bool truth) {
  if (!truth) std::abort();
}

void try_as_trial(const haqa::Json& object) {
  try {
    const haqa::Trial trial = haqa::trial_from_json(object);
    // What was read once is read again, the same: a log survives being copied.
    const haqa::Json written = haqa::to_json(trial);
    require(haqa::to_json(haqa::trial_from_json(written)) == written);
    require((trial.state == haqa::TrialState::complete) == trial.value.has_value());
  } catch (const haqa::Error&) {
  }
}

void try_as_profile(const haqa::Json& object) {
  try {
    const haqa::Json written = haqa::to_json(haqa::profile_from_json(object));
    require(haqa::to_json(haqa::profile_from_json(written)) == written);
  } catch (const haqa::Error&) {
  }
}

}  // namespace

/// Leaves a good trial of each state and a good profile in the corpus, without which a fuzzer would search for the keys
/// for days.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  haqa::Trial complete;
  complete.configuration = {{"x", 1}};
  complete.value = 0.5;
  haqa::Trial failed = complete;
  failed.state = haqa::TrialState::failed;
  failed.value.reset();
  failed.reason = haqa::FailReason::crashed;
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path folder = (*argv)[i];
    if (!std::filesystem::is_directory(folder)) continue;
    haqa::write_file(folder / "seed-complete", haqa::to_line(haqa::to_json(complete)));
    haqa::write_file(folder / "seed-profile", haqa::to_line(haqa::to_json(haqa::load_device("rtx-a6000"))));
    haqa::write_file(folder / "seed-failed", "Thought: \"{\" ```json\n" + haqa::to_line(haqa::to_json(failed)) + "```");
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const haqa::Json& object : haqa::find_json_objects(text)) {
    require(object.is_object());
    const auto again = haqa::find_json_objects(haqa::to_line(object));
    require(again.size() == 1 && again[0] == object);
    try_as_trial(object);
    try_as_profile(object);
    haqa::text_report(object);
    haqa::suggestions(object);
  }
  return 0;
}
