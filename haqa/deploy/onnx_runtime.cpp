#include "haqa/deploy/onnx_runtime.h"

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/json.h"
#include "haqa/deploy/python_environment.h"

namespace haqa {
namespace fs = std::filesystem;
namespace {

constexpr const char* kVersion = "1.32.0";
constexpr double kTimeout = 600;  // seconds; the script ends by itself long before

Estimate milliseconds(const std::vector<double>& seconds) {
  std::vector<double> all;
  for (const double s : seconds) all.push_back(1e3 * s);
  return estimate_median(all);
}

Estimate ratio(const std::vector<double>& first, const std::vector<double>& seconds) {
  std::vector<double> ratios;
  for (size_t i = 0; i < seconds.size(); ++i) ratios.push_back(first.at(i) / seconds[i]);
  return estimate_median(ratios);
}

}  // namespace

fs::path onnx_python(Progress& progress) {
  const auto make = [](const fs::path& venv) {
    ProcessResult made = make_venv(venv);
    return made.ok() ? install_packages(venv, {std::string("onnxruntime==") + kVersion}, "numpy, onnxruntime") : made;
  };
  return python_of({std::string("onnxruntime-") + kVersion, "ONNX Runtime", make}, progress);
}

OnnxCosts onnx_costs(const fs::path& python, const std::vector<fs::path>& files, const std::vector<int>& image) {
  Json request = {{"files", Json::array()}, {"image", image}, {"threads", 0}};
  for (const fs::path& file : files) request["files"].push_back(fs::absolute(file).string());
  Command command{{python, data_folder() / "onnx_runtime.py"}};
  command.input = request.dump();
  command.timeout_s = kTimeout;
  const ProcessResult run = run_process(command);
  if (!run.ok()) throw Error("ONNX Runtime does not run the exported networks: {}", run.describe());
  const Json told = Json::parse(run.output);
  OnnxCosts found{told.at("runtime"), told.at("threads"), {}};
  const auto seconds = told.at("seconds").get<std::vector<std::vector<double>>>();
  const auto memory = told.at("memory_bytes").get<std::vector<uint64_t>>();
  for (size_t i = 0; i < seconds.size(); ++i)
    found.files.push_back({milliseconds(seconds[i]), ratio(seconds.front(), seconds[i]), memory.at(i)});
  return found;
}

}  // namespace haqa
