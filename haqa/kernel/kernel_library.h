#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernel.h"

namespace haqa {

/// The functions of a compiled kernel (kernels/kernel.h). Those of packing are null where it takes weights as they are.
struct KernelFunctions {
  decltype(&haqa_kernel) compute = nullptr;
  decltype(&haqa_packed_bytes) packed_bytes = nullptr;
  decltype(&haqa_pack) pack = nullptr;
  decltype(&haqa_pack_rows) pack_rows = nullptr;
  decltype(&haqa_unpack) unpack = nullptr;
  explicit operator bool() const { return compute != nullptr; }
  bool can_pack() const { return packed_bytes && pack; }
  /// By several threads, and undone.
  bool can_pack_for_host() const { return packed_bytes && pack_rows && unpack; }
};

/// Opens a compiled kernel, for as long as the process lives; none of its code runs (compiler.h, runs_when_loaded()).
/// Nothing where it is no kernel; `why` says so then. name: "matvec-Q4_0", where only a kernel will do that says of
/// itself that it is this one, by the interface of kernels/kernel.h.
KernelFunctions open_kernel(const std::filesystem::path& file, std::string& why, std::string_view name = {});

/// The compiled default variants of a kernel in `folder`, KERNEL-TYPE-LEVEL.so, that this processor can run, best
/// first.
std::vector<std::filesystem::path> default_variants(const std::filesystem::path& folder, std::string_view kernel,
                                                    std::string_view type);

}  // namespace haqa
