#include "haqa/kernel/cuda_runner.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <regex>
#include <set>

#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/kernel/checks.h"
#include "haqa/kernel/compiler.h"
#include "haqa/kernel/contestant.h"
#include "haqa/kernel/source_check.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHeader = "../cuda.h";
constexpr uint64_t kAlignment = 256;  // as the driver allocates
constexpr unsigned kMostThreads = 1024;
constexpr int kNoDevice = 100;
constexpr unsigned kSpin = 1;  // CU_CTX_SCHED_SPIN: waking up would be timed

// ---- putting a variant together ----

/// The source without the one header that it includes.
std::string without_header(const std::string& source) {
  static const std::regex line(R"((^|\n)[ \t]*#[ \t]*include[ \t]*"\.\./cuda\.h"[ \t]*(?=\r?\n|$))");
  return std::regex_replace(source, line, "$1");
}

CudaVariant::Place place_of(const KernelSpec& spec, const std::string& name) {
  for (size_t t = 0; t < spec.arguments.size(); ++t)
    for (size_t d = 0; d < spec.arguments[t].size.size(); ++d)
      if (spec.arguments[t].size[d].text() == name) return {t, d};
  throw UsageError("{}: no argument's Size has {} alone, so that a launch cannot be told it", spec.name, name);
}

unsigned block_size(const std::string& text, const Configuration& parameters) {
  const auto value = Expression(text).number(parameters);
  if (!value || *value < 1 || *value > kMostThreads || *value != std::floor(*value))
    throw UsageError("Block: {} is no number of threads from 1 to {}", text, kMostThreads);
  return static_cast<unsigned>(*value);
}

void check_problem_size(const CudaVariant& variant) {
  for (const std::string& text : variant.problem_size) {
    const Expression threads(text);
    for (const std::string& name : threads.names())
      if (!variant.shape.contains(name) && !variant.parameters.contains(name))
        throw UsageError("ProblemSize names {}, which is neither in Shape nor a parameter", name);
  }
}

void take_geometry(CudaVariant& variant, const CudaGeometry& geometry) {
  const size_t dimensions = geometry.problem_size.size();
  if (dimensions < 1 || dimensions > 3 || geometry.block.size() > 3)
    throw UsageError("ProblemSize and Block must have one to three entries");
  variant.problem_size = {"1", "1", "1"};
  std::copy(geometry.problem_size.begin(), geometry.problem_size.end(), variant.problem_size.begin());
  for (size_t i = 0; i < geometry.block.size(); ++i)
    variant.block[i] = block_size(geometry.block[i], variant.parameters);
  const unsigned threads = variant.block[0] * variant.block[1] * variant.block[2];
  if (threads > kMostThreads) throw UsageError("a block of {} threads; CUDA has {} at most", threads, kMostThreads);
  check_problem_size(variant);
}

// ---- the driver's and the compiler's answers ----

/// Errors after which a process gets nothing else: of memory, instructions and time (cuda.h).
bool is_lasting(int error) {
  static const std::set<int> lasting = {214, 700, 702, 710, 714, 715, 716, 717, 718, 719};
  return lasting.contains(error);
}

std::string described(const CudaApi& api, int error) {
  const char *name = nullptr, *text = nullptr;
  api.error_name(error, &name);
  api.error_text(error, &text);
  return fmt::format("{} ({})", text ? text : "unknown error", name ? name : std::to_string(error).c_str());
}

void check(const CudaApi& api, int error, const char* what) {
  if (error == 0) return;
  if (error == 2) throw NoMemoryError("the device has no memory left for {}", what);
  const std::string why = described(api, error);
  if (is_lasting(error)) throw DeviceLost("{}: {}", what, why);
  if (error == 701)
    throw Error("{}: {}; the kernel takes more registers than there are for so many threads: make blocks smaller", what,
                why);
  throw Error("{}: {}", what, why);
}

/// A program of NVRTC's, destroyed at the end.
class Program {
 public:
  Program(const CudaApi& api, const CudaVariant& variant) : api_(api) {
    std::vector<const char*> names, texts;
    for (const auto& [name, text] : variant.headers) {
      names.push_back(name.c_str());
      texts.push_back(text.c_str());
    }
    check_compiler(api.create_program(&program_, variant.source.c_str(), "kernel.cu", static_cast<int>(names.size()),
                                      texts.data(), names.data()),
                   "a program cannot be made");
  }
  ~Program() { api_.destroy_program(&program_); }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void compile(const std::vector<std::string>& options) {
    std::vector<const char*> words;
    for (const std::string& o : options) words.push_back(o.c_str());
    const int error = api_.compile(program_, static_cast<int>(words.size()), words.data());
    if (error == 6) throw CompileError(log());  // NVRTC_ERROR_COMPILATION
    check_compiler(error, "the kernel cannot be compiled");
  }
  std::string cubin() const { return text(api_.cubin_size, api_.cubin, "machine code cannot be had"); }
  std::string ptx() const { return text(api_.ptx_size, api_.ptx, "PTX cannot be had"); }

 private:
  void check_compiler(int error, const char* what) const {
    if (error != 0) throw Error("NVRTC: {}: {}", what, api_.compiler_error(error));
  }
  std::string log() const {
    const std::string all = text(api_.log_size, api_.log, "it said nothing");
    return printable(all.substr(0, all.find('\0')));
  }
  std::string text(int (*size)(CudaApi::Program, size_t*), int (*get)(CudaApi::Program, char*),
                   const char* what) const {
    size_t bytes = 0;
    check_compiler(size(program_, &bytes), what);
    std::string result(bytes, '\0');
    check_compiler(get(program_, result.data()), what);
    return result;
  }

  const CudaApi& api_;
  CudaApi::Program program_ = nullptr;
};

/// The newest architecture that this NVRTC knows and the device can run; 0 where it does not say.
int architecture_for(const CudaApi& api, int capability) {
  int count = 0;
  if (!api.architectures || !api.list_architectures || api.architectures(&count) != 0 || count <= 0) return 0;
  std::vector<int> all(static_cast<size_t>(count));
  if (api.list_architectures(all.data()) != 0) return 0;
  int best = 0;
  for (const int a : all)
    if (a <= capability) best = std::max(best, a);
  if (best == 0)
    throw UsageError(
        "this NVRTC compiles for no device as old as compute capability {}.{}; use an older one, named in "
        "HAQA_NVRTC",
        capability / 10, capability % 10);
  return best;
}

// ---- launching ----

/// Memory of the device.
class DeviceMemory {
 public:
  explicit DeviceMemory(const CudaApi& api) : api_(api) {}
  ~DeviceMemory() { release(); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// At least as many bytes; what was there is lost where it grows.
  CudaApi::Address room(uint64_t bytes, const char* what) {
    if (bytes <= bytes_) return address_;
    release();
    check(api_, api_.allocate(&address_, bytes), what);
    bytes_ = bytes;
    return address_;
  }

 private:
  void release() {
    if (bytes_ > 0) api_.free(address_);
    bytes_ = 0;
  }
  const CudaApi& api_;
  CudaApi::Address address_ = 0;
  uint64_t bytes_ = 0;
};

/// haqa_tensor of kernels/cuda.h.
struct CudaTensor {
  CudaApi::Address data = 0;
  int64_t ne[3] = {}, nb[3] = {};
};
static_assert(sizeof(CudaTensor) == 56 && sizeof(CudaApi::Address) == 8);

/// What a kernel is called with.
struct Call {
  CudaTensor in[3], out;
  float scalars[4] = {};
};

CudaTensor tensor_of(const TensorShape& shape) {
  CudaTensor t;
  std::copy(std::begin(shape.ne), std::end(shape.ne), t.ne);
  std::copy(std::begin(shape.nb), std::end(shape.nb), t.nb);
  return t;
}

/// A stretch of one of the judge's memories that lies on the device as well, as well aligned as here.
struct Window {
  uint64_t begin = UINT64_MAX, end = 0;
  CudaApi::Address address = 0;
  void include(uint64_t from, uint64_t to) {
    begin = std::min(begin, from);
    end = std::max(end, to);
  }
  uint64_t aligned_begin() const { return begin / kAlignment * kAlignment; }
  uint64_t bytes() const { return end - aligned_begin(); }
  CudaApi::Address at(uint64_t place) const { return address + (place - aligned_begin()); }
};

class CudaRunner : public Runner {
 public:
  CudaRunner(const CudaApi& api, const RunnerMemory& memory, CudaVariant variant)
      : api_(api),
        memory_(memory),
        control_(memory.control()),
        variant_(std::move(variant)),
        weights_(api_),
        stored_weights_(api_),
        inputs_{DeviceMemory(api_), DeviceMemory(api_), DeviceMemory(api_)},
        outputs_(api_) {
    start();
  }

  void prepare() override {
    call_ = {};
    for (uint32_t i = 0; i < control_.inputs; ++i) call_.in[i] = tensor_of(control_.in[i]);
    call_.out = tensor_of(control_.out);
    std::copy(std::begin(control_.scalar), std::end(control_.scalar), call_.scalars);
    set_grid();
    if (control_.has_weights) load_weights();
  }

  void load() override {
    calls_.assign(control_.launches, call_);
    output_window_ = {};
    if (control_.launches == 0) return;
    for (uint32_t k = control_.has_weights ? 1 : 0; k < control_.inputs; ++k) load_input(k);
    load_outputs();
    if (!control_.has_weights) return;
    for (uint32_t i = 0; i < control_.launches; ++i)
      calls_[i].in[0].data = weights_.room(0, "") + control_.places[i].copy % control_.copies * copy_bytes_;
  }

  void run() override {
    for (Call& call : calls_) launch(kernel_, call);
    check(api_, api_.synchronize(), "the kernel failed");
  }

  void fetch() override {
    if (calls_.empty()) return;
    const Window& w = output_window_;
    check(api_, api_.download(memory_.outputs() + w.aligned_begin(), w.address, w.bytes()),
          "outputs cannot be fetched");
  }

 private:
  void start() {
    int count = 0;
    const int error = api_.init(0);
    if (error != 0 && error != kNoDevice) check(api_, error, "CUDA cannot be used");
    if (error == 0) check(api_, api_.device_count(&count), "devices cannot be counted");
    if (count == 0)
      throw UsageError("there is no device for CUDA here; look at nvidia-smi and at CUDA_VISIBLE_DEVICES");
    CudaApi::Device device = 0;
    CudaApi::Context context = nullptr;
    int major = 0, minor = 0;
    check(api_, api_.device(&device, 0), "the device cannot be used");
    check(api_, api_.device_attribute(&major, kCapabilityMajor, device), "the device does not say what it can do");
    check(api_, api_.device_attribute(&minor, kCapabilityMinor, device), "the device does not say what it can do");
    check(api_, api_.device_name(control_.device, sizeof control_.device, device), "the device does not say its name");
    const std::string image = compile_cuda(api_, variant_, 10 * major + minor);
    check(api_, api_.set_flags(device, kSpin), "the device cannot be set up");
    check(api_, api_.retain_context(&context, device), "the device cannot be used");
    check(api_, api_.use_context(context), "the device cannot be used");
    CudaApi::Module module = nullptr;
    check(api_, api_.load_module(&module, image.c_str()), "the compiled kernel cannot be loaded");
    CudaApi::Function kernel = nullptr;
    if (api_.find_function(&kernel, module, "haqa_kernel") != 0)
      throw Error("it has no function haqa_kernel; keep the entry point that kernels/cuda.h describes");
    if (api_.find_function(&pack_, module, "haqa_pack") != 0) pack_ = nullptr;
    kernel_ = kernel;
  }

  const TensorShape& tensor(size_t i) const { return i < control_.inputs ? control_.in[i] : control_.out; }

  void set_grid() {
    Json numbers = variant_.parameters;
    for (const auto& [name, place] : variant_.shape) numbers[name] = tensor(place.tensor).ne[place.dimension];
    constexpr double kMost[3] = {2147483647, 65535, 65535};
    for (size_t i = 0; i < 3; ++i) {
      const auto threads = Expression(variant_.problem_size[i]).number(numbers);
      if (!threads || !(*threads > 0)) throw Error("ProblemSize: '{}' is no number above 0", variant_.problem_size[i]);
      const double blocks = std::ceil(*threads / variant_.block[i]);
      if (blocks > kMost[i]) throw Error("{} blocks along {}; CUDA has {} at most", blocks, "xyz"[i], kMost[i]);
      grid_[i] = static_cast<unsigned>(blocks);
    }
  }

  void load_weights() {
    const auto bytes = static_cast<uint64_t>(control_.in[0].bytes());
    copy_bytes_ = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const CudaApi::Address to = weights_.room(copy_bytes_ * control_.copies, "the weights");
    const CudaApi::Address raw = pack_ ? stored_weights_.room(bytes, "the weights") : to;
    for (uint32_t i = 0; i < control_.copies; ++i) {
      const CudaApi::Address copy = to + i * copy_bytes_;
      check(api_, api_.upload(pack_ ? raw : copy, memory_.weights(i), bytes), "weights cannot be uploaded");
      if (pack_) pack(raw, copy);
    }
    check(api_, api_.synchronize(), "weights cannot be loaded");
    control_.packed_bytes = bytes;
  }

  void pack(CudaApi::Address raw, CudaApi::Address to) {
    CudaTensor tensor = call_.in[0];
    tensor.data = raw;
    void* parameters[] = {&tensor, &to};
    check(api_, api_.launch(pack_, 1024, 1, 1, 256, 1, 1, 0, nullptr, parameters, nullptr),
          "haqa_pack cannot be launched");
    check(api_, api_.synchronize(), "haqa_pack failed");
  }

  void load_input(uint32_t k) {
    const auto bytes = static_cast<uint64_t>(control_.in[k].bytes());
    Window window;
    for (uint32_t i = 0; i < control_.launches; ++i)
      window.include(control_.places[i].in[k], control_.places[i].in[k] + bytes);
    window.address = inputs_[k].room(window.bytes(), "the inputs");
    check(api_, api_.upload(window.address, memory_.inputs() + window.aligned_begin(), window.bytes()),
          "inputs cannot be uploaded");
    for (uint32_t i = 0; i < control_.launches; ++i) calls_[i].in[k].data = window.at(control_.places[i].in[k]);
  }

  /// With what the judge has put there and around them.
  void load_outputs() {
    const auto bytes = static_cast<uint64_t>(control_.out.bytes());
    Window& window = output_window_;
    for (uint32_t i = 0; i < control_.launches; ++i)
      window.include(control_.places[i].out - kMargin, control_.places[i].out + bytes + kMargin);
    window.address = outputs_.room(window.bytes(), "the outputs");
    check(api_, api_.upload(window.address, memory_.outputs() + window.aligned_begin(), window.bytes()),
          "outputs cannot be uploaded");
    for (uint32_t i = 0; i < control_.launches; ++i) calls_[i].out.data = window.at(control_.places[i].out);
  }

  void launch(CudaApi::Function function, Call& call) {
    void* parameters[] = {&call.in[0], &call.in[1], &call.in[2], &call.out, &call.scalars};
    const auto& b = variant_.block;
    check(api_, api_.launch(function, grid_[0], grid_[1], grid_[2], b[0], b[1], b[2], 0, nullptr, parameters, nullptr),
          "the kernel cannot be launched");
  }

  const CudaApi api_;
  const RunnerMemory& memory_;
  Control& control_;
  const CudaVariant variant_;
  DeviceMemory weights_, stored_weights_;
  DeviceMemory inputs_[3];
  DeviceMemory outputs_;
  CudaApi::Function kernel_ = nullptr, pack_ = nullptr;
  std::array<unsigned, 3> grid_ = {1, 1, 1};
  uint64_t copy_bytes_ = 0;
  Call call_;                ///< without its data
  std::vector<Call> calls_;  ///< of the launches
  Window output_window_;
};

/// Ends the process once the device is lost, as it would only fail from then on.
class UntilLost : public Runner {
 public:
  UntilLost(std::unique_ptr<Runner> runner, Control& control) : runner_(std::move(runner)), control_(control) {}
  void prepare() override {
    guarded([&] { runner_->prepare(); });
  }
  void load() override {
    guarded([&] { runner_->load(); });
  }
  void run() override {
    guarded([&] { runner_->run(); });
  }
  void fetch() override {
    guarded([&] { runner_->fetch(); });
  }

 private:
  template <typename Work>
  void guarded(Work work) {
    try {
      work();
    } catch (const DeviceLost& lost) {
      answer_failure(lost.what(), control_);
      _exit(1);
    }
  }
  std::unique_ptr<Runner> runner_;
  Control& control_;
};

}  // namespace

CudaVariant build_cuda_variant(const KernelSpec& spec, const std::string& source, const Configuration& parameters,
                               const std::vector<std::string>& defines, const std::vector<std::string>& options,
                               const CudaGeometry& geometry) {
  if (const auto refused = refused_in_device_source(without_header(source)))
    throw KernelFault(KernelFaultKind::refused_source,
                      fmt::format("the source holds {}; it includes \"{}\" and nothing else", *refused, kHeader));
  CudaVariant variant;
  variant.source = source;
  variant.headers[kHeader] = read_file(kernels_folder() / "cuda.h");
  variant.defines = macros_of({source, parameters, {}, {}});
  variant.defines.insert(variant.defines.end(), defines.begin(), defines.end());
  variant.options = options;
  variant.parameters = parameters;
  for (const std::string& name : spec.shape_names) variant.shape[name] = place_of(spec, name);
  take_geometry(variant, geometry);
  return variant;
}

void write_cuda_variant(const CudaVariant& variant, const fs::path& file) {
  Json shape = Json::object();
  for (const auto& [name, place] : variant.shape) shape[name] = {place.tensor, place.dimension};
  const Json json = {{"source", variant.source},
                     {"headers", variant.headers},
                     {"defines", variant.defines},
                     {"options", variant.options},
                     {"parameters", variant.parameters},
                     {"shape", shape},
                     {"problem_size", variant.problem_size},
                     {"block", variant.block}};
  write_file(file, json.dump());
}

CudaVariant read_cuda_variant(const fs::path& file) {
  const Json json = read_json(file);
  CudaVariant variant;
  try {
    variant.source = json.at("source");
    json.at("headers").get_to(variant.headers);
    json.at("defines").get_to(variant.defines);
    json.at("options").get_to(variant.options);
    variant.parameters = json.at("parameters");
    for (const auto& [name, place] : json.at("shape").items())
      variant.shape[name] = {place.at(0).get<size_t>(), place.at(1).get<size_t>()};
    json.at("problem_size").get_to(variant.problem_size);
    json.at("block").get_to(variant.block);
  } catch (const Json::exception& e) {
    throw Error("{}: is no variant of a CUDA kernel: {}", file.string(), e.what());
  }
  return variant;
}

std::string compile_cuda(const CudaApi& api, const CudaVariant& variant, int capability) {
  const int known = architecture_for(api, capability);
  const bool exact = api.cubin && (known == capability || known == 0);
  std::vector<std::string> options = {
      fmt::format("--gpu-architecture={}_{}", exact ? "sm" : "compute", known == 0 ? capability : known), "--std=c++17",
      "--disable-warnings"};
  options.insert(options.end(), variant.options.begin(), variant.options.end());
  for (const std::string& d : variant.defines) options.push_back("-D" + d);
  Program program(api, variant);
  program.compile(options);
  return exact ? program.cubin() : program.ptx();
}

std::unique_ptr<Runner> make_cuda_runner(const CudaApi& api, const RunnerMemory& memory, CudaVariant variant) {
  return std::make_unique<CudaRunner>(api, memory, std::move(variant));
}

void serve_cuda(const RunnerArguments& arguments, const fs::path& file, const std::function<CudaApi()>& open) {
  serve_device(arguments, [&](const RunnerMemory& memory) {
    return std::make_unique<UntilLost>(make_cuda_runner(open(), memory, read_cuda_variant(file)), memory.control());
  });
}

void run_cuda_variant(const RunnerArguments& arguments, const fs::path& file) {
  serve_cuda(arguments, file, [] { return open_cuda(); });
}

}  // namespace haqa
