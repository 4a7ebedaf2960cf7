#pragma once
#include <memory>
#include <vector>

#include "haqa/report/run_log.h"
#include "haqa/study/study.h"

namespace haqa {

/// The samplers of a study's tracks, asked once for each round, all of them when the first is: a run that goes on
/// neither pays nor waits again for proposals that it had when it was interrupted.
class LoggedSamplers {
 public:
  explicit LoggedSamplers(RunLog& log);
  ~LoggedSamplers();
  LoggedSamplers(const LoggedSamplers&) = delete;
  LoggedSamplers& operator=(const LoggedSamplers&) = delete;

  /// What the study is to ask for the track. All must outlive this, which must outlive what it returns.
  Sampler& add(const Track& track, Sampler& inner, Storage& storage);

 private:
  class One;
  Proposal ask(const Track& track, int round, int rounds_left);

  RunLog& log_;
  std::vector<std::unique_ptr<One>> all_;
};

}  // namespace haqa
