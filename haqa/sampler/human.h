#pragma once
#include <filesystem>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// Replays configurations that a person wrote down, in their order. One that was tried, as the defaults were in the
/// first round, is passed over, so that a study goes on after an interruption. After the last one the person keeps the
/// best so far of what is valid: it is proposed again, although it was tried.
class HumanSampler : public Sampler {
 public:
  /// file: YAML or JSON, a list of configurations, one mapping each. Throws Error where it cannot be read, UsageError
  /// where it is no such list.
  explicit HumanSampler(std::filesystem::path file);
  /// Throws UsageError that names file and entry (from 1) where one is not valid. ask() checks all of them too; whoever
  /// knows the space before the first round is measured had better call it.
  void check(const SearchSpace& space) const;
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;

 private:
  std::filesystem::path file_;
  std::vector<Configuration> entries_;
};

}  // namespace haqa
