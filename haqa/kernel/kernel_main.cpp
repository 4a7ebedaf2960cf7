// haqa-kernel: the worker that compiles, verifies and times kernels. haqa starts it (worker/worker.h has the protocol);
// it starts itself for what nobody has read: a compiler with a strange source, and a variant, each in a sandbox.
#include <signal.h>

#include <cstdio>
#include <string_view>

#include "haqa/base/error.h"
#include "haqa/kernel/compiler.h"
#include "haqa/kernel/cpu_runner.h"
#include "haqa/kernel/cuda_runner.h"
#include "haqa/kernel/measure.h"
#include "haqa/kernel/opencl_runner.h"
#include "haqa/kernel/runner.h"
#include "haqa/worker/worker.h"

namespace {

haqa::Json handle(const haqa::Json& request, const std::function<void(double)>& progress) {
  const std::string command = request.at("command");
  if (command == "verify" || command == "measure") return haqa::measure_kernel(request, progress);
  throw haqa::Error("haqa-kernel knows no command \"{}\"", command);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  try {
    if (mode == "--confined") return haqa::run_confined(argc, argv);
    if (mode == "--runner") {
      if (argc < 7) throw haqa::UsageError("this program answers haqa");
      haqa::run_cpu_variant(haqa::runner_arguments(argc, argv), argv[6]);
      return 0;
    }
    // Engines of devices: the mode is "--" and the engine's name.
    if (mode == "--opencl" || mode == "--cuda") {
      if (argc < 7) throw haqa::UsageError("this program answers haqa");
      const auto run = mode == "--cuda" ? haqa::run_cuda_variant : haqa::run_opencl_variant;
      run(haqa::runner_arguments(argc, argv), argv[6]);
      return 0;
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "haqa-kernel: %s\n", e.what());
    return 1;
  }
  signal(SIGPIPE, SIG_IGN);
  return haqa::serve_worker(handle);
}
