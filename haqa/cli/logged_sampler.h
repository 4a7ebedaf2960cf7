#pragma once
#include "haqa/report/run_log.h"
#include "haqa/study/study.h"

namespace haqa {

/// Another sampler, asked once for each round: a run that goes on neither pays nor waits again for a proposal that it
/// had when it was interrupted.
class LoggedSampler : public Sampler {
 public:
  /// Both must outlive it.
  LoggedSampler(Sampler& inner, RunLog& log) : inner_(inner), log_(log) {}
  Proposal ask(const Track& track, std::span<const Trial> trials, int rounds_left) override;
  void tell(const Track& track, const Trial& trial) override { inner_.tell(track, trial); }

 private:
  Sampler& inner_;
  RunLog& log_;
};

}  // namespace haqa
