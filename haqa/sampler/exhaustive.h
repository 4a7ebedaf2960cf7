#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "haqa/study/study.h"

namespace haqa {

/// The valid configurations of a space one after another, in the order of its parameters and their values, the last one
/// changing fastest. Numbers need steps or be whole; texts keep their default.
class ConfigurationWalk {
 public:
  /// Throws UsageError that names a parameter with infinitely many values.
  explicit ConfigurationWalk(const SearchSpace& space);
  ~ConfigurationWalk();
  /// The next one; nullopt behind the last, or where the walk has come to so many steps before it found one.
  std::optional<Configuration> next(uint64_t most_steps = UINT64_MAX);
  /// Of all, as if there were no constraints and conditions.
  double combinations() const;
  /// Values that were tried so far, one by one: what the walk cost.
  uint64_t steps() const;

 private:
  struct Level;
  struct State;
  std::unique_ptr<State> state_;
};

/// Throws UsageError where the space is infinite or holds more configurations than can be walked (100,000), and says
/// how many there are.
void require_walkable(const SearchSpace& space);

/// A sweep: the defaults, then every other valid configuration in order, until all are tried.
class ExhaustiveSampler : public Sampler {
 public:
  ExhaustiveSampler();
  ~ExhaustiveSampler() override;
  /// Throws UsageError as require_walkable() does.
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  void go_on_with(const Track& track, std::span<const Trial> trials);

  std::string space_;  ///< what is walked, as it describes itself
  std::unique_ptr<ConfigurationWalk> walk_;
  size_t known_ = 0;             ///< trials whose hashes are in tried_
  std::set<std::string> tried_;  ///< hashes
};

}  // namespace haqa
