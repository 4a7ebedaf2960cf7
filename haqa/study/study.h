#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "haqa/study/trial.h"

namespace haqa {

enum class Direction { minimize, maximize };

/// "minimize" or "maximize".
std::string_view to_string(Direction direction);

/// A value that is measured: its name, with its unit, and whether it should be small or large.
struct Goal {
  std::string value_name;
  Direction direction = Direction::maximize;
};

/// A key of a language model's answers that stands for parameters of other names, as in the paper's form of kernels:
/// "blockdim": [8, 4, 1].
struct AnswerName {
  std::string key;
  std::vector<std::string> parameters;  ///< several: the elements of a list; "": one that is no parameter, told as 1
  std::string flag;                     ///< of a text: the key that says whether it is changed; false: its default
};

/// One thing tuned within a study.
struct Track {
  std::string name;  ///< "runtime"
  SearchSpace space;
  Direction direction = Direction::maximize;
  std::string value_name;  ///< what the objective measures, with its unit, for prompts and reports
  std::string brief;       ///< what the prompt says of the model, the device and the task: the static prompt's facts
  std::vector<Goal> more_goals;          ///< of Trial::more_values, for samplers that seek a Pareto front
  std::vector<AnswerName> answer_names;  ///< parameters that have none stand by their own names
  int first_round = 0;                   ///< rounds of the study that went by before this track's first
  /// Rounds of the study, where the track has so many trials.
  int rounds_with(size_t trials) const { return first_round + static_cast<int>(trials); }
};

/// What a sampler proposes, and why.
struct Proposal {
  Configuration configuration;
  std::string proposed_by, thought;
  std::optional<double> expected_gain;  ///< over the incumbent, where the sampler has a model that can tell
  Json metrics = Json::object();        ///< what asking took: they become the trial's, beside those measured
  bool exhausted = false;               ///< nothing is left to try: its track ends, and the configuration is not run
};

/// Proposes configurations. One call of ask() after another, each finished trial told by tell(); never concurrently.
/// Trials of an earlier run are told before the first ask(). Among the trials may be running ones, which others measure
/// at this moment: a sampler that learns from values replaces theirs (sampler/constant_liar.h).
class Sampler {
 public:
  virtual ~Sampler() = default;
  /// A valid configuration of track.space. rounds_left counts this one.
  virtual Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) = 0;
  virtual void tell(const Track&, const Trial&) {}
};

/// Takes what a trial measures on its way, steps ascending, and says whether it is worth going on.
using Report = std::function<bool(int step, double value)>;

/// Measures one configuration. Throws only what must end the study (Interrupted, a full disk); a configuration that
/// does not run is an Outcome. Called from several threads at once where the study has several workers.
class Objective {
 public:
  virtual ~Objective() = default;
  virtual Outcome evaluate(const Configuration& configuration, const Report& report = {}) = 0;
};

/// Where the trials of one track are kept, by their number. Other processes may add theirs at any time. Throws Error
/// where it cannot be read or written.
class Storage {
 public:
  virtual ~Storage() = default;
  /// All trials, number i at i.
  virtual std::vector<Trial> trials() = 0;
  /// Begins the first trial that somebody put there to be run, and gives it; nullopt where none waits. start() leaves
  /// those alone; trials() shows them as running.
  virtual std::optional<Trial> claim_waiting() { return std::nullopt; }
  /// Keeps a trial that begins, and gives it its number.
  virtual int start(const Proposal& proposal) = 0;
  virtual void report(int number, const Intermediate& value) = 0;
  /// Keeps a trial that ended, whole or not at all.
  virtual void finish(const Trial& trial) = 0;
  /// Hears of a trial that ends with this process before it has a result. Nothing to do where one that is not finished
  /// counts as that.
  virtual void abandon(const Trial&) {}
};

/// A trial that begins, as a storage keeps it.
Trial running_trial(int number, const Proposal& proposal);

/// Trials that end with this process.
class MemoryStorage : public Storage {
 public:
  explicit MemoryStorage(std::vector<Trial> trials = {}) : trials_(std::move(trials)) {}
  std::vector<Trial> trials() override { return trials_; }
  int start(const Proposal& proposal) override;
  void report(int number, const Intermediate& value) override;
  void finish(const Trial& trial) override;

 private:
  std::vector<Trial> trials_;
};

/// Says of a running trial, by what it has reported so far, whether it is hopeless (pruner.h).
class Pruner {
 public:
  virtual ~Pruner() = default;
  virtual bool hopeless(Direction direction, std::span<const Trial> trials, const Trial& running) const = 0;
};

/// What may be spent; 0: any amount. Rounds are trials of each track, those of earlier runs included.
struct Budget {
  int rounds = 10;
  double seconds = 0, tokens = 0, money = 0;
};

enum class StopReason { rounds, seconds, tokens, money, no_gain, exhausted };
std::string_view to_string(StopReason reason);

struct StudyOptions {
  Budget budget;
  int workers = 1;  ///< trials measured at once
  /// Stops where a sampler expects to gain less than this share of what the best trial is ahead of the median one;
  /// 0: goes on.
  double negligible_gain = 0;
  const Pruner* pruner = nullptr;
  /// What was spent so far, in the budget's terms; rounds do not matter. Without it only this call's seconds count.
  std::function<Budget()> spent;
  /// Called with each finished trial after it was stored. With several workers it may not use the storages, which
  /// running trials report to at the same time.
  std::function<void(const Track&, const Trial&)> on_trial;
  /// Called before each measurement.
  std::function<void(const Track&, const Trial&)> on_proposal;
};

/// A track and what works on it. Several may share one storage's database, none a Storage.
struct StudyTrack {
  const Track& track;
  Sampler& sampler;
  Objective& objective;
  Storage& storage;
};

/// The loop: ask, evaluate, tell, a round of each track after another, until the budget is spent. What waits in a
/// storage is run before anything is asked for, also beyond the rounds. The first trial of a track runs the defaults,
/// so that every method starts alike. A track of which all was tried ends before the others. Returns what ended it,
/// once nothing runs any more. What an objective, a storage or a sampler throws ends it too, once what else runs is
/// finished and kept.
StopReason run_study(std::span<const StudyTrack> tracks, const StudyOptions& options);

/// Complete, with a finite value: Optuna keeps infinities too, which nothing can be measured against.
bool has_finite_value(const Trial& trial);

/// The best trial that has a value and fits its space: the incumbent; nullptr where there is none.
const Trial* best_trial(std::span<const Trial> trials, Direction direction);
const Trial* best_trial(std::vector<Trial>&& trials, Direction direction) = delete;  ///< it would dangle

}  // namespace haqa
