#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "haqa/study/trial.h"

namespace haqa {

enum class Direction { minimize, maximize };

/// One thing tuned within a study.
struct Track {
  std::string name;  ///< "runtime"
  SearchSpace space;
  Direction direction = Direction::maximize;
  std::string value_name;  ///< what the objective measures, with its unit, for prompts and reports
  std::string brief;       ///< what the prompt says of the model, the device and the task: the static prompt's facts
};

/// What a sampler proposes, and why.
struct Proposal {
  Configuration configuration;
  std::string proposed_by, thought;
};

/// Proposes configurations. One call of ask() after another, each followed by tell() with the finished trial; never
/// concurrently. Trials of an earlier run are told before the first ask().
class Sampler {
 public:
  virtual ~Sampler() = default;
  /// A valid configuration of track.space. rounds_left counts this one.
  virtual Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) = 0;
  virtual void tell(const Track&, const Trial&) {}
};

/// Measures one configuration. Throws only what must end the study (Interrupted, a full disk); a configuration that
/// does not run is an Outcome.
class Objective {
 public:
  virtual ~Objective() = default;
  virtual Outcome evaluate(const Configuration& configuration) = 0;
};

struct StudyOptions {
  int rounds = 10;
  /// Called with each finished trial before the next is asked for; the place to store it.
  std::function<void(const Trial&)> on_trial;
  /// Called before each measurement.
  std::function<void(int number, const Proposal&)> on_proposal;
};

/// The loop: ask, evaluate, tell, until `rounds` trials exist. `trials` holds those of an interrupted run and receives
/// the new ones. Trial 0 always runs the defaults, so that every method starts alike.
void run_study(const Track& track, Sampler& sampler, Objective& objective, std::vector<Trial>& trials,
               const StudyOptions& options);

/// The best complete trial: the incumbent; nullptr where none is complete.
const Trial* best_trial(std::span<const Trial> trials, Direction direction);

}  // namespace haqa
