#pragma once
#include <string>
#include <vector>

namespace haqa {

/// The instruction sets of kernels/CMakeLists.txt that this processor has, best first; empty where it has none.
std::vector<const char*> processor_levels();

/// Of this machine, as tuning files of the module carry it (docs/plugin.md): its name, those instruction sets, and a
/// number of all that compilers may use besides, which differs between virtual machines of one name.
std::string processor_identity();

}  // namespace haqa
