#pragma once
#include <vector>

namespace haqa {

/// The instruction sets of kernels/CMakeLists.txt that this processor has, best first; empty where it has none.
std::vector<const char*> processor_levels();

}  // namespace haqa
