#pragma once
#include <functional>
#include <string>

#include "haqa/deploy/benchmark.h"
#include "haqa/study/study.h"

namespace haqa {

/// Measures run-time options: how much faster than llama.cpp's defaults a request is served, each trial timed in turn
/// with the defaults (value: the median ratio; 1 for the defaults themselves).
class RuntimeObjective : public Objective {
 public:
  struct Tools {
    Benchmark benchmark;
    /// The file of a GGUF type, quantized if need be. Throws Error or WorkerError where that fails.
    std::function<std::filesystem::path(const std::string& gguf_type)> model;
    /// What these options lose, the set-up's file not being made yet: {"perplexity_ratio", ..., "refused": why they
    /// lose too much, where they do}. Asked once or often, so it should remember. Throws WorkerError where the model
    /// does not run.
    std::function<Json(const Setup&)> quality;
    /// Why these options do not fit the memory limit; empty where they do. Asked before anything is run or made.
    std::function<std::string(const Setup&)> too_large;
    std::function<void(double share)> progress;
  };
  RuntimeObjective(Tools tools, Configuration defaults, int pairs);
  /// Throws Error where the defaults themselves do not run, twice: then no round can be measured.
  Outcome evaluate(const Configuration& configuration, const Report& report = {}) override;

 private:
  Measurement time(const Setup& setup, const Setup& stock) const;
  Outcome measure(const Configuration& configuration);
  Setup setup(const Configuration& configuration) const;

  Tools tools_;
  Configuration defaults_;
  int pairs_;
};

}  // namespace haqa
