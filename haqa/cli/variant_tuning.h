#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "haqa/base/progress.h"
#include "haqa/cli/task.h"
#include "haqa/report/run_log.h"
#include "haqa/variants/variant_objective.h"

namespace haqa {

/// The kernels of a run, tuned one after another in the model that is deployed: for each whether stock code is faster,
/// rounds of variants, and the confirmation of the best. Each step is recorded in the run's log when it is done.
class VariantTuning {
 public:
  /// tools: the model with the options that won. Everything must outlive this.
  VariantTuning(const Task& task, const HardwareProfile& hardware, RunLog& log, Progress& progress,
                VariantObjective::Tools tools);
  ~VariantTuning();

  /// Whether a task asks for it, and this machine can: with the module, and a compiler.
  static bool is_possible(const Task& task);
  /// Kernels that a task has rounds for at most.
  static int most_kernels(const Task& task);
  /// Those that are worth it in a model's graph, or that the task names.
  void choose(const ModelInfo& model, const Setup& setup);

  /// A kernel in hand, for the study's rounds.
  struct InHand {
    Track track;
    Objective& objective;
    TrackLog& storage;
  };
  const std::vector<GraphKernel>& kernels() const { return kernels_; }
  size_t begun() const { return found_.size(); }
  /// Compares it with stock code; first_round: the study's rounds before. with_code: for who writes sources.
  InHand begin(size_t kernel, int first_round, bool with_code);
  /// Confirms the best variant against what serves so far, and takes it where that holds.
  void finish(size_t kernel);

  /// Spent on the first of the kernels, in earlier parts of the run too.
  double seconds(size_t kernels) const;
  bool has_time(size_t kernel) const;  ///< to begin with it
  std::string describe(const Trial& trial, const Configuration& defaults) const;

  /// Writes the tuning file; empty where all kernels stay as they ship.
  std::filesystem::path write_file() const;
  Json summary() const;

 private:
  TrackLog& storage_of(const GraphKernel& kernel) const;
  Json compared(const std::string& step, const std::string& what, const std::function<Comparison()>& work);
  Track track_of(const KernelTask& task, const GraphKernel& kernel, int first_round, bool with_code) const;

  const Task& task_;
  const HardwareProfile& hardware_;
  RunLog& log_;
  Progress& progress_;
  VariantObjective::Tools tools_;
  std::filesystem::path folder_;
  std::string model_;
  std::vector<GraphKernel> kernels_;
  std::unique_ptr<VariantObjective> objective_;
  ModelTuning tuning_;
  std::vector<Json> found_;  ///< of each kernel that was begun
};

}  // namespace haqa
