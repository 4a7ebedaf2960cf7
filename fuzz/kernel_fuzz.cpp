// Any file is a kernel's specification or an Error, and what a specification says can be asked for every held-out
// shape. Any text is a source that may be compiled, or is refused: what its preprocessor reads is known, and includes
// no file by a path of its own.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <vector>

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

void check(bool holds) {
  if (!holds) std::abort();
}

/// What was read once reads the same again: no comment, no continued line is left. A source that may be compiled names
/// no file of its own, and one for a device none at all.
void check_source(const std::string& text) {
  static const std::regex include(R"(^ ?# ?include)"), foreign(R"(^ ?# ?include ?["<][./]*/)");
  for (const auto language : {haqa::SourceLanguage::cpp, haqa::SourceLanguage::device}) {
    const bool is_device = language == haqa::SourceLanguage::device;
    const bool refused = (is_device ? haqa::refused_in_device_source(text) : haqa::refused_in_source(text)).has_value();
    try {
      std::string again;
      const std::vector<haqa::SourceLine> lines = haqa::source_lines(text, language);
      for (const haqa::SourceLine& line : lines) again += line.text + '\n';
      const std::vector<haqa::SourceLine> same = haqa::source_lines(again, language);
      check(same.size() == lines.size() + 1);
      for (size_t i = 0; i < lines.size(); ++i) {
        check(same[i].code == lines[i].code && same[i].words == lines[i].words && same[i].texts == lines[i].texts);
        const bool asks = std::regex_search(lines[i].text.substr(0, 100), is_device ? include : foreign);
        check(refused || !asks || lines[i].text.find("../") != std::string::npos);
      }
    } catch (const haqa::AmbiguousSource&) {
      check(refused);
    }
  }
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
      for (const char* file : {"cpu.cpp", "opencl.cl"})
        if (const auto source = haqa::kernels_folder() / name / file; std::filesystem::exists(source))
          std::ofstream(corpus / ("seed-" + name + "-" + file)) << haqa::read_file(source);
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
  check_source(text);
  return 0;
}
