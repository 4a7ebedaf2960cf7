#pragma once
#include <string>
#include <vector>

#include "haqa/kernel/kernel_objective.h"

namespace haqa {

/// What the prompt of a kernel's rounds says before any trial (data/prompts/kernel.md): the machine, the kernel with
/// its defaults, and the code that runs it with all that it includes. `model`: whose kernels they are; `titles`: of all
/// that are tuned.
/// timing: the name of the text that says how a right variant is judged.
std::string kernel_brief(const KernelTask& task, const Configuration& defaults, const std::string& model,
                         const std::vector<std::string>& titles, const std::string& timing = "kernel_alone");

}  // namespace haqa
