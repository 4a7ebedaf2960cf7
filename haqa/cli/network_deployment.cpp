#include "haqa/cli/network_deployment.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/deploy/onnx_runtime.h"
#include "haqa/finetune/bit_width_choice.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// Networks to be weighed against the first.
struct Exported {
  std::vector<std::string> names;
  std::vector<fs::path> files;
  std::vector<int> image;  ///< channels, height, width
};

void add_untuned(const ImageObjective& objective, const std::string& name, const LayerBits& bits,
                 const fs::path& folder, Exported& exported) {
  const fs::path file = folder / (name + ".onnx");
  exported.image = objective.export_untuned(bits, file).at("image").get<std::vector<int>>();
  exported.names.push_back(name);
  exported.files.push_back(file);
}

Json to_json(const Estimate& e) {
  return {{"median", e.median}, {"low", e.low}, {"high", e.high}};
}

/// {"runtime", "threads", "candidates"}; python: nothing where latency and memory are not measured.
Json weighed(const Exported& exported, const std::optional<fs::path>& python) {
  const auto full = static_cast<double>(fs::file_size(exported.files.front()));
  Json rows = Json::array();
  for (size_t i = 0; i < exported.files.size(); ++i) {
    const uint64_t bytes = fs::file_size(exported.files[i]);
    rows.push_back({{"bit_width", exported.names[i]},
                    {"bytes", bytes},
                    {"size_ratio", static_cast<double>(bytes) / full},
                    {"latency_ms", nullptr},
                    {"speed_up", nullptr},
                    {"memory_bytes", nullptr}});
  }
  if (!python) return {{"runtime", nullptr}, {"threads", nullptr}, {"candidates", rows}};
  const OnnxCosts found = onnx_costs(*python, exported.files, exported.image);
  for (size_t i = 0; i < found.files.size(); ++i) {
    rows[i]["latency_ms"] = to_json(found.files[i].ms);
    rows[i]["speed_up"] = to_json(found.files[i].over_first);
    rows[i]["memory_bytes"] = found.files[i].memory_bytes;
  }
  return {{"runtime", found.runtime}, {"threads", found.threads}, {"candidates", rows}};
}

/// ONNX Runtime's Python; nothing where it cannot be had and is not needed.
std::optional<fs::path> python_for(const DeploymentLimits& limits, Progress& progress) {
  try {
    return onnx_python(progress);
  } catch (const Interrupted&) {
    throw;
  } catch (const Error& error) {
    std::vector<std::string> needing;
    if (limits.latency_ms) needing.emplace_back("finetune.latency_limit_ms");
    if (limits.memory_bytes) needing.emplace_back("finetune.inference_memory_limit");
    if (!needing.empty()) throw Error("{}; without {} it is not needed", error.what(), fmt::join(needing, " and "));
    progress.note(fmt::format("neither latency nor memory is measured: {}", error.what()));
    return std::nullopt;
  }
}

}  // namespace

Json measure_candidates(const ImageObjective& objective, Progress& progress) {
  const ImageSetup& setup = objective.setup();
  const std::optional<fs::path> python = python_for(setup.limits, progress);
  const TemporaryFolder folder;
  Exported exported;
  progress.step("size, latency and memory of the deployed network at each bit width");
  add_untuned(objective, kFloats, kUnquantized, folder.path(), exported);
  for (const LayerBits& bits : setup.choices()) add_untuned(objective, to_string(bits), bits, folder.path(), exported);
  Json measured = weighed(exported, python);
  progress.done();
  within_limits(measured["candidates"], setup.limits);  // throws where there is none
  for (Json& row : measured["candidates"]) {
    const std::string broken = broken_limits(row, setup.limits);
    if (broken.empty() || row[kBitWidth] == kFloats) continue;
    row["left_out"] = broken;
    progress.note(fmt::format("{} is left out: {}", row[kBitWidth].get<std::string>(), broken));
  }
  return measured;
}

Json measure_trained(const ImageObjective& objective, const LayerBits& bits, const fs::path& file, const Json& measured,
                     Progress& progress) {
  const bool timed = !measured.at("runtime").is_null();
  const std::optional<fs::path> python = timed ? python_for({}, progress) : std::nullopt;
  const TemporaryFolder folder;
  Exported exported;
  progress.step("size, latency and memory of the network that was trained");
  add_untuned(objective, kFloats, kUnquantized, folder.path(), exported);
  exported.names.push_back(to_string(bits));
  exported.files.push_back(file);
  Json row = weighed(exported, python).at("candidates").back();
  if (const std::string broken = broken_limits(row, objective.setup().limits); !broken.empty()) row["broken"] = broken;
  progress.done();
  return row;
}

}  // namespace haqa
