#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "haqa/study/study.h"

namespace haqa {

/// A trial of an earlier study, brought into this one's search space.
struct EarlierTrial {
  std::string study;
  Configuration configuration;
  double value = 0;  ///< in the earlier study's unit
};

/// The best `count` complete trials of an earlier study that fit, the best first: those that share a parameter with the
/// space and, once clipped to it, are valid there; of equal configurations the best.
/// direction: of the earlier study's first goal.
std::vector<EarlierTrial> best_earlier_trials(const SearchSpace& space, const std::string& study,
                                              std::span<const Trial> trials, Direction direction, size_t count = 3);

/// Another sampler, before which what was best in earlier studies is proposed, in the order given; what was tried
/// already is passed over. Every sampler, the agent too, then learns from these trials as from its own.
class WarmStartSampler : public Sampler {
 public:
  WarmStartSampler(std::unique_ptr<Sampler> inner, std::vector<EarlierTrial> earlier);
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;
  void tell(const Track& track, const Trial& trial) override { inner_->tell(track, trial); }

 private:
  std::unique_ptr<Sampler> inner_;
  std::vector<EarlierTrial> earlier_;
};

}  // namespace haqa
