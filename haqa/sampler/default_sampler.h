#pragma once
#include "haqa/study/study.h"

namespace haqa {

/// The defaults at every round: the paper's baseline "Default", which tunes nothing, and shows how far equal trials
/// differ. It alone, and HumanSampler after its list, proposes what was tried before.
class DefaultSampler : public Sampler {
 public:
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;
};

}  // namespace haqa
