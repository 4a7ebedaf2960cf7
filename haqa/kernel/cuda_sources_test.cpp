// The CUDA sources, compiled by nvcc where it is installed: there need be no device.
#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>

#include "haqa/base/file.h"
#include "haqa/base/parallel.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/cuda_runner.h"
#include "haqa/space/space_file.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

const fs::path kKernels = fs::path(HAQA_SOURCE_DIR) / "kernels";

std::string find_nvcc() {
  std::istringstream folders(environment("PATH") + ":/usr/local/cuda/bin");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (const fs::path at = fs::path(folder) / "nvcc"; access(at.c_str(), X_OK) == 0) return at;
  return "";
}

/// The engine's object in the specification.
Json engine_of(const std::string& kernel) {
  return read_json(kKernels / kernel / "spec.json").at("Engines").at("cuda");
}

struct Build {
  std::string kernel, weights;
  Configuration configuration;
  std::vector<std::string> architectures;
};

/// The defaults for three architectures; of what has most to choose, other types of weights and another configuration
/// for one of them.
std::vector<Build> builds() {
  std::vector<Build> builds;
  std::mt19937_64 random(3);
  for (const char* kernel : {"softmax", "silu", "swiglu", "rms_norm", "rms_norm_mul", "rope", "matmul", "matvec"}) {
    const SearchSpace space = space_from_t1(engine_of(kernel).at("ConfigurationSpace"));
    const bool is_matvec = std::string_view(kernel) == "matvec";
    builds.push_back({kernel, is_matvec ? "3" : "0", space.defaults(), {"80", "86", "90"}});
    if (is_matvec) builds.push_back({kernel, "1", space.defaults(), {"80"}});
    if (space.parameters().size() < 10) continue;
    Configuration other = space.sample(random);
    while (!space.allows(other)) other = space.sample(random);
    builds.push_back({kernel, is_matvec ? "2" : "0", other, {is_matvec ? "90" : "86"}});
  }
  return builds;
}

std::vector<std::string> words_for(const std::string& nvcc, const Build& build, const fs::path& output) {
  std::vector<std::string> words = {
      nvcc, "-fatbin", "-std=c++17", "-w", "-o", output.string(), "-DHAQA_WEIGHTS=" + build.weights};
  for (const std::string& a : build.architectures)
    words.insert(words.end(), {"-gencode", "arch=compute_" + a + ",code=sm_" + a});
  for (const auto& [name, value] : build.configuration.items())
    words.push_back("-D" + name + "=" + (value.is_string() ? value.get<std::string>() : value.dump()));
  words.push_back((kKernels / build.kernel / "cuda.cu").string());
  return words;
}

TEST(CudaSources, CompileForThreeArchitectures) {
  const std::string nvcc = find_nvcc();
  if (nvcc.empty()) GTEST_SKIP() << "nvcc is not installed";
  const std::vector<Build> all = builds();
  const TemporaryFolder folder;
  std::vector<ProcessResult> results(all.size());
  parallel_for(
      all.size(), [&](size_t i) { results[i] = run_process({words_for(nvcc, all[i], folder / std::to_string(i))}); },
      {}, 2);
  for (size_t i = 0; i < all.size(); ++i)
    EXPECT_TRUE(results[i].ok()) << all[i].kernel << " " << all[i].configuration << "\n" << results[i].errors;
}

TEST(CudaSources, AreWhatARunnerTakes) {
  for (const char* kernel : {"softmax", "silu", "swiglu", "rms_norm", "rms_norm_mul", "rope", "matmul", "matvec"}) {
    const Json engine = engine_of(kernel);
    const Configuration defaults = space_from_t1(engine.at("ConfigurationSpace")).defaults();
    KernelSpec spec;
    spec.shape_names = std::string(kernel).starts_with("mat") ? std::vector<std::string>{"m", "n", "k"}
                                                              : std::vector<std::string>{"ne0", "ne1", "ne2"};
    KernelArgument argument;
    for (const std::string& name : spec.shape_names) argument.size.emplace_back(name);
    spec.arguments = {argument};
    EXPECT_NO_THROW(build_cuda_variant(spec, read_file(kKernels / kernel / "cuda.cu"), defaults, {}, {},
                                       {engine.at("ProblemSize"), engine.at("Block")}))
        << kernel;
  }
}

}  // namespace
}  // namespace haqa
