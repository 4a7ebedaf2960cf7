#pragma once
#include <filesystem>

#include "haqa/kernel/protocol.h"

namespace haqa {

/// Runs a compiled variant (kernels/kernel.h) for the judge, in a sandbox that it cannot leave; returns when the judge
/// is done with it.
void run_cpu_variant(const RunnerArguments& arguments, const std::filesystem::path& library);

}  // namespace haqa
