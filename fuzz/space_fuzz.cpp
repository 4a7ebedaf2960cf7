// Any file is a search space or an Error; a space is written and read again the same, and its samples are valid.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "haqa/base/error.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/space/space_file.h"

namespace {

const haqa::TemporaryFolder& folder() {
  static const haqa::TemporaryFolder made;
  return made;
}

haqa::SearchSpace read(std::string_view content) {
  std::ofstream(folder() / "space.yaml") << content;
  return haqa::read_space(folder() / "space.yaml");
}

void require(bool truth) {
  if (!truth) std::abort();
}

}  // namespace

/// Leaves a space with every key, and one of Kernel Tuner's, in the corpus.
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  for (int i = 1; i < *argc; ++i) {
    const std::filesystem::path corpus = (*argv)[i];
    if (!std::filesystem::is_directory(corpus)) continue;
    std::ofstream(corpus / "seed-space")
        << "o: {type: categorical, choices: [a, b, 3], default: a, description: x}\n"
           "l: {type: float, low: 1e-5, high: 0.1, log: true, unit: s}\n"
           "m: {type: int, low: 8, high: 64, step: 8, when: o == 'a' and not l > 1}\n"
           "b: {type: bool}\nconstraints: [m * 2 <= 96 or b, min(m, -3) ** 2 // 4 in [1, 2.5, 'x']]\n";
    std::ofstream(corpus / "seed-t1")
        << R"t1({"ConfigurationSpace": {"TuningParameters": [{"Name": "x", "Type": "int", "Values": "range(1, 9, 2)"},)t1"
        << R"t1( {"Name": "y", "Type": "string", "Values": "['p', 'q']"}],)t1"
        << R"t1( "Conditions": [{"Expression": "x % 3 == 1 or y == 'q'"}]}})t1";
    break;
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const haqa::SearchSpace space = read({reinterpret_cast<const char*>(data), size});
    std::mt19937_64 random(1);
    for (int i = 0; i < 3; ++i) {
      const haqa::Configuration c = space.sample(random);
      require(!space.problem(c) && !space.problem(space.neighbour(c, random)));
      for (const double x : space.encode(c)) require(x >= 0 && x <= 1 + 1e-9);
    }
    const haqa::Json written = haqa::to_json(space);
    require(haqa::to_json(read(written.dump(-1, ' ', false, haqa::Json::error_handler_t::replace))) == written);
  } catch (const haqa::Error&) {
  }
  return 0;
}
