#pragma once
#include <functional>
#include <span>
#include <string>
#include <variant>

#include "haqa/deploy/benchmark.h"
#include "haqa/kernel/kernel_objective.h"
#include "haqa/variants/graph_kernels.h"
#include "haqa/variants/tuning_file.h"

namespace haqa {

/// What of a kernel can be tuned where the module runs it: its team's threads are llama.cpp's, and its weights are
/// packed always.
SearchSpace variant_space(const KernelSpec& spec, std::span<const std::string> compilers, bool with_code);
/// The keys of an agent's answers for it.
std::vector<AnswerName> variant_answer_names(const KernelSpec& spec, const SearchSpace& space, bool with_code);

/// Measures variants of one kernel in the model that they are to serve: each is compiled, verified by the judge on all
/// shapes that the model has, and only then loaded by unmodified llama-bench, in turn with the tuning so far. Value:
/// how many times as fast the whole model is.
class VariantObjective : public Objective {
 public:
  struct Tools {
    Benchmark benchmark;
    std::function<Setup()> setup;  ///< the model with options that run the module; its tuning is set here
    std::function<void(double)> progress;
  };
  /// task: the kernel's, its problem any. folder: where tuning files are written, with variants and their sources in
  /// folders beside them. so_far: which kernels serve until one of these is accepted.
  VariantObjective(KernelTask task, GraphKernel kernel, std::filesystem::path folder, ModelTuning so_far, int pairs,
                   Tools tools);

  Outcome evaluate(const Configuration& configuration, const Report& report = {}) override;

  /// Stock code in this kernel's place, against the tuning so far. Throws WorkerError, as all that runs llama.cpp.
  Comparison compare_stock();
  /// A variant that was measured, in fresh pairs; fewer where half of them say that it is no better. Throws
  /// WorkerError.
  Comparison confirm(const ModelTuning& tuning, int pairs);
  ServedVariant variant_of(const Trial& trial) const;

  const GraphKernel& kernel() const { return kernel_; }
  const ModelTuning& so_far() const { return so_far_; }
  /// From here on against another one.
  void begin_from(ModelTuning tuning);

 private:
  std::variant<ServedVariant, Outcome> build(const Configuration& configuration);
  ServedVariant named(const std::string& stem, const std::string& hash, Configuration configuration) const;
  ServedVariant keep(const Configuration& configuration, const std::filesystem::path& library) const;
  Setup with(const ModelTuning& tuning, const std::string& file) const;
  Measurement time_incumbent(const Setup& setup) const;
  Comparison compare_with(const ModelTuning& tuning, int pairs,
                          const std::function<bool(const Comparison&)>& is_hopeless);

  KernelTask task_;
  GraphKernel kernel_;
  std::filesystem::path folder_;
  ModelTuning so_far_;
  int pairs_;
  Tools tools_;
};

/// Whether fresh pairs say beyond the noise that it is faster.
bool is_faster(const Comparison& comparison);

}  // namespace haqa
