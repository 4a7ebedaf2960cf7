#include "haqa/kernel/opencl_runner.h"

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <regex>
#include <string>
#include <type_traits>
#include <vector>

#include "haqa/base/error.h"
#include "haqa/base/file.h"
#include "haqa/base/text.h"
#include "haqa/kernel/device_variant.h"
#include "haqa/kernel/runner.h"

namespace haqa {
namespace {

/// The functions of OpenCL that are used here, from its library as it is found at run time.
struct OpenCl {
  decltype(&clGetPlatformIDs) get_platforms = nullptr;
  decltype(&clGetDeviceIDs) get_devices = nullptr;
  decltype(&clGetDeviceInfo) device_info = nullptr;
  decltype(&clCreateContext) create_context = nullptr;
  decltype(&clReleaseContext) release_context = nullptr;
  decltype(&clCreateCommandQueue) create_queue = nullptr;
  decltype(&clReleaseCommandQueue) release_queue = nullptr;
  decltype(&clCreateProgramWithSource) create_program = nullptr;
  decltype(&clReleaseProgram) release_program = nullptr;
  decltype(&clBuildProgram) build_program = nullptr;
  decltype(&clGetProgramBuildInfo) build_info = nullptr;
  decltype(&clCreateKernel) create_kernel = nullptr;
  decltype(&clReleaseKernel) release_kernel = nullptr;
  decltype(&clGetKernelInfo) kernel_info = nullptr;
  decltype(&clGetKernelWorkGroupInfo) work_group_info = nullptr;
  decltype(&clSetKernelArg) set_argument = nullptr;
  decltype(&clCreateBuffer) create_buffer = nullptr;
  decltype(&clReleaseMemObject) release_buffer = nullptr;
  decltype(&clEnqueueWriteBuffer) write_buffer = nullptr;
  decltype(&clEnqueueReadBuffer) read_buffer = nullptr;
  decltype(&clEnqueueNDRangeKernel) launch = nullptr;
  decltype(&clFinish) finish = nullptr;

  /// It is never closed: drivers start threads that would run on in unmapped code.
  OpenCl() {
    void* library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) throw UsageError("there is no OpenCL here (libOpenCL.so.1); {}", kInstall);
    const auto load = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      if (!function) throw UsageError("this OpenCL is older than 1.2: it has no {}; {}", name, kInstall);
    };
    load(get_platforms, "clGetPlatformIDs");
    load(get_devices, "clGetDeviceIDs");
    load(device_info, "clGetDeviceInfo");
    load(create_context, "clCreateContext");
    load(release_context, "clReleaseContext");
    load(create_queue, "clCreateCommandQueue");
    load(release_queue, "clReleaseCommandQueue");
    load(create_program, "clCreateProgramWithSource");
    load(release_program, "clReleaseProgram");
    load(build_program, "clBuildProgram");
    load(build_info, "clGetProgramBuildInfo");
    load(create_kernel, "clCreateKernel");
    load(release_kernel, "clReleaseKernel");
    load(kernel_info, "clGetKernelInfo");
    load(work_group_info, "clGetKernelWorkGroupInfo");
    load(set_argument, "clSetKernelArg");
    load(create_buffer, "clCreateBuffer");
    load(release_buffer, "clReleaseMemObject");
    load(write_buffer, "clEnqueueWriteBuffer");
    load(read_buffer, "clEnqueueReadBuffer");
    load(launch, "clEnqueueNDRangeKernel");
    load(finish, "clFinish");
  }

  static constexpr const char* kInstall =
      "install the driver of your GPU, or, for the processor, PoCL: apt-get install pocl-opencl-icd ocl-icd-libopencl1";
};

std::string error_name(cl_int code) {
  switch (code) {
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
      return "it has no memory left";
    case CL_OUT_OF_RESOURCES:
      return "it is out of resources: local memory, registers, or a launch that failed";
    case CL_OUT_OF_HOST_MEMORY:
      return "there is no memory left";
    case CL_INVALID_WORK_GROUP_SIZE:
      return "it cannot have such work-groups";
    case CL_INVALID_BUFFER_SIZE:
      return "it cannot have so large a buffer";
    case CL_INVALID_ARG_SIZE:
      return "an argument of haqa_kernel is of another type than kernels/README.md says";
    case CL_INVALID_ARG_VALUE:
      return "an argument of haqa_kernel lies in another memory than kernels/README.md says";
    default:
      return fmt::format("error {}", code);
  }
}

void check(cl_int code, const char* what) {
  if (code != CL_SUCCESS) throw Error("the device cannot {}: {}", what, error_name(code));
}

/// What a release function of OpenCL owns.
template <typename Object>
using Handle = std::unique_ptr<std::remove_pointer_t<Object>, cl_int (*)(Object)>;

struct Device {
  cl_platform_id platform = nullptr;
  cl_device_id id = nullptr;
  cl_device_type type = 0;
  std::string name;
};

std::string device_name(const OpenCl& cl, cl_device_id id) {
  size_t size = 0;
  if (cl.device_info(id, CL_DEVICE_NAME, 0, nullptr, &size) != CL_SUCCESS || size == 0) return "";
  std::string name(size, '\0');
  if (cl.device_info(id, CL_DEVICE_NAME, size, name.data(), nullptr) != CL_SUCCESS) return "";
  return one_line(name.substr(0, name.find('\0')), 80);
}

template <typename T>
T device_number(const OpenCl& cl, cl_device_id id, cl_device_info what) {
  T value = 0;
  return cl.device_info(id, what, sizeof value, &value, nullptr) == CL_SUCCESS ? value : T{0};
}

std::vector<Device> all_devices(const OpenCl& cl) {
  std::vector<Device> devices;
  cl_uint platforms = 0;
  if (cl.get_platforms(0, nullptr, &platforms) != CL_SUCCESS || platforms == 0) return devices;
  std::vector<cl_platform_id> ids(platforms);
  cl.get_platforms(platforms, ids.data(), nullptr);
  for (cl_platform_id platform : ids) {
    cl_uint count = 0;
    if (cl.get_devices(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &count) != CL_SUCCESS || count == 0) continue;
    std::vector<cl_device_id> here(count);
    cl.get_devices(platform, CL_DEVICE_TYPE_ALL, count, here.data(), nullptr);
    for (cl_device_id id : here)
      devices.push_back({platform, id, device_number<cl_device_type>(cl, id, CL_DEVICE_TYPE), device_name(cl, id)});
  }
  return devices;
}

Device chosen_device(const OpenCl& cl) {
  const std::vector<Device> devices = all_devices(cl);
  if (devices.empty()) throw UsageError("OpenCL has no device here; {}", OpenCl::kInstall);
  const std::string wanted = environment("HAQA_OPENCL_DEVICE");
  const auto suits = [&](const Device& d) {
    return wanted.empty() ? (d.type & CL_DEVICE_TYPE_GPU) != 0
                          : lowercase(d.name).find(lowercase(wanted)) != std::string::npos;
  };
  const auto at = std::find_if(devices.begin(), devices.end(), suits);
  if (at != devices.end()) return *at;
  if (wanted.empty()) return devices.front();
  std::vector<std::string> names;
  for (const Device& d : devices) names.push_back(d.name);
  throw UsageError("HAQA_OPENCL_DEVICE is {}, and there are: {}", one_line(wanted, 60), fmt::join(names, ", "));
}

class Buffer {
 public:
  Buffer(const OpenCl& cl, cl_context context, uint64_t bytes) : bytes_(bytes), handle_(nullptr, cl.release_buffer) {
    cl_int code = CL_SUCCESS;
    handle_.reset(cl.create_buffer(context, CL_MEM_READ_WRITE, bytes, nullptr, &code));
    check(code, "allocate memory");
  }
  cl_mem id() const { return handle_.get(); }
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t bytes_;
  Handle<cl_mem> handle_;
};

/// A stretch of the shared memory as it is on the device.
struct Mirror {
  MemoryRange range;
  std::unique_ptr<Buffer> buffer;
};

std::string build_options(const DeviceVariant& variant) {
  static const std::regex plain(R"([\w.+=-]+)");
  std::string text = "-cl-std=CL1.2";
  for (const std::string& option : variant.options) text += " " + option;
  for (const std::string& macro : variant.macros) {
    if (!std::regex_match(macro, plain)) throw CompileError("{} is no value for a macro", one_line(macro, 60));
    text += " -D" + macro;
  }
  return text;
}

class OpenClRunner : public Runner {
 public:
  OpenClRunner(const RunnerMemory& memory, DeviceVariant variant)
      : memory_(memory),
        control_(memory.control()),
        variant_(std::move(variant)),
        device_(chosen_device(cl_)),
        context_(nullptr, cl_.release_context),
        queue_(nullptr, cl_.release_queue),
        program_(nullptr, cl_.release_program),
        kernel_(nullptr, cl_.release_kernel),
        pack_(nullptr, cl_.release_kernel) {
    cl_int code = CL_SUCCESS;
    const cl_context_properties on_platform[] = {CL_CONTEXT_PLATFORM,
                                                 reinterpret_cast<cl_context_properties>(device_.platform), 0};
    context_.reset(cl_.create_context(on_platform, 1, &device_.id, nullptr, nullptr, &code));
    check(code, "be opened");
    queue_.reset(cl_.create_queue(context_.get(), device_.id, 0, &code));
    check(code, "be given work");
    std::strncpy(control_.device, device_.name.c_str(), sizeof control_.device - 1);
  }

  /// Throws CompileError with the compiler's messages.
  void build() {
    const char* texts[] = {variant_.prelude.c_str(), "\n#line 1 \"opencl.cl\"\n", variant_.source.c_str()};
    cl_int code = CL_SUCCESS;
    program_.reset(cl_.create_program(context_.get(), 3, texts, nullptr, &code));
    check(code, "take a source");
    if (cl_.build_program(program_.get(), 1, &device_.id, build_options(variant_).c_str(), nullptr, nullptr) !=
        CL_SUCCESS)
      throw CompileError("{}", build_messages(build_log()));
    kernel_.reset(cl_.create_kernel(program_.get(), "haqa_kernel", &code));
    if (code != CL_SUCCESS)
      throw CompileError("it has no kernel haqa_kernel; keep the entry point as kernels/README.md has it");
    pack_.reset(cl_.create_kernel(program_.get(), "haqa_pack", &code));
  }

  void prepare() override {
    check_arguments();
    shape_ = device_shape(control_);
    geometry_ = geometry_of(variant_, control_);
    check_work_group();
    set_constant_arguments();
    weights_.clear();
    if (control_.has_weights) upload_weights();
  }

  void load() override {
    if (control_.launches == 0) return;
    for (uint32_t i = control_.has_weights ? 1 : 0; i < control_.inputs; ++i)
      upload(inputs_[i], input_range(control_, i), memory_.inputs());
    upload(output_, output_range(control_), memory_.outputs());
    check(cl_.finish(queue_.get()), "take its inputs");
  }

  void run() override {
    for (uint32_t l = 0; l < control_.launches; ++l) enqueue(control_.places[l]);
    check(cl_.finish(queue_.get()), "do the launches");
  }

  void fetch() override {
    if (control_.launches == 0) return;
    check(cl_.read_buffer(queue_.get(), output_.buffer->id(), CL_TRUE, 0, output_.range.bytes,
                          memory_.outputs() + output_.range.from, 0, nullptr, nullptr),
          "hand back its outputs");
  }

 private:
  std::string build_log() const {
    size_t size = 0;
    cl_.build_info(program_.get(), device_.id, CL_PROGRAM_BUILD_LOG, 0, nullptr, &size);
    std::string log(size, '\0');
    cl_.build_info(program_.get(), device_.id, CL_PROGRAM_BUILD_LOG, size, log.data(), nullptr);
    return log.substr(0, log.find('\0'));
  }

  /// Buffers of the inputs and of the output, the shape, the scalars.
  void check_arguments() const {
    cl_uint count = 0;
    check(cl_.kernel_info(kernel_.get(), CL_KERNEL_NUM_ARGS, sizeof count, &count, nullptr), "describe haqa_kernel");
    const uint32_t wanted = control_.inputs + 2 + control_.scalars;
    if (count != wanted)
      throw Error("haqa_kernel has {} arguments, not {}: {} inputs, the output, haqa_shape, and {} scalars", count,
                  wanted, control_.inputs, control_.scalars);
  }

  void check_work_group() const {
    size_t most = 0;
    check(cl_.work_group_info(kernel_.get(), device_.id, CL_KERNEL_WORK_GROUP_SIZE, sizeof most, &most, nullptr),
          "describe haqa_kernel");
    if (geometry_.block_items() > most)
      throw Error("a work-group of {} items is more than the {} that this device can have of this kernel",
                  geometry_.block_items(), most);
  }

  void set_constant_arguments() {
    for (uint32_t i = 0; i < control_.scalars; ++i)
      check(cl_.set_argument(kernel_.get(), control_.inputs + 2 + i, sizeof(float), &control_.scalar[i]),
            "take a scalar");
  }

  void upload_weights() {
    const auto bytes = static_cast<uint64_t>(control_.in[0].bytes());
    std::vector<std::byte> packed(pack_ ? bytes : 0);
    for (uint32_t i = 0; i < control_.copies; ++i) {
      if (pack_) pack(memory_.weights(i), packed);
      weights_.push_back(std::make_unique<Buffer>(cl_, context_.get(), bytes));
      write(*weights_.back(), pack_ ? packed.data() : memory_.weights(i), bytes);
      check(cl_.finish(queue_.get()), "take its weights");
    }
    control_.packed_bytes = bytes;
  }

  /// Has the variant lay the weights out anew, by one work-item a row.
  void pack(const std::byte* raw, std::vector<std::byte>& packed) {
    const Buffer from(cl_, context_.get(), packed.size()), to(cl_, context_.get(), packed.size());
    write(from, raw, packed.size());
    const cl_mem ids[] = {from.id(), to.id()};
    const auto rows = static_cast<size_t>(control_.in[0].rows());
    for (cl_uint i = 0; i < 2; ++i) check(cl_.set_argument(pack_.get(), i, sizeof(cl_mem), &ids[i]), "pack weights");
    check(cl_.set_argument(pack_.get(), 2, sizeof shape_, &shape_), "pack weights");
    check(cl_.launch(queue_.get(), pack_.get(), 1, nullptr, &rows, nullptr, 0, nullptr, nullptr), "pack weights");
    check(cl_.read_buffer(queue_.get(), to.id(), CL_TRUE, 0, packed.size(), packed.data(), 0, nullptr, nullptr),
          "pack weights");
  }

  void write(const Buffer& buffer, const std::byte* from, uint64_t bytes) {
    check(cl_.write_buffer(queue_.get(), buffer.id(), CL_FALSE, 0, bytes, from, 0, nullptr, nullptr), "take data");
  }

  void upload(Mirror& mirror, const MemoryRange& range, const std::byte* memory) {
    if (!mirror.buffer || mirror.buffer->bytes() < range.bytes) {
      mirror.buffer.reset();
      mirror.buffer = std::make_unique<Buffer>(cl_, context_.get(), range.bytes);
    }
    mirror.range = range;
    write(*mirror.buffer, memory + range.from, range.bytes);
  }

  void enqueue(const LaunchPlace& place) {
    for (uint32_t i = 0; i < control_.inputs; ++i) {
      const bool is_weights = i == 0 && control_.has_weights;
      const cl_mem id = is_weights ? weights_.at(place.copy)->id() : inputs_[i].buffer->id();
      shape_.in[i].offset = is_weights ? 0 : static_cast<uint32_t>(place.in[i] - inputs_[i].range.from);
      check(cl_.set_argument(kernel_.get(), i, sizeof id, &id), "take an input");
    }
    const cl_mem out = output_.buffer->id();
    shape_.out.offset = static_cast<uint32_t>(place.out - output_.range.from);
    check(cl_.set_argument(kernel_.get(), control_.inputs, sizeof out, &out), "take its output");
    check(cl_.set_argument(kernel_.get(), control_.inputs + 1, sizeof shape_, &shape_), "take a haqa_shape");
    check(cl_.launch(queue_.get(), kernel_.get(), 3, nullptr, geometry_.global, geometry_.block, 0, nullptr, nullptr),
          "start a launch");
  }

  const RunnerMemory& memory_;
  Control& control_;
  const DeviceVariant variant_;
  const OpenCl cl_;
  const Device device_;
  Handle<cl_context> context_;
  Handle<cl_command_queue> queue_;
  Handle<cl_program> program_;
  Handle<cl_kernel> kernel_, pack_;
  DeviceShape shape_;
  Geometry geometry_;
  std::vector<std::unique_ptr<Buffer>> weights_;
  Mirror inputs_[3], output_;
};

/// PoCL runs on the processor: by as many threads as llama.cpp beside it, with its cache of programs beside ours.
void set_up_pocl(int threads) {
  setenv("POCL_MAX_PTHREAD_COUNT", std::to_string(threads).c_str(), 0);
  setenv("POCL_CACHE_DIR", (cache_folder() / "pocl").c_str(), 0);
}

}  // namespace

void run_opencl_variant(const RunnerArguments& arguments, const std::filesystem::path& file) {
  set_up_pocl(arguments.threads);
  serve_device(arguments, [&](const RunnerMemory& memory) {
    auto runner = std::make_unique<OpenClRunner>(memory, read_device_variant(file));
    runner->build();
    return runner;
  });
}

std::string opencl_device_name() {
  const OpenCl cl;
  return chosen_device(cl).name;
}

}  // namespace haqa
