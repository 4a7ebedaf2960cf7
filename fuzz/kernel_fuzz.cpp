// Any file is a kernel's specification or an Error, and what a specification says can be asked for every held-out
// shape. Any text is a source that may be compiled, or is refused; what is compiled includes no file by a path of its
// own.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/compiler.h"
#include "haqa/kernel/kernel_spec.h"
#include "haqa/kernel/source_check.h"

namespace {

const haqa::TemporaryFolder& folder() {
  static const haqa::TemporaryFolder made;
  return made;
}

}  // namespace

/// Leaves what ships in the corpus.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (const char* file : {"cpu.cpp", "opencl.cl", "cuda.cu"}) std::ofstream(folder() / file) << "";
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path corpus = (*argv)[i];
    if (!std::filesystem::is_directory(corpus)) continue;
    for (const std::string& name : haqa::kernel_names()) {
      std::ofstream(corpus / ("seed-" + name)) << haqa::read_file(haqa::kernels_folder() / name / "spec.json");
      std::ofstream(corpus / ("seed-source-" + name)) << haqa::read_file(haqa::kernels_folder() / name / "cpu.cpp");
    }
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    std::ofstream(folder() / "spec.json") << text;
    const haqa::KernelSpec spec = haqa::read_kernel_spec(folder().path());
    for (const haqa::Shape& shape : spec.held_out) {
      haqa::tensors_of(spec, {spec.types.front(), shape});
      haqa::bytes_of(spec, {spec.types.front(), shape});
    }
  } catch (const haqa::Error&) {
  }
  static const std::regex foreign(R"((^|\n)[ \t]*#[ \t]*include[ \t]*"/)");
  if (!haqa::refused_in_source(text) && std::regex_search(text, foreign)) std::abort();
  return 0;
}
