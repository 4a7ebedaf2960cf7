#pragma once
#include <filesystem>

#include "haqa/kernel/protocol.h"

namespace haqa {

/// Builds a variant (device_variant.h) for an OpenCL device and serves the judge until standard input ends. OpenCL is
/// looked for at run time alone. The device: the first whose name contains $HAQA_OPENCL_DEVICE where that is set, else
/// the first GPU, else the first. A driver needs files, threads and ioctls, so the process is not confined as that of a
/// CPU variant is: the source is looked through before (refused_in_device_source()), and the judge ends what hangs.
void run_opencl_variant(const RunnerArguments& arguments, const std::filesystem::path& file);

/// The name of the device that variants would run on. Throws UsageError that says what is missing.
std::string opencl_device_name();

}  // namespace haqa
