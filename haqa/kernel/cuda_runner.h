#pragma once
#include <array>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/kernel/cuda_api.h"
#include "haqa/kernel/kernel_spec.h"
#include "haqa/kernel/protocol.h"
#include "haqa/kernel/runner.h"

namespace haqa {

/// The device can do no more for this process: the kernel reached for memory that is not its own, or the like.
class DeviceLost : public Error {
 public:
  using Error::Error;
};

/// A CUDA kernel (kernels/cuda.h says what it is given) with all that is needed to compile and to launch it, on any of
/// the shapes that the judge tries. It comes to the process that runs it as a file of JSON:
///   {"source": text, "headers": {name: text}, "defines": ["NAME=value"], "options": [text],
///    "parameters": {name: value}, "shape": {name: [tensor, dimension]},
///    "problem_size": [expression, expression, expression], "block": [number, number, number]}
struct CudaVariant {
  /// Where a name of the shape is read from the tensors that a launch is given: inputs by their number, then the
  /// output.
  struct Place {
    size_t tensor = 0, dimension = 0;
  };
  std::string source;
  std::map<std::string, std::string> headers;  ///< by the names that the source includes them by
  std::vector<std::string> defines, options;
  Configuration parameters;
  std::map<std::string, Place> shape;
  std::array<std::string, 3> problem_size;  ///< threads, over shape and parameters; rounded up to whole blocks
  std::array<unsigned, 3> block = {1, 1, 1};
};

/// What the engine's object in a specification says of launches: "ProblemSize" and "Block".
struct CudaGeometry {
  std::vector<std::string> problem_size;  ///< one to three expressions
  std::vector<std::string> block;         ///< as many names of parameters, or numbers
};

/// Puts a variant together; `defines` are further macros, "HAQA_WEIGHTS=2". Throws KernelFault (refused_source) where
/// the source includes more than kernels/cuda.h, UsageError where the geometry makes no sense.
CudaVariant build_cuda_variant(const KernelSpec& spec, const std::string& source, const Configuration& parameters,
                               const std::vector<std::string>& defines, const std::vector<std::string>& options,
                               const CudaGeometry& geometry);

void write_cuda_variant(const CudaVariant& variant, const std::filesystem::path& file);
/// Throws Error.
CudaVariant read_cuda_variant(const std::filesystem::path& file);

/// Compiles for compute capability `capability` (90, 86): machine code where this NVRTC knows it, else the newest PTX
/// that it does. Throws CompileError.
std::string compile_cuda(const CudaApi& api, const CudaVariant& variant, int capability);

/// Compiles a variant for the first device, on which it then runs. Throws UsageError where there is no device that this
/// NVRTC can compile for, CompileError, Error; its requests throw Error and DeviceLost.
std::unique_ptr<Runner> make_cuda_runner(const CudaApi& api, const RunnerMemory& memory, CudaVariant variant);

/// Answers the judge's requests until it is done with a variant's file; ends the process, after having said why, once
/// the device is lost to it. `open` gives the libraries.
void serve_cuda(const RunnerArguments& arguments, const std::filesystem::path& file,
                const std::function<CudaApi()>& open);

/// The same with the libraries of this machine.
void run_cuda_variant(const RunnerArguments& arguments, const std::filesystem::path& file);

}  // namespace haqa
