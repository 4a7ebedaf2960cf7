#pragma once
#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/study/study.h"

namespace haqa {

class RunLog;

/// The trials of a further track of a run, which its log keeps with the track's name.
class TrackLog : public Storage {
 public:
  TrackLog(RunLog& log, std::string track) : log_(log), track_(std::move(track)) {}
  std::vector<Trial> trials() override { return trials_; }
  const std::vector<Trial>& finished() const { return trials_; }  ///< the same, all on disk; good until the next one
  int start(const Proposal&) override { return static_cast<int>(trials_.size()); }
  void report(int, const Intermediate&) override {}  // the finished trial holds them all
  void finish(const Trial& trial) override;

 private:
  friend RunLog;
  RunLog& log_;
  const std::string track_;
  std::vector<Trial> trials_;
};

/// A run's folder and its log.jsonl: everything that happened, a line each, on disk before the next thing begins. A
/// later process reads it and goes on: steps that finished are not done again. It is the storage of the run's main
/// track; beside() has those of others.
class RunLog : public Storage {
 public:
  /// A new run. Throws Error where the folder holds anything already or cannot be written.
  static RunLog create(const std::filesystem::path& folder);
  /// Goes on with an interrupted one. Throws Error where there is none, or another process works on it.
  static RunLog resume(const std::filesystem::path& folder);
  RunLog(const RunLog&) = delete;  // the logs of further tracks refer to it
  RunLog& operator=(const RunLog&) = delete;

  const std::filesystem::path& folder() const { return folder_; }
  std::vector<Trial> trials() override { return trials_; }
  const std::vector<Trial>& finished() const { return trials_; }  ///< the same, all on disk; good until the next one
  int start(const Proposal&) override { return static_cast<int>(trials_.size()); }
  void report(int, const Intermediate&) override {}  // the finished trial holds them all
  void finish(const Trial& trial) override;
  /// Of a further track, by its name; good as long as this.
  TrackLog& beside(const std::string& track) { return beside_.try_emplace(track, *this, track).first->second; }
  /// What `step` returned in this run or an earlier part of it; else calls it and records what it returns.
  Json once(const std::string& step, const std::function<Json()>& work);
  /// What a step returned; null while it has not.
  Json result_of(const std::string& step) const { return steps_.value(step, Json()); }
  /// Whether more than the hardware profile was recorded: something that a user would not want to lose.
  bool has_results() const;

  /// Of work so far, earlier parts of an interrupted run included.
  double seconds() const;

  /// An event that needs no doing again: {"time", "seconds", "event": name, ...}.
  void add_event(const std::string& name, const Json& fields);
  std::vector<Json> events(const std::string& name) const;

 private:
  friend TrackLog;
  RunLog(std::filesystem::path folder, bool fresh);
  void replay(const Json& line);  ///< one that is on disk already
  Json append(Json line);         ///< returns it with its time and seconds(), as it is on disk

  std::filesystem::path folder_;
  LineFile file_;
  std::chrono::steady_clock::time_point opened_ = std::chrono::steady_clock::now();
  double earlier_seconds_ = 0;
  Json steps_ = Json::object();
  std::vector<Trial> trials_;
  std::map<std::string, TrackLog> beside_;
  std::vector<Json> events_;
};

/// The name of the track of fine-tuning.
inline constexpr const char* kFinetuneTrack = "fine-tuning";
/// How the names of tracks of kernels begin, which are tuned in the model.
inline constexpr const char* kKernelTrack = "kernel ";

/// What made a run: the command that can go on with it, in its start event and its summary.
inline constexpr const char *kRunKind = "run", *kFinetuneKind = "finetune", *kKernelsKind = "kernels";
/// Throws UsageError that names the right command where a folder holds a run of another kind.
void require_kind(const std::filesystem::path& folder, const std::string& kind);

/// Reads a run without writing, one that another process works on too: summary.json, or while there is none, what the
/// log holds so far ("unfinished", "kind", "task", "hardware", "trials", "agent_events", and "finetune" with the
/// "trials" of a fine-tuning beside them). Throws Error where the folder holds no run.
Json read_summary(const std::filesystem::path& folder);

}  // namespace haqa
