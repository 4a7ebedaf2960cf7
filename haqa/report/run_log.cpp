#include "haqa/report/run_log.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/text.h"
#include "haqa/report/part.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
constexpr const char* kLog = "log.jsonl";

/// Nothing in it but an empty log: of a process that was killed as it began.
bool is_unused(const fs::path& folder) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    if (entry.path().filename() != kLog || !entry.is_regular_file() || entry.file_size() > 0) return false;
  return true;
}

fs::path checked_folder(const fs::path& folder, bool fresh) {
  const bool exists = fs::exists(folder / kLog) && !is_unused(folder);
  if (fresh && exists)
    throw Error("{}: holds a run already; go on with it by --resume, or choose another folder with --output",
                folder.string());
  if (fresh && fs::exists(folder)) {
    if (!fs::is_directory(folder)) throw Error("{}: is no folder; name a new one with --output", folder.string());
    if (!is_unused(folder))  // a run's files would overwrite others of the same name
      throw Error("{}: holds other files; name a new or an empty folder with --output", folder.string());
  }
  if (!fresh && !exists) throw Error("{}: holds no run (no {}); name the folder of one", folder.string(), kLog);
  make_folder(folder);
  return folder;
}

}  // namespace

RunLog RunLog::create(const fs::path& folder) {
  return RunLog(folder, true);
}

RunLog RunLog::resume(const fs::path& folder) {
  return RunLog(folder, false);
}

RunLog::RunLog(fs::path folder, bool fresh) : folder_(checked_folder(folder, fresh)), file_(folder_ / kLog) {
  std::istringstream lines(read_file(folder_ / kLog));
  int number = 0;
  for (std::string text; std::getline(lines, text);) {
    ++number;
    try {
      replay(Json::parse(text));
    } catch (const std::exception& e) {  // of the parser, of a key that is missing, of a trial that makes no sense
      throw Error("{}:{}: is damaged ({}); start a new run", (folder_ / kLog).string(), number, e.what());
    }
  }
}

void RunLog::replay(const Json& line) {
  const std::string event = line.at("event");
  earlier_seconds_ = line.value("seconds", earlier_seconds_);
  if (event == "step") {
    steps_[line.at("step").get<std::string>()] = line.at("result");
  } else if (event == "trial") {
    std::vector<Trial>& trials = line.contains("track") ? beside(line["track"]).trials_ : trials_;
    trials.push_back(trial_from_json(line.at("trial")));
  } else {
    events_.push_back(line);
  }
}

Json RunLog::once(const std::string& step, const std::function<Json()>& work) {
  if (!steps_.contains(step)) {
    steps_[step] = work();
    append({{"event", "step"}, {"step", step}, {"result", steps_[step]}});
  }
  return steps_[step];
}

bool RunLog::has_results() const {
  const bool has_beside =
      std::any_of(beside_.begin(), beside_.end(), [](const auto& track) { return !track.second.trials_.empty(); });
  return !trials_.empty() || has_beside || steps_.size() > (steps_.contains("hardware") ? 1u : 0u);
}

double RunLog::seconds() const {
  return earlier_seconds_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - opened_).count();
}

void RunLog::finish(const Trial& trial) {
  append({{"event", "trial"}, {"trial", to_json(trial)}});
  trials_.push_back(trial);
}

void TrackLog::finish(const Trial& trial) {
  log_.append({{"event", "trial"}, {"track", track_}, {"trial", to_json(trial)}});
  trials_.push_back(trial);
}

void RunLog::add_event(const std::string& name, const Json& fields) {
  Json line = {{"event", name}};
  line.update(fields);
  events_.push_back(append(std::move(line)));
}

std::vector<Json> RunLog::events(const std::string& name) const {
  std::vector<Json> all;
  for (const Json& event : events_)
    if (event["event"] == name) all.push_back(event);
  return all;
}

Json RunLog::append(Json line) {
  Json stamped = {{"time", utc_now()}, {"seconds", std::round(1000 * seconds()) / 1000}};
  stamped.update(line);
  file_.append(to_line(stamped));
  return stamped;
}

namespace {

/// Of a run that is not finished.
Json& trials_of_kernel(Json& summary, const std::string& name) {
  Json& kernels = summary["kernels"]["kernels"];
  for (Json& kernel : kernels)
    if (kernel["name"] == name) return kernel["trials"];
  kernels.push_back({{"name", name}});
  return kernels.back()["trials"];
}

}  // namespace

Json read_summary(const fs::path& folder) {
  const fs::path file = folder / "summary.json";
  if (fs::exists(file)) return read_json(file);
  if (!fs::exists(folder / kLog))
    throw Error("{}: holds no run (neither {} nor summary.json); name the folder of one", folder.string(), kLog);
  Json summary = {{"unfinished", true}, {"trials", Json::array()}, {"agent_events", Json::array()}};
  std::istringstream lines(read_file(folder / kLog));
  for (std::string text; std::getline(lines, text);) {
    const Json line = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object()) continue;  // another process may be writing it
    const Part part(line);            // of a damaged or foreign log nothing may throw
    const std::string event = part["event"].text();
    if (event == "start") summary["kind"] = part["kind"].json();
    if (event == "start") summary["task"] = part["task"].json();
    if (event == "trial") {
      const std::string track = part["track"].text();
      if (track == kFinetuneTrack) summary["finetune"]["unfinished"] = true;
      if (track.starts_with(kKernelTrack))
        trials_of_kernel(summary, track.substr(std::string_view(kKernelTrack).size())).push_back(part["trial"].json());
      else
        (track == kFinetuneTrack ? summary["finetune"] : summary)["trials"].push_back(part["trial"].json());
    }
    if (event == "agent") summary["agent_events"].push_back(line);
    if (event == "step" && part["step"].text() == "hardware") summary["hardware"] = part["result"].json();
  }
  return summary;
}

void require_kind(const fs::path& folder, const std::string& kind) {
  const Json summary = read_summary(folder);
  const std::string made_by = Part(summary)["kind"].text();
  if (!made_by.empty() && made_by != kind)
    throw UsageError("{}: is a run of haqa {}; go on with it by haqa {} --resume {}", folder.string(), made_by, made_by,
                     folder.string());
}

}  // namespace haqa
