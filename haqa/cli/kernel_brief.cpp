#include "haqa/cli/kernel_brief.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <regex>

#include "haqa/base/bytes.h"
#include "haqa/base/file.h"
#include "haqa/cli/agent_setup.h"
#include "haqa/cli/facts.h"
#include "haqa/kernel/source_check.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

/// Whether a kernel's data stays near the cores, which decides how it is best read and written (data/priors/).
std::string data_text(const KernelTask& task) {
  const auto bytes = static_cast<uint64_t>(bytes_of(task.spec, task.problem));
  uint64_t near = 0;
  for (const Cache& c : task.hardware.caches)
    if (c.level == 2) near += c.bytes * static_cast<uint64_t>(c.count);
  if (near == 0) return format_bytes(bytes);
  return fmt::format("{}, {} the second-level caches hold", format_bytes(bytes), bytes > near ? "more than" : "which");
}

/// Of an element: absolute, relative to what is right, and relative to the root of the sum of squares of what is added.
Json tolerance_facts(const Tolerance& tolerance) {
  Json facts = Json::object();
  if (tolerance.absolute > 0) facts["absolute"] = tolerance.absolute;
  if (tolerance.relative > 0) facts["relative"] = tolerance.relative;
  if (tolerance.norm > 0) facts["norm"] = tolerance.norm;
  return facts;
}

/// What the paper's prompt says of a kernel: its tensors, and what it runs with by default.
Json kernel_facts(const KernelTask& task, const Configuration& defaults) {
  const std::vector<TensorShape> shapes = tensors_of(task.spec, task.problem);
  Json facts = {{"kernel", task.spec.name + ": " + task.spec.description},
                {"tensor type", to_string(task.problem.type)}};
  for (size_t i = 0; i < shapes.size(); ++i)
    facts[i + 1 == shapes.size() ? "output tensor shape" : fmt::format("src{} tensor shape", i)] = shapes[i].ne;
  for (const auto& [name, value] : task.spec.scalars) facts["scalars"].push_back({{name, value}});
  facts["read and written"] = data_text(task);
  facts["tolerance"] = tolerance_facts(task.spec.tolerance_of(task.problem.type));
  facts["default configuration"] = defaults;
  return facts;
}

/// What a source of the engine may include, for who writes one.
std::string includes_text(const std::string& engine) {
  if (engine == "opencl") return "It includes nothing: opencl.h stands before it.";
  if (engine == "cuda") return "It may include \"../cuda.h\" and nothing else.";
  return fmt::format(
      "It may include {} and the headers shown. It is compiled as C++20 with -O3 -march=native -ffp-contract=fast "
      "-fno-exceptions -fno-rtti. Tensors do not overlap.",
      fmt::join(system_headers(), ", "));
}

/// The headers of ours that a source includes, each once, with their texts; of OpenCL what stands before every source.
void add_headers(const std::string& source, std::vector<std::string>& names, std::string& texts) {
  static const std::regex include(R"re((?:^|\n)#include "(?:\.\./)*([\w/.]+)")re");
  for (std::sregex_iterator found(source.begin(), source.end(), include), end; found != end; ++found) {
    const std::string name = (*found)[1];
    const fs::path file = kernels_folder() / name;
    if (std::find(names.begin(), names.end(), name) != names.end() || !fs::exists(file)) continue;
    names.push_back(name);
    const std::string text = read_file(file);
    texts += fmt::format("This is {}, which it includes:\n```\n{}\n```\n", name, text);
    add_headers(text, names, texts);
  }
}

std::string interface_text(const std::string& engine, const std::string& source) {
  std::vector<std::string> names;
  std::string texts;
  add_headers(engine == "opencl" ? "#include \"opencl.h\"\n" : source, names, texts);
  return texts;
}

}  // namespace

std::string kernel_brief(const KernelTask& task, const Configuration& defaults, const std::string& model,
                         const std::vector<std::string>& titles, const std::string& timing) {
  const std::string source = read_file(task.spec.engines.at(task.engine).source);
  return agent_prompts().render("kernel", {{"model", model},
                                           {"device", task.hardware.name},
                                           {"hardware", to_line(hardware_facts(task.hardware))},
                                           {"kernel", to_line(kernel_facts(task, defaults))},
                                           {"kernels", fmt::format("{}", fmt::join(titles, ", "))},
                                           {"engine", task.engine},
                                           {"code", source},
                                           {"includes", includes_text(task.engine)},
                                           {"interface", interface_text(task.engine, source)},
                                           {"timing", agent_prompts().render(timing, {})}});
}

}  // namespace haqa
