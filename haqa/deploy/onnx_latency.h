#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/base/progress.h"
#include "haqa/base/stats.h"

namespace haqa {

/// The Python that has ONNX Runtime, in an environment in the cache folder, which the first call makes
/// (python_environment.h). Throws Error where it cannot.
std::filesystem::path onnx_python(Progress& progress);

/// How long ONNX Runtime takes for one image on this machine's processor, on all its cores.
struct OnnxLatency {
  Estimate ms;          ///< milliseconds
  Estimate over_first;  ///< how many times as fast as the first file, by neighbours in time
};
struct OnnxLatencies {
  std::string runtime;  ///< "onnxruntime 1.32.0"
  int threads = 0;
  std::vector<OnnxLatency> files;
};
/// Of networks that take images of this shape (channels, height, width), in turns. Throws Error where ONNX Runtime does
/// not run one.
OnnxLatencies onnx_latencies(const std::filesystem::path& python, const std::vector<std::filesystem::path>& files,
                             const std::vector<int>& image);

}  // namespace haqa
