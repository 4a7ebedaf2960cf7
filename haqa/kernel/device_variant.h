#pragma once
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "haqa/kernel/compiler.h"
#include "haqa/kernel/kernel_spec.h"
#include "haqa/kernel/protocol.h"

namespace haqa {

/// A variant of a kernel for a device, as the worker hands it to the process that builds and runs it: a file of JSON.
struct DeviceVariant {
  std::string prelude;  ///< what stands before the source: types and helpers
  std::string source;
  std::vector<std::string> macros;   ///< "NAME=value"
  std::vector<std::string> options;  ///< of the compiler
  Configuration parameters;
  std::vector<std::vector<std::string>> sizes;  ///< of each argument, as the specification has them
  std::vector<std::string> problem_size, block;
};

/// Work-items of a launch, or threads.
struct Geometry {
  size_t global[3] = {1, 1, 1};  ///< whole blocks
  size_t block[3] = {1, 1, 1};   ///< of a work-group
  size_t block_items() const { return block[0] * block[1] * block[2]; }
};

DeviceVariant device_variant(const KernelSpec& spec, const KernelEngine& engine, const SourceVariant& variant,
                             const std::string& prelude);
void write_device_variant(const DeviceVariant& variant, const std::filesystem::path& file);
DeviceVariant read_device_variant(const std::filesystem::path& file);

/// Of a launch on the tensors that the judge handed over. Throws Error where an expression gives no whole number of at
/// least 1.
Geometry geometry_of(const DeviceVariant& variant, const Control& control);

/// How tensors are described to kernels on devices, by value; kernels/opencl.h has the same.
struct DeviceTensor {
  int32_t ne[3] = {1, 1, 1};
  int32_t nb[3] = {0, 0, 0};  ///< strides in bytes
  uint32_t offset = 0;        ///< of its first byte in the buffer
};
struct DeviceShape {
  DeviceTensor in[3], out;
};
/// All but the offsets. Throws Error where a number does not fit.
DeviceShape device_shape(const Control& control);

/// A part of the shared memory that a batch of launches reads or writes, from a multiple of 4096 bytes, so that what is
/// aligned there is aligned on the device too.
struct MemoryRange {
  uint64_t from = 0, bytes = 0;
};
/// Of input `i`. There must be launches.
MemoryRange input_range(const Control& control, uint32_t i);
/// Of the outputs, their margins included.
MemoryRange output_range(const Control& control);

/// What a compiler on a device said, as the source's author can use it: without folders, the first of it.
std::string build_messages(const std::string& log);

}  // namespace haqa
