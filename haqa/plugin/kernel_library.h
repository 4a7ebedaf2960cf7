#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/kernel.h"

namespace haqa {

/// The functions of a compiled kernel (kernels/kernel.h). Those of packing are null where it takes weights as they are.
struct KernelFunctions {
  decltype(&haqa_kernel) compute = nullptr;
  decltype(&haqa_packed_bytes) packed_bytes = nullptr;
  decltype(&haqa_pack_rows) pack_rows = nullptr;
  decltype(&haqa_unpack) unpack = nullptr;
  explicit operator bool() const { return compute != nullptr; }
  bool can_pack() const { return packed_bytes && pack_rows && unpack; }
};

/// The folder that this module stands in.
std::filesystem::path module_folder();

/// Opens a compiled kernel, for as long as the process lives. Nothing where it is no kernel; `why` says so then.
KernelFunctions open_kernel(const std::filesystem::path& file, std::string& why);

/// The default variant of a kernel that ships with the module, for the best instruction set that this processor has:
/// FOLDER/KERNEL-TYPE-LEVEL.so. Nothing where there is none.
KernelFunctions open_default_kernel(const std::filesystem::path& folder, std::string_view kernel,
                                    std::string_view type);

}  // namespace haqa
