#include "haqa/kernel/compiler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <regex>
#include <sstream>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/file_name.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/base/text.h"
#include "haqa/kernel/contestant.h"
#include "haqa/kernel/kernel_library.h"
#include "haqa/kernel/kernel_spec.h"
#include "haqa/kernel/sandbox.h"
#include "haqa/kernel/source_check.h"
#include "haqa/worker/process.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr double kTimeLimit = 60;
constexpr uint64_t kMemoryLimit = uint64_t{4} << 30;
constexpr uint64_t kLargestFile = 64 << 20;
/// Tens of KB each, and built again in less than a second.
constexpr size_t kMostCached = 4000;

std::optional<fs::path> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos)
    return access(name.c_str(), X_OK) == 0 ? std::optional<fs::path>(name) : std::nullopt;
  std::istringstream folders(environment("PATH"));
  for (std::string folder; std::getline(folders, folder, ':');)
    if (const fs::path at = fs::path(folder) / name; access(at.c_str(), X_OK) == 0) return at;
  return std::nullopt;
}

/// With their texts.
std::map<std::string, std::string> kernel_headers() {
  std::map<std::string, std::string> headers;
  for (const std::string& path : header_paths()) headers[path] = read_file(kernels_folder() / path);
  return headers;
}

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  std::string text;
  for (std::string line; std::getline(info, line) && !line.empty();)
    for (const char* key : {"model name", "flags", "Features", "CPU part", "CPU implementer"})
      if (line.starts_with(key)) text += line + '\n';
  return text;
}

/// A compiler is the same as long as its file is.
std::string version_of(const fs::path& program) {
  struct stat s = {};
  const fs::path real = fs::canonical(program);
  if (stat(real.c_str(), &s) != 0) return real.string();
  return fmt::format("{} {} {}", real.string(), s.st_size, s.st_mtim.tv_sec);
}

/// Twice, as 64 bits are few for a name that code is found by: 32 hexadecimal digits.
std::string hash_of(const std::string& text) {
  return fmt::format("{:016x}{:016x}", fnv1a_64(text), fnv1a_64("again " + text));
}

std::string macro_of(const std::string& name, const Json& value) {
  const Json number = value.is_boolean() ? Json(value.get<bool>() ? 1 : 0) : value;
  return fmt::format("{}={}", name, number.is_string() ? number.get<std::string>() : number.dump());
}

std::vector<std::string> options_of(const SourceVariant& variant) {
  std::vector<std::string> options = {"-std=c++20",
                                      "-O3",
                                      "-march=native",
                                      "-fno-math-errno",
                                      "-ffp-contract=fast",
                                      "-fno-exceptions",
                                      "-fno-rtti",
                                      "-nostartfiles",
                                      "-fno-plt",
                                      "-shared",
                                      "-fPIC",
                                      "-w",
                                      "-fdiagnostics-color=never",
                                      "-fmax-errors=5"};
  for (const std::string& o : variant.options) options.push_back(o);
  for (const std::string& macro : macros_of(variant)) options.push_back("-D" + macro);
  return options;
}

fs::path compiler_of(const Configuration& parameters) {
  const std::vector<std::string> installed = installed_compilers();
  if (installed.empty())
    throw UsageError("there is no C++ compiler to build kernels with; install one: apt-get install g++");
  const Json wanted = parameters.value("compiler", Json());
  const std::string name = wanted.is_string() ? wanted.get<std::string>() : installed.front();
  const auto program = find_program(name);
  if (!program || std::find(installed.begin(), installed.end(), name) == installed.end())
    throw UsageError("the compiler {} is not installed", one_line(name, 40));
  return *program;
}

/// The messages as the source's author can use them: without our folders, the first of them.
std::string messages_of(const std::string& errors, const fs::path& folder) {
  std::string text = std::regex_replace(errors, std::regex(folder.string() + "/?"), "");
  text = std::regex_replace(text, std::regex("code/code.cpp"), "code");
  std::istringstream lines(printable(text));
  std::string kept;
  for (std::string line; std::getline(lines, line) && kept.size() < 1500;)
    if (line.find("In file included") == std::string::npos) kept += line + '\n';
  while (!kept.empty() && kept.back() == '\n') kept.pop_back();
  return shortened(kept, 1500);
}

std::string with_include(const std::string& source) {
  return source.find("kernel.h\"") == std::string::npos ? "#include \"kernel.h\"\n#line 1\n" + source : source;
}

fs::path notes_of(fs::path library) {
  return library.replace_extension(".passed");
}

/// Lines, each with its end.
std::string passes_of(const fs::path& library) {
  std::ifstream notes(notes_of(library));
  return {std::istreambuf_iterator<char>(notes), {}};
}

}  // namespace

std::vector<std::string> installed_compilers() {
  std::vector<std::string> names;
  for (const std::string& name : {environment("CXX"), std::string("g++"), std::string("clang++")})
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end() && find_program(name))
      names.push_back(name);
  return names;
}

void keep_newest(const fs::path& folder, size_t most) {
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  std::error_code gone;  // another process may do the same
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, gone))
    if (entry.path().extension() == ".so") files.emplace_back(entry.last_write_time(gone), entry.path());
  if (files.size() <= most) return;
  std::sort(files.begin(), files.end());
  for (size_t i = 0; i < files.size() - most / 2; ++i) {
    fs::remove(files[i].second, gone);
    forget_passed(files[i].second);
  }
}

std::vector<std::string> macros_of(const SourceVariant& variant) {
  std::vector<std::string> macros = variant.defines;
  for (const auto& [name, value] : variant.parameters.items())
    if (name != "threads" && name != "compiler") macros.push_back(macro_of(name, value));
  return macros;
}

Compiled compile(const SourceVariant& variant, bool again) {
  if (const auto refused = refused_in_source(variant.source))
    throw KernelFault(KernelFaultKind::refused_source, "the source holds " + *refused);
  const auto start = std::chrono::steady_clock::now();
  const fs::path compiler = compiler_of(variant.parameters);
  const std::vector<std::string> options = options_of(variant);
  const std::string source = with_include(variant.source);
  const std::map<std::string, std::string> headers = kernel_headers();
  const std::string key = hash_of(fmt::format("{}\n{}\n{}\n{}\n{}", version_of(compiler), processor(),
                                              fmt::join(options, "\n"), fmt::join(headers, "\n"), source));
  const fs::path cache = cache_folder() / "kernels";
  Compiled result{cache / (key + ".so"), 0, true};
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  if (again || !fs::exists(result.library)) {
    result.cached = false;
    make_folder(cache);
    const TemporaryFolder folder;
    make_folder(folder / "code");
    write_file(folder / "code/code.cpp", source);
    for (const auto& [name, text] : headers) {
      make_folder((folder / name).parent_path());
      write_file(folder / name, text);
    }
    Command command{
        {(program_folder() / "haqa-kernel").string(), "--confined", folder.path().string(), compiler.string()}};
    for (const std::string& o : options) command.argv.push_back(o);
    for (const char* word : {"-I", ".", "-o", "code.so", "code/code.cpp"}) command.argv.emplace_back(word);
    command.timeout_s = kTimeLimit;
    command.memory_bytes = kMemoryLimit;
    const ProcessResult process = run_process(command);
    if (process.end == ProcessEnd::timed_out)
      throw KernelFault(KernelFaultKind::timed_out, fmt::format("compiling it takes more than {} s", kTimeLimit));
    if (!process.ok())
      throw KernelFault(KernelFaultKind::does_not_compile,
                        process.errors.empty() ? process.describe() : messages_of(process.errors, folder.path()));
    if (const auto code = runs_when_loaded(folder / "code.so"))
      throw KernelFault(
          KernelFaultKind::refused_source,
          "the source has " + *code + "; a kernel has neither static objects with constructors nor the like");
    PendingFile file(result.library);
    fs::copy_file(folder / "code.so", file.path());
    file.commit();
    keep_newest(cache, kMostCached);
  }
  result.seconds = seconds();
  return result;
}

bool has_passed(const fs::path& library, const std::string& what) {
  return ("\n" + passes_of(library)).find("\n" + what + "\n") != std::string::npos;
}

void note_passed(const fs::path& library, const std::string& what) {
  if (has_passed(library, what)) return;
  const fs::path notes = notes_of(library), part = fmt::format("{}.{}", notes.string(), getpid());
  std::ofstream(part) << passes_of(library) << what << '\n';
  std::error_code lost;
  fs::rename(part, notes, lost);
}

void forget_passed(const fs::path& library) {
  std::error_code gone;
  fs::remove(notes_of(library), gone);
}

std::optional<fs::path> prebuilt_variant(const std::string& kernel, std::string_view type) {
  const std::vector<fs::path> variants = default_variants(program_folder() / "kernels", kernel, type);
  return variants.empty() ? std::nullopt : std::optional(variants.front());
}

int run_confined(int argc, char** argv) {
  if (argc < 4) throw UsageError("this program answers haqa");
  const fs::path folder = argv[2];
  // The compiler's own files may lie elsewhere than the system's.
  fs::path tools = fs::canonical(fs::path(argv[3])).parent_path();
  if (tools.filename() == "bin" && tools.parent_path() != fs::path(environment("HOME"))) tools = tools.parent_path();
  limit_files(kLargestFile);
  confine_files({"/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/alternatives",
                 tools == "/" ? fs::path("/usr") : tools},
                {folder, "/dev/null"});
  if (chdir(folder.c_str()) != 0) throw Error("{}: {}", folder.string(), std::strerror(errno));
  setenv("TMPDIR", folder.c_str(), 1);
  execv(argv[3], argv + 3);
  throw Error("{} cannot be started: {}", argv[3], std::strerror(errno));
}

}  // namespace haqa
