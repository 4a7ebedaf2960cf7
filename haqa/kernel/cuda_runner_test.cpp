#include "haqa/kernel/cuda_runner.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>

#include "haqa/base/file.h"
#include "haqa/base/temporary_folder.h"
#include "haqa/kernel/checks.h"
#include "haqa/kernel/inputs.h"
#include "kernels/cuda.h"

namespace haqa {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kIllegalAddress = 700;

/// What a kernel is launched with.
struct Launched {
  haqa_tensor in[3], out;
  haqa_scalars scalars;
  std::array<unsigned, 3> grid, block;
};

/// A device whose memory is this process's, and whose kernels are functions of it.
struct FakeDevice {
  std::string failing;  ///< the function that fails
  int error = 999;
  int devices = 1;
  std::vector<int> known = {75, 80, 86, 90};
  bool has_pack = false;
  std::string log = "kernel.cu(3): error: expected a \";\"";
  bool compiles = true;
  std::function<void(Launched&)> kernel = [](Launched&) {};

  std::vector<std::string> calls, options, headers;
  std::string source;
  std::vector<Launched> launched;
  std::map<CudaApi::Address, size_t> allocated;
  int packed = 0;

  int enter(const std::string& name) {
    calls.push_back(name);
    return name == failing ? error : 0;
  }
  bool holds(CudaApi::Address address, size_t bytes) const {
    const auto after = allocated.upper_bound(address);
    if (after == allocated.begin()) return false;
    const auto& [begin, size] = *std::prev(after);
    return address + bytes <= begin + size;
  }
};

FakeDevice* device = nullptr;
int kernel_function, pack_function;

template <typename T>
T* pointer(CudaApi::Address address) {
  return reinterpret_cast<T*>(address);
}

int fake_launch(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned,
                void*, void** parameters, void**) {
  if (const int e = device->enter("launch")) return e;
  if (function == &pack_function) {
    // Every byte turned over.
    const auto* weights = static_cast<const haqa_tensor*>(parameters[0]);
    auto* to = *static_cast<unsigned char**>(parameters[1]);
    const auto bytes = static_cast<size_t>(weights->nb[1] * weights->ne[1]);
    for (size_t i = 0; i < bytes; ++i)
      to[i] = static_cast<unsigned char>(~static_cast<unsigned char*>(weights->data)[i]);
    ++device->packed;
    return 0;
  }
  Launched l;
  for (int i = 0; i < 3; ++i) l.in[i] = *static_cast<const haqa_tensor*>(parameters[i]);
  l.out = *static_cast<const haqa_tensor*>(parameters[3]);
  l.scalars = *static_cast<const haqa_scalars*>(parameters[4]);
  l.grid = {gx, gy, gz};
  l.block = {bx, by, bz};
  device->kernel(l);
  device->launched.push_back(l);
  return 0;
}

void fake_driver(CudaApi& api) {
  api.init = [](unsigned) { return device->enter("init"); };
  api.driver_version = [](int* v) { return *v = 13000, device->enter("driver_version"); };
  api.device_count = [](int* n) { return *n = device->devices, device->enter("device_count"); };
  api.device = [](int* d, int i) { return *d = i, device->enter("device"); };
  api.device_name = [](char* name, int length, int) {
    std::snprintf(name, static_cast<size_t>(length), "a fake device");
    return device->enter("device_name");
  };
  api.device_attribute = [](int* v, int which, int) {
    return *v = which == kCapabilityMajor ? 8 : 6, device->enter("device_attribute");
  };
  api.set_flags = [](int, unsigned) { return device->enter("set_flags"); };
  api.retain_context = [](void**, int) { return device->enter("retain_context"); };
  api.use_context = [](void*) { return device->enter("use_context"); };
  api.synchronize = []() { return device->enter("synchronize"); };
  api.load_module = [](void**, const void*) { return device->enter("load_module"); };
  api.find_function = [](void** f, void*, const char* name) {
    const bool is_pack = std::string(name) == "haqa_pack";
    *f = is_pack ? &pack_function : &kernel_function;
    return is_pack && !device->has_pack ? 500 : device->enter("find_function");
  };
  api.allocate = [](CudaApi::Address* a, size_t bytes) {
    if (const int e = device->enter("allocate")) return e;
    *a = reinterpret_cast<CudaApi::Address>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
    device->allocated[*a] = bytes;
    return 0;
  };
  api.free = [](CudaApi::Address a) {
    EXPECT_EQ(device->allocated.erase(a), 1u);
    std::free(pointer<void>(a));
    return 0;
  };
  api.upload = [](CudaApi::Address to, const void* from, size_t bytes) {
    EXPECT_TRUE(device->holds(to, bytes));
    std::memcpy(pointer<void>(to), from, bytes);
    return device->enter("upload");
  };
  api.download = [](void* to, CudaApi::Address from, size_t bytes) {
    EXPECT_TRUE(device->holds(from, bytes));
    std::memcpy(to, pointer<void>(from), bytes);
    return device->enter("download");
  };
  api.copy = [](CudaApi::Address to, CudaApi::Address from, size_t bytes) {
    EXPECT_TRUE(device->holds(from, bytes) && device->holds(to, bytes));
    std::memcpy(pointer<void>(to), pointer<void>(from), bytes);
    return device->enter("copy");
  };
  api.launch = fake_launch;
  api.error_name = [](int e, const char** name) {
    return *name = e == kIllegalAddress ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_X", 0;
  };
  api.error_text = [](int e, const char** text) {
    return *text = e == kIllegalAddress ? "an illegal memory access was encountered" : "something else", 0;
  };
}

void fake_nvrtc(CudaApi& api) {
  api.create_program = [](void**, const char* source, const char*, int headers, const char* const*,
                          const char* const* names) {
    device->source = source;
    device->headers.assign(names, names + headers);
    return device->enter("create_program");
  };
  api.destroy_program = [](void**) { return device->enter("destroy_program"); };
  api.compile = [](void*, int n, const char* const* words) {
    device->options.assign(words, words + n);
    return device->compiles ? device->enter("compile") : 6;
  };
  api.log_size = [](void*, size_t* n) { return *n = device->log.size() + 1, 0; };
  api.log = [](void*, char* text) { return std::strcpy(text, device->log.c_str()), 0; };
  api.ptx_size = [](void*, size_t* n) { return *n = 4, 0; };
  api.ptx = [](void*, char* text) { return std::strcpy(text, "ptx"), device->enter("ptx"); };
  api.compiler_error = [](int) { return "NVRTC_ERROR_INTERNAL_ERROR"; };
  api.cubin_size = [](void*, size_t* n) { return *n = 6, 0; };
  api.cubin = [](void*, char* text) { return std::strcpy(text, "cubin"), device->enter("cubin"); };
  api.architectures = [](int* n) { return *n = static_cast<int>(device->known.size()), 0; };
  api.list_architectures = [](int* to) { return std::copy(device->known.begin(), device->known.end(), to), 0; };
}

constexpr const char* kSpec = R"({
  "General": {"BenchmarkName": "NAME", "Description": "for a test"},
  "KernelSpecification": {
    "Shape": SHAPE, "Types": TYPES, "Arguments": ARGUMENTS, "Reference": "NAME",
    "Tolerance": {"Relative": 1e-5, "Norm": 1e-5}, "Bytes": "1", "Operations": "1", "HeldOutShapes": []},
  "Engines": {}})";
constexpr const char* kSiluArguments = R"([
  {"Name": "x", "Type": "float", "AccessType": "ReadOnly", "Size": ["ne0", "ne1", "ne2"]},
  {"Name": "y", "Type": "float", "AccessType": "WriteOnly", "Size": ["ne0", "ne1", "ne2"]}])";
constexpr const char* kMatmulArguments = R"([
  {"Name": "w", "Type": "weights", "AccessType": "ReadOnly", "Constant": true, "Size": ["k", "m"]},
  {"Name": "x", "Type": "float", "AccessType": "ReadOnly", "Size": ["k", "n"]},
  {"Name": "y", "Type": "float", "AccessType": "WriteOnly", "Size": ["m", "n"]}])";
constexpr const char* kSource = "#include \"../cuda.h\"\nextern \"C\" __global__ void haqa_kernel() {}\n";

KernelSpec spec_of(const std::string& name, const std::string& shape, const std::string& types,
                   const std::string& arguments) {
  std::string text = kSpec;
  const auto put = [&](const std::string& word, const std::string& value) {
    for (size_t at; (at = text.find(word)) != std::string::npos;) text.replace(at, word.size(), value);
  };
  put("NAME", name);
  put("SHAPE", shape);
  put("TYPES", types);
  put("ARGUMENTS", arguments);
  const TemporaryFolder folder;
  write_file(folder / "spec.json", text);
  return read_kernel_spec(folder.path());
}

KernelSpec silu_spec() {
  return spec_of("silu", R"(["ne0", "ne1", "ne2"])", R"(["F32"])", kSiluArguments);
}
KernelSpec matmul_spec() {
  return spec_of("matmul", R"(["m", "n", "k"])", R"(["F32"])", kMatmulArguments);
}

const CudaGeometry kRows = {{"(ne0 + vector_width - 1) // vector_width", "ne1 * ne2"},
                            {"block_size_x", "block_size_y"}};
const Configuration kParameters = {
    {"block_size_x", 32}, {"block_size_y", 4}, {"vector_width", 4}, {"placement", "shared"}, {"fast", true}};

CudaVariant silu_variant() {
  return build_cuda_variant(silu_spec(), kSource, kParameters, {"HAQA_WEIGHTS=0"}, {}, kRows);
}

/// What a launch should do.
void silu(Launched& l) {
  for (long long i2 = 0; i2 < l.out.ne[2]; ++i2)
    for (long long i1 = 0; i1 < l.out.ne[1]; ++i1) {
      const auto* x =
          reinterpret_cast<const float*>(static_cast<char*>(l.in[0].data) + i1 * l.in[0].nb[1] + i2 * l.in[0].nb[2]);
      auto* y = reinterpret_cast<float*>(static_cast<char*>(l.out.data) + i1 * l.out.nb[1] + i2 * l.out.nb[2]);
      for (long long i = 0; i < l.out.ne[0]; ++i) y[i] = x[i] / (1 + std::exp(-x[i]));
    }
}

class CudaRunnerTest : public testing::Test {
 protected:
  CudaRunnerTest() {
    device = &fake_;
    fake_driver(api_);
    fake_nvrtc(api_);
  }
  ~CudaRunnerTest() override {
    runner_.reset();
    EXPECT_TRUE(fake_.allocated.empty());
    device = nullptr;
  }

  void start(CudaVariant variant) { runner_ = make_cuda_runner(api_, memory_, std::move(variant)); }
  Control& control() { return memory_.control(); }

  void hand_over(const std::vector<TensorShape>& shapes) {
    shapes_ = shapes;
    control().inputs = static_cast<uint32_t>(shapes.size() - 1);
    std::copy(shapes.begin(), shapes.end() - 1, control().in);
    control().out = shapes.back();
    runner_->prepare();
  }

  /// Launches with inputs and an output at such places, outputs poisoned.
  void place(const std::vector<LaunchPlace>& places) {
    control().launches = static_cast<uint32_t>(places.size());
    std::copy(places.begin(), places.end(), control().places);
    for (const LaunchPlace& p : places)
      poison(outputs_.data() + p.out - kMargin, static_cast<uint64_t>(shapes_.back().bytes()) + 2 * kMargin);
  }
  void run() {
    runner_->load();
    runner_->run();
    runner_->fetch();
  }

  /// One launch of SiLU, on unaligned rows with gaps.
  void run_silu(const KernelProblem& problem = {ElementType::f32, {33, 3, 2}}, int64_t padding = 20) {
    const KernelSpec spec = silu_spec();
    hand_over(tensors_of(spec, problem, padding));
    draw(spec.arguments[0], shapes_[0], Distribution::normal, random_, inputs_.data() + kInput);
    place({{{kInput}, kOutput, 0}});
    run();
    const std::byte* in = inputs_.data() + kInput;
    check_launch(spec, {shapes_, {&in, 1}, outputs_.data() + kOutput, "a launch"}, {}, random_);
  }

  static constexpr uint64_t kInput = 4096 + 52, kOutput = kOutputsAt + 8192 + 20;
  FakeDevice fake_;
  CudaApi api_;
  SharedMemory inputs_{kInputBytes}, outputs_{kOutputBytes};
  RunnerMemory memory_{RunnerArguments{inputs_.path(), outputs_.path(), 1, 0}};
  std::vector<TensorShape> shapes_;
  FastRandom random_{7};
  std::unique_ptr<Runner> runner_;
};

TEST_F(CudaRunnerTest, WhatAKernelWritesComesBackBetweenItsMargins) {
  fake_.kernel = silu;
  start(silu_variant());
  run_silu();
  run_silu({ElementType::f32, {1000, 5, 1}}, 0);
  EXPECT_EQ(std::count(fake_.calls.begin(), fake_.calls.end(), "compile"), 1);
}

TEST_F(CudaRunnerTest, TheJudgeSeesWhatIsWrittenBesideAnOutput) {
  start(silu_variant());
  for (const long long beside : {-4ll, 33ll * 4, 33ll * 4 + 19, 6ll * (33 * 4 + 20) + 300}) {
    fake_.kernel = [&](Launched& l) {
      silu(l);
      static_cast<char*>(l.out.data)[beside] = 1;
    };
    try {
      run_silu();
      ADD_FAILURE() << beside;
    } catch (const KernelFault& fault) {
      EXPECT_EQ(fault.kind, KernelFaultKind::out_of_bounds) << beside;
    }
  }
}

TEST_F(CudaRunnerTest, TheJudgeSeesWhatIsLeftUnwritten) {
  fake_.kernel = [](Launched& l) {
    --l.out.ne[0];
    silu(l);
  };
  start(silu_variant());
  try {
    run_silu();
    FAIL();
  } catch (const KernelFault& fault) {
    EXPECT_EQ(fault.kind, KernelFaultKind::not_written);
  }
}

TEST_F(CudaRunnerTest, PointersAreAsWellAlignedAsTheJudges) {
  start(silu_variant());
  hand_over(tensors_of(silu_spec(), {ElementType::f32, {33, 3, 2}}, 20));
  place({{{kInput}, kOutput, 0}, {{kInput + 64}, kOutput + 4096 + 8, 0}});
  run();
  ASSERT_EQ(fake_.launched.size(), 2u);
  const auto remainder = [](const haqa_tensor& t) { return reinterpret_cast<uint64_t>(t.data) % 256; };
  EXPECT_EQ(remainder(fake_.launched[0].in[0]), kInput % 256);
  EXPECT_EQ(remainder(fake_.launched[1].in[0]), (kInput + 64) % 256);
  EXPECT_EQ(remainder(fake_.launched[0].out), kOutput % 256);
  EXPECT_EQ(remainder(fake_.launched[1].out), (kOutput + 8) % 256);
}

TEST_F(CudaRunnerTest, GeometryFollowsTheShape) {
  start(silu_variant());
  hand_over(tensors_of(silu_spec(), {ElementType::f32, {33, 3, 2}}));
  place({{{kInput}, kOutput, 0}});
  run();
  hand_over(tensors_of(silu_spec(), {ElementType::f32, {1024, 64, 32}}));
  place({{{kInput}, kOutput, 0}});
  run();
  EXPECT_THAT(fake_.launched[0].block, ElementsAre(32, 4, 1));
  EXPECT_THAT(fake_.launched[0].grid, ElementsAre(1, 2, 1));    // 9 of 32 threads, 6 of 4
  EXPECT_THAT(fake_.launched[1].grid, ElementsAre(8, 512, 1));  // 256 of 32, 2048 of 4
  EXPECT_EQ(fake_.launched[1].out.ne[2], 32);
  EXPECT_EQ(fake_.launched[1].out.nb[2], 1024 * 64 * 4);
}

TEST_F(CudaRunnerTest, AGridThatIsTooLargeIsSaid) {
  start(silu_variant());
  try {
    hand_over(tensors_of(silu_spec(), {ElementType::f32, {1, 65536 * 4, 1}}));
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "65536 blocks along y; CUDA has 65535 at most");
  }
}

TEST_F(CudaRunnerTest, ScalarsAreHandedOver) {
  start(silu_variant());
  control().scalar[0] = 1e-5f;
  control().scalar[3] = 4;
  hand_over(tensors_of(silu_spec(), {ElementType::f32, {33, 3, 2}}));
  place({{{kInput}, kOutput, 0}});
  run();
  EXPECT_EQ(fake_.launched[0].scalars.value[0], 1e-5f);
  EXPECT_EQ(fake_.launched[0].scalars.value[3], 4);
  EXPECT_EQ(fake_.launched[0].in[1].data, nullptr);
}

TEST_F(CudaRunnerTest, NoLaunchesOnlyWait) {
  start(silu_variant());
  hand_over(tensors_of(silu_spec(), {ElementType::f32, {33, 3, 2}}));
  control().launches = 0;
  fake_.calls.clear();
  run();
  EXPECT_THAT(fake_.calls, ElementsAre("synchronize"));
}

TEST_F(CudaRunnerTest, OnceALaunchAndOneWait) {
  start(silu_variant());
  hand_over(tensors_of(silu_spec(), {ElementType::f32, {33, 3, 2}}));
  place({{{kInput}, kOutput, 0}, {{kInput}, kOutput, 0}, {{kInput}, kOutput, 0}});
  runner_->load();
  fake_.calls.clear();
  runner_->run();
  EXPECT_THAT(fake_.calls, ElementsAre("launch", "launch", "launch", "synchronize"));
}

class CudaWeightsTest : public CudaRunnerTest {
 protected:
  /// Three copies, which three launches take in turn; what the kernel finds in each.
  void run_copies() {
    const KernelSpec spec = matmul_spec();
    start(build_cuda_variant(spec, kSource, {{"block_size_x", 32}}, {}, {}, {{"m", "n"}, {"block_size_x"}}));
    control().has_weights = true;
    control().weights_at = 4096;
    control().copies = 3;
    const KernelProblem problem{ElementType::f32, {8, 2, 16}};
    draw_normal(random_, inputs_.data() + 4096, 8 * 16);
    fake_.kernel = [&](Launched& l) {
      found_.emplace_back(static_cast<unsigned char*>(l.in[0].data),
                          static_cast<unsigned char*>(l.in[0].data) + 8 * 16 * 4);
      at_.insert(l.in[0].data);
    };
    hand_over(tensors_of(spec, problem));
    place({{{0, 16384}, kOutput, 0}, {{0, 16384}, kOutput, 1}, {{0, 16384}, kOutput, 2}, {{0, 16384}, kOutput, 0}});
    run();
  }
  std::vector<unsigned char> given() const {
    const auto* from = reinterpret_cast<const unsigned char*>(inputs_.data() + 4096);
    return {from, from + 8 * 16 * 4};
  }
  std::vector<std::vector<unsigned char>> found_;
  std::set<void*> at_;
};

TEST_F(CudaWeightsTest, EachCopyIsWhole) {
  run_copies();
  EXPECT_EQ(at_.size(), 3u);
  for (void* at : at_) EXPECT_EQ(reinterpret_cast<uint64_t>(at) % 256, 0u);
  EXPECT_THAT(found_, testing::Each(given()));
  EXPECT_EQ(control().packed_bytes, 8u * 16 * 4);
}

TEST_F(CudaWeightsTest, EachCopyIsPackedOnceWhereThereIsHaqaPack) {
  fake_.has_pack = true;
  run_copies();
  std::vector<unsigned char> packed = given();
  for (unsigned char& byte : packed) byte = static_cast<unsigned char>(~byte);
  EXPECT_THAT(found_, testing::Each(packed));
  EXPECT_EQ(fake_.packed, 3);
}

TEST_F(CudaRunnerTest, EveryCallsFailureIsSaid) {
  fake_.kernel = silu;
  for (const char* name : {"init", "device_count", "device", "device_name", "device_attribute", "create_program",
                           "compile", "cubin", "set_flags", "retain_context", "use_context", "load_module",
                           "find_function", "allocate", "upload", "launch", "synchronize", "download"}) {
    fake_.failing = name;
    try {
      start(silu_variant());
      run_silu();
      ADD_FAILURE() << name;
    } catch (const DeviceLost&) {
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_GT(std::strlen(e.what()), 20u) << name;
    }
    fake_.failing.clear();
    if (!runner_) start(silu_variant());
    EXPECT_NO_THROW(run_silu()) << name;  // the next request may succeed
    runner_.reset();
  }
}

TEST_F(CudaRunnerTest, ErrorsThatMeanMore) {
  const auto what_of = [&](const std::string& failing, int error) {
    fake_.failing = failing;
    fake_.error = error;
    runner_.reset();
    try {
      start(silu_variant());
      run_silu();
    } catch (const DeviceLost& e) {
      return std::string("lost: ") + e.what();
    } catch (const NoMemoryError& e) {
      return std::string("memory: ") + e.what();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_EQ(what_of("synchronize", kIllegalAddress),
            "lost: the kernel failed: an illegal memory access was encountered (CUDA_ERROR_ILLEGAL_ADDRESS)");
  EXPECT_EQ(what_of("allocate", 2), "memory: the device has no memory left for the inputs");
  EXPECT_THAT(what_of("launch", 701), HasSubstr("make blocks smaller"));
  EXPECT_THAT(what_of("find_function", 500), HasSubstr("no function haqa_kernel"));
  EXPECT_THAT(what_of("init", 100), HasSubstr("there is no device"));
  fake_.devices = 0;
  EXPECT_THAT(what_of("", 0), HasSubstr("there is no device"));
}

/// What the process of a variant answers to "PLRF", by the set-up that run_cuda_variant() has.
class CudaProcessTest : public CudaRunnerTest {
 protected:
  std::string answers(int status) {
    const KernelSpec spec = silu_spec();
    shapes_ = tensors_of(spec, {ElementType::f32, {33, 3, 2}});
    control().inputs = 1;
    control().in[0] = shapes_[0];
    control().out = shapes_[1];
    place({{{kInput}, kOutput, 0}});
    const TemporaryFolder folder;
    write_file(folder / "requests", "PLRF");
    write_cuda_variant(silu_variant(), folder / "variant");
    const fs::path answers = folder / "answers";
    EXPECT_EXIT(
        {
          dup2(open((folder / "requests").c_str(), O_RDONLY), STDIN_FILENO);
          dup2(open(answers.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
          serve_cuda({inputs_.path(), outputs_.path(), 1, 4096, "--cuda"}, folder / "variant", [&] {
            std::printf("a driver prints\n");
            std::fflush(stdout);
            return api_;
          });
          _exit(0);
        },
        testing::ExitedWithCode(status), "");
    return read_file(answers);
  }
};

TEST_F(CudaProcessTest, AnswersEveryRequest) {
  EXPECT_EQ(answers(0), "PLRF");
  EXPECT_EQ(control().failure, Failure::none);
  EXPECT_GT(control().compile_s, 0);
  EXPECT_STREQ(control().device, "a fake device");
}

TEST_F(CudaProcessTest, EndsWithTheDevice) {
  fake_.failing = "synchronize";  // of the launches: nothing waits before
  fake_.error = kIllegalAddress;
  EXPECT_EQ(answers(1), "PLE");
  EXPECT_THAT(control().message, HasSubstr("illegal memory access"));
}

TEST_F(CudaProcessTest, SaysWhyThereIsNoRunner) {
  fake_.compiles = false;
  EXPECT_EQ(answers(0), "EEEE");
  EXPECT_EQ(control().failure, Failure::does_not_compile);
  EXPECT_EQ(std::string(control().message), fake_.log);
  fake_.compiles = true;
  fake_.devices = 0;
  EXPECT_EQ(answers(0), "EEEE");
  EXPECT_EQ(control().failure, Failure::no_device);
  fake_.devices = 1;
  fake_.kernel = [](Launched&) { throw std::runtime_error("of another kind"); };
  EXPECT_EQ(answers(0), "PLEF");
  EXPECT_STREQ(control().message, "of another kind");
}

TEST_F(CudaRunnerTest, ASourceThatDoesNotCompileIsAFaultOfItsOwn) {
  fake_.compiles = false;
  EXPECT_THROW(compile_cuda(api_, silu_variant(), 86), CompileError);
  try {
    compile_cuda(api_, silu_variant(), 86);
  } catch (const CompileError& e) {
    EXPECT_EQ(std::string(e.what()), fake_.log);
  }
  EXPECT_EQ(std::count(fake_.calls.begin(), fake_.calls.end(), "destroy_program"), 2);
}

TEST_F(CudaRunnerTest, TheCompilerIsToldEverything) {
  CudaVariant variant = silu_variant();
  variant.options = {"--maxrregcount=64"};
  EXPECT_EQ(compile_cuda(api_, variant, 86), std::string("cubin\0", 6));
  EXPECT_THAT(fake_.options, ElementsAre("--gpu-architecture=sm_86", "--std=c++17", "--disable-warnings",
                                         "--maxrregcount=64", "-Dblock_size_x=32", "-Dblock_size_y=4",
                                         "-Dvector_width=4", "-Dplacement=shared", "-Dfast=1", "-DHAQA_WEIGHTS=0"));
  EXPECT_EQ(fake_.source, kSource);
  EXPECT_THAT(fake_.headers, ElementsAre("../cuda.h"));
}

TEST_F(CudaRunnerTest, TheArchitectureIsTheNearestThatTheCompilerKnows) {
  const auto architecture = [&](int capability) {
    const std::string image = compile_cuda(api_, silu_variant(), capability);
    return image.substr(0, image.find('\0')) + fake_.options[0].substr(std::strlen("--gpu-architecture="));
  };
  EXPECT_EQ(architecture(90), "cubinsm_90");
  EXPECT_EQ(architecture(89), "ptxcompute_86");
  EXPECT_EQ(architecture(120), "ptxcompute_90");
  try {
    architecture(61);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("compute capability 6.1"));
  }
  api_.architectures = nullptr;
  EXPECT_EQ(architecture(86), "cubinsm_86");
  api_.cubin = nullptr;
  EXPECT_EQ(architecture(86), "ptxcompute_86");
}

TEST(CudaVariant, ComesBackFromItsFile) {
  const CudaVariant v = silu_variant();
  const TemporaryFolder folder;
  write_cuda_variant(v, folder / "variant.json");
  const CudaVariant r = read_cuda_variant(folder / "variant.json");
  EXPECT_EQ(r.source, v.source);
  EXPECT_EQ(r.headers, v.headers);
  EXPECT_EQ(r.defines, v.defines);
  EXPECT_EQ(r.parameters, v.parameters);
  EXPECT_EQ(r.problem_size, v.problem_size);
  EXPECT_EQ(r.block, v.block);
  ASSERT_EQ(r.shape.size(), 3u);
  EXPECT_EQ(r.shape.at("ne2").tensor, 0u);
  EXPECT_EQ(r.shape.at("ne2").dimension, 2u);
  write_file(folder / "other.json", "{\"source\": 1}");
  EXPECT_THROW(read_cuda_variant(folder / "other.json"), Error);
}

TEST(CudaVariant, TheShapeIsReadFromTheTensors) {
  const CudaVariant v =
      build_cuda_variant(matmul_spec(), kSource, {{"block_size_x", 8}}, {}, {}, {{"m * n"}, {"block_size_x"}});
  EXPECT_EQ(v.shape.at("k").dimension, 0u);
  EXPECT_EQ(v.shape.at("m").tensor, 0u);
  EXPECT_EQ(v.shape.at("n").tensor, 1u);
}

TEST(CudaVariant, GeometryThatMakesNoSense) {
  const auto what_of = [](const Configuration& parameters, const CudaGeometry& geometry) {
    try {
      build_cuda_variant(silu_spec(), kSource, parameters, {}, {}, geometry);
    } catch (const UsageError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(what_of({{"b", 64}}, {{"ne0"}, {"b", "b"}}), HasSubstr("a block of 4096 threads"));
  EXPECT_THAT(what_of({{"b", 64}}, {{"ne0"}, {"c"}}), HasSubstr("Block: c is no number of threads"));
  EXPECT_THAT(what_of({{"b", 0}}, {{"ne0"}, {"b"}}), HasSubstr("Block: b is no number of threads"));
  EXPECT_THAT(what_of({{"b", 64}}, {{"ne9"}, {"b"}}), HasSubstr("ProblemSize names ne9"));
  EXPECT_THAT(what_of({{"b", 64}}, {{}, {"b"}}), HasSubstr("one to three"));
  EXPECT_EQ(what_of({{"b", 64}}, {{"ne0"}, {"b", "1", "1"}}), "");
}

TEST(CudaVariant, SourcesIncludeOneHeader) {
  const auto build = [](const std::string& source) {
    return build_cuda_variant(silu_spec(), source, kParameters, {}, {}, kRows);
  };
  for (const char* refused : {"#include \"../cuda.h\"\n#include \"/etc/passwd\"\n", "#include <cuda_fp16.h>\n",
                              "  #  include \"../cuda.h\" \"/etc/passwd\"\n", "#include <stdint.h>\n",
                              "#include \"../vector.h\"\n", "void f() { asm(\"trap;\"); }", "#define J(a, b) a##b\n"}) {
    try {
      build(refused);
      ADD_FAILURE() << refused;
    } catch (const KernelFault& fault) {
      EXPECT_EQ(fault.kind, KernelFaultKind::refused_source) << refused;
    }
  }
  EXPECT_NO_THROW(build("// a kernel\n  #include \"../cuda.h\"\r\nint x;"));
}

TEST(Cuda, WhatIsNotThereIsSaid) {
  try {
    open_cuda({"libhaqa-no-such-driver.so.1", ""});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("there is no CUDA driver here (libhaqa-no-such-driver.so.1"));
  }
  try {
    open_cuda({"libm.so.6", ""});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("libm.so.6 has no function cuInit"));
  }
}

TEST(Cuda, TheCompilerIsTheDriversOwnWhereItCanBe) {
  EXPECT_THAT(nvrtc_names(13020), ElementsAre("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"));
  EXPECT_THAT(nvrtc_names(14000), ElementsAre("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2"));
  EXPECT_THAT(nvrtc_names(12040), ElementsAre("libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so.13"));
  EXPECT_THAT(nvrtc_names(11080), ElementsAre("libnvrtc.so.11.2", "libnvrtc.so.13", "libnvrtc.so.12"));
}

}  // namespace
}  // namespace haqa
