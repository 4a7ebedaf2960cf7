#pragma once
#include <functional>
#include <memory>

#include "haqa/agent/agent_sampler.h"
#include "haqa/base/progress.h"
#include "haqa/cli/finetuning.h"
#include "haqa/cli/quality_check.h"
#include "haqa/cli/task.h"
#include "haqa/cli/variant_tuning.h"
#include "haqa/deploy/bit_width.h"
#include "haqa/deploy/bundle.h"
#include "haqa/deploy/runtime_objective.h"
#include "haqa/report/run_log.h"
#include "haqa/study/study.h"

namespace haqa {

/// What must be right of a task before its run begins, besides what read_task() has seen: its section finetune, where
/// it has one, with all files that a fine-tuning reads. Throws UsageError or Error.
void check_job(const Task& task);

/// The main job: task -> profile -> plan -> rounds -> bundle. Every step that takes time is recorded in the run's log
/// when it is done, and not done again when the run is resumed.
class Job {
 public:
  Job(const Task& task, RunLog& log, Progress& progress);
  ~Job();

  /// Returns the summary, which is on disk then with report.html, suggestions.md and bundle/.
  /// Throws Error where no bit width fits or none runs, and what its steps throw.
  Json run(const std::string& command);

  /// Removes from a finished run's folder what the bundle does not need: formats that lost, logits of the reference.
  static void clean_up(const std::filesystem::path& folder);

 private:
  void profile_hardware();
  void note_other_work();
  void plan();
  void weigh_bit_widths();
  void prepare(BitWidthCandidate& candidate);
  void measure_bit_widths();
  Json measure_formats();
  uint64_t bench_limit() const;
  void ask_bit_width();
  void decide();
  bool asks_again();
  void begin_finetuning();
  Json untuned_accuracy(const std::string& gguf_type);
  struct Deployment;
  void tune();
  int option_rounds() const;
  void run_rounds(int until, const Deployment* deployment);
  void tune_variants();
  bool writes_code() const;
  RuntimeObjective::Tools runtime_tools();
  StudyOptions study_options(int until, bool is_kernel);
  size_t rounds_done(const Deployment* deployment);
  std::filesystem::path served_file(const std::string& gguf_type);
  void verify();
  void measure_accuracy();
  void bundle();
  void summarize_run(const std::string& command);
  void add_finetuning(Json& summary);

  BitWidth source_width() const;
  std::filesystem::path model_file(const std::string& gguf_type);
  ChatProvider& provider();
  int self_context() const;
  int answer_tokens() const;
  void require_room_for_prompt();
  AgentOptions agent_options(bool shows_source = false) const;
  /// round: told with each fault of the agent; 0 for the bit width.
  std::function<void(const AgentEvent&)> agent_events(std::function<size_t()> round);
  Track runtime_track(const std::string& gguf_type);
  Track bit_width_track() const;
  std::string too_large(const Setup& setup) const;
  Setup setup(const Configuration& configuration);

  const Task& task_;
  RunLog& log_;
  Progress& progress_;
  std::unique_ptr<class RecordingProvider> provider_;
  HardwareProfile hardware_;
  ModelInfo model_;
  MemoryPlan plan_;
  std::vector<BitWidthCandidate> candidates_;
  BitWidthDecision decision_;
  std::string gguf_type_;  ///< of the chosen bit width
  std::optional<QualityCheck> quality_;
  std::optional<Finetuning> finetuning_;
  Track track_;  ///< of the run-time options
  std::optional<RuntimeObjective> runtime_;
  std::optional<VariantTuning> variants_;
  std::filesystem::path tuning_;  ///< of the module's kernels, for the best options; empty: as they ship
  Json agent_choice_, verification_;
  Json accuracy_ = Json::object();  ///< of a fine-tuned model, after the rounds
  Configuration winner_;
  Bundle bundle_;
};

}  // namespace haqa
