#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/base/progress.h"
#include "haqa/base/stats.h"

namespace haqa {

/// The Python that has ONNX Runtime, in an environment in the cache folder, which the first call makes
/// (python_environment.h). Throws Error where it cannot.
std::filesystem::path onnx_python(Progress& progress);

/// What ONNX Runtime takes for one image on this machine's processor, on all its cores.
struct OnnxCost {
  Estimate ms;                ///< milliseconds
  Estimate over_first;        ///< how many times as fast as the first file, by neighbours in time
  uint64_t memory_bytes = 0;  ///< by which a process that has ONNX Runtime grows, at most, to load the file and run it
};
struct OnnxCosts {
  std::string runtime;  ///< "onnxruntime 1.32.0"
  int threads = 0;
  std::vector<OnnxCost> files;
};
/// Of networks that take images of this shape (channels, height, width), in turns; memory in processes of their own.
/// Throws Error where ONNX Runtime does not run one.
OnnxCosts onnx_costs(const std::filesystem::path& python, const std::vector<std::filesystem::path>& files,
                     const std::vector<int>& image);

}  // namespace haqa
