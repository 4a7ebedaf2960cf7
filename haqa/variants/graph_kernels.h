#pragma once
#include <string>
#include <vector>

#include "haqa/deploy/benchmark.h"
#include "haqa/kernel/kernel_spec.h"
#include "haqa/model/model_info.h"

namespace haqa {

/// A kernel as the module runs it in a model's graph: one variant serves all of its shapes.
struct GraphKernel {
  std::string kernel;
  ElementType type = ElementType::f32;
  /// What it computes there, of a token and of a prompt; the first is what a token spends most on.
  std::vector<KernelProblem> problems;
  double share = 0;  ///< of the bytes that generating a token reads and writes

  std::string name() const;  ///< "matvec-Q4_0"
};

/// The kernels of a LLaMA's graph that the module can run with these options, those with the largest share first.
/// Empty for another architecture, whose graph is not known.
std::vector<GraphKernel> kernels_of_graph(const ModelInfo& model, const RuntimeOptions& options,
                                          const Workload& workload);

}  // namespace haqa
